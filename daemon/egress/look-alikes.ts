import { domainToASCII, domainToUnicode } from "node:url";

export type ReadName =
  | { readonly ok: true; readonly ascii: string }
  | { readonly ok: false; readonly why: string };

/** A label is of one of these rows: letters of several scripts in one label are how a name is made to look like another. */
const SCRIPTS: readonly RegExp[] = [
  "Latin",
  "Cyrillic",
  "Greek",
  "Armenian",
  "Georgian",
  "Hebrew",
  "Arabic",
  "Thai",
  "Devanagari",
  "Bengali",
  "Tamil",
  "Telugu",
  "Gujarati",
  "Kannada",
  "Malayalam",
  "Khmer",
  "Lao",
  "Sinhala",
  "Ethiopic",
].map((script) => labelOf(script));
const EAST_ASIAN: readonly RegExp[] = [
  labelOf("Han", "Hiragana", "Katakana"),
  labelOf("Han", "Hangul"),
  labelOf("Han", "Bopomofo"),
];
/** Cyrillic and Greek letters that pass for Latin ones. A label of these alone is one nobody can tell from a Latin one. */
const LOOKS_LATIN = /^(?:[асԁеһіјӏорԗԛѕԝхуъьҽпгѵѡ0-9-]+|[αγικνοπρτυχω0-9-]+)$/u;
const LETTERS = /^[\p{L}\p{M}\p{N}_.-]+$/u;

/**
 * A name that a person has written into a list, as A-labels. A name that is not ASCII is taken only where it is written
 * as it is shown, each label in one script, and none that looks Latin and is not; whoever means one of those writes the A-label.
 */
export function readName(text: string): ReadName {
  if (/^[\x21-\x7e]+$/.test(text)) return { ok: true, ascii: text };
  if (!LETTERS.test(text)) return { ok: false, why: "a name has letters, digits, dots and dashes" };
  const ascii = domainToASCII(text);
  if (ascii === "") return { ok: false, why: "this is no internationalised name" };
  const shown = domainToUnicode(ascii);
  if (shown !== text.normalize("NFC").toLowerCase())
    return { ok: false, why: `another spelling of ${ascii}: write it so` };
  for (const label of shown.split(".")) {
    if (/^[\x21-\x7e]*$/.test(label)) continue;
    if (![...SCRIPTS, ...EAST_ASIAN].some((script) => script.test(label)))
      return { ok: false, why: `one label has letters of several scripts: write ${ascii} if it is meant` };
    if (LOOKS_LATIN.test(label))
      return { ok: false, why: `it looks like a Latin name and is ${ascii}: write it so if it is meant` };
  }
  return { ok: true, ascii };
}

function labelOf(...scripts: readonly string[]): RegExp {
  const letters = scripts.map((script) => `\\p{Script_Extensions=${script}}`).join("");
  return new RegExp(`^[${letters}\\p{M}0-9_-]+$`, "u");
}
