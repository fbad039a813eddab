/**
 * A text as its reader takes it: what is invisible is left out, letters that look alike by Unicode's own tables are the
 * ASCII ones, escapes are what they stand for. `starts` and `ends` say for each character where it came from.
 */
export type PlainText = {
  readonly text: string;
  /** Offset in the original, for each UTF-16 unit of `text`, and where that unit's original ends. */
  readonly starts: ArrayLike<number>;
  readonly ends: ArrayLike<number>;
};

// A line break with the blanks around it; a backslash escape; a percent escape; anything that is not printable ASCII.
// Bounded: a text of nothing but blanks or backslashes is read once.
const SPECIAL =
  /[ \t]{0,80}[\r\n\u2028\u2029][ \t\r\n]{0,80}|\\{1,8}u[0-9A-Fa-f]{4}|\\{1,8}[nr]|%[2-7][0-9A-Fa-f]|[^ -~\t]/gu;
const NEEDS_WORK = /[^ -~]|[\\%]/;

/**
 * NFKD without marks, format and control characters; line breaks become one "\n", those written as escapes "\v", so that
 * both can be told apart from the text; \u0041 and %41 become "A". Homoglyphs of other alphabets stay what they are.
 */
export function toPlainText(original: string): PlainText {
  if (!NEEDS_WORK.test(original)) return identity(original);
  const parts: string[] = [];
  const starts: number[] = [];
  const ends: number[] = [];
  let at = 0;
  const copyUntil = (end: number) => {
    parts.push(original.slice(at, end));
    for (; at < end; at++) {
      starts.push(at);
      ends.push(at + 1);
    }
  };
  for (const hit of original.matchAll(SPECIAL)) {
    copyUntil(hit.index);
    at = hit.index + hit[0].length;
    const meant = meaningOf(hit[0]);
    parts.push(meant);
    for (let i = 0; i < meant.length; i++) {
      starts.push(hit.index);
      ends.push(at);
    }
  }
  copyUntil(original.length);
  return { text: parts.join(""), starts, ends };
}

function identity(text: string): PlainText {
  const starts = Uint32Array.from({ length: text.length }, (_, index) => index);
  return { text, starts, ends: starts.map((start) => start + 1) };
}

function meaningOf(special: string): string {
  if (/[\r\n\u2028\u2029]/.test(special)) return "\n";
  const hex = /^(?:\\+u|%)([0-9A-Fa-f]{2,4})$/.exec(special)?.[1];
  if (hex !== undefined) return asciiOr(String.fromCharCode(Number.parseInt(hex, 16)), special);
  if (special.startsWith("\\")) return "\v";
  return special.normalize("NFKD").replace(/[\p{Cc}\p{Cf}\p{Cs}\p{M}]/gu, "");
}

/** A blank that was written as an escape ends no word: it was written so to be part of one. */
function asciiOr(meant: string, written: string): string {
  if (meant === "\n" || meant === "\r") return "\v";
  return /^[!-~]$/.test(meant) ? meant : written;
}
