import { toPlainText } from "../core/plain-text.ts";
import { findPrivateKeys } from "../core/private-key-text.ts";
import { findEncoded } from "../core/redact.ts";
import { findAssigned, findCredentials } from "../core/secret-assignments.ts";
import { checksumOf } from "../core/secret-checksum.ts";
import { looksRandom } from "../core/secret-entropy.ts";
import { mayHoldSecret } from "../core/secret-hint.ts";
import { type Found, findShapes } from "../core/secret-shapes.ts";

/** A secret in what a command would be given: the rule that found it, and where. Never the secret. */
export type Find = { readonly rule: string; readonly place: string };

/** What is looked at in one step, and what of it is looked at again with the next: more than any rule needs to begin. */
export const WINDOW = 16_384;
export const OVERLAP = 2_048;
const MAX_FINDS = 8;

/**
 * Looks for secrets in a text that is not a command's words: stdin, a file. In windows that overlap, one a step: so the
 * time grows with the length alone, and whoever takes the steps can stop, or let others go first.
 *
 * It is the search that redacts our own records (core/redact.ts), with less of a bias: a redaction may take a word too many,
 * here that would keep a command from running. So a form with a checksum that does not hold is none, and what is
 * given to a name like "password" has to look random.
 */
export function* scanText(text: string, place: string): Generator<undefined, readonly Find[], void> {
  const finds = new Map<string, Find>();
  for (let from = 0; ; from += WINDOW - OVERLAP) {
    const window = text.slice(from, from + WINDOW);
    for (const { start, kind } of mayHoldSecret(window) ? findIn(window) : []) {
      const find = { rule: kind, place: `${place}, line ${lineAt(text, from + start)}` };
      if (finds.size < MAX_FINDS) finds.set(`${find.rule} ${find.place}`, find);
    }
    if (from + WINDOW >= text.length) return [...finds.values()];
    yield undefined;
  }
}

function findIn(window: string): readonly Found[] {
  const plain = toPlainText(window);
  const textOf = ({ start, end }: Found) => plain.text.slice(start, end);
  return [
    ...findPrivateKeys(plain.text),
    ...findShapes(plain.text).filter((one) => checksumOf(textOf(one).replace(/[\n\v]/g, "")) !== "fails"),
    ...findCredentials(plain.text).filter((one) => looksRandom(trimmed(textOf(one)))),
    ...findAssigned(plain.text).filter((one) => looksRandom(trimmed(textOf(one)))),
    ...findEncoded(plain.text),
  ].map(({ start, end, kind }) => ({ start: plain.starts[start] ?? 0, end, kind }));
}

/** Without what stands around a value in code and in configuration. */
function trimmed(value: string): string {
  return value.replace(/^["'`]+|["'`;,]+$/g, "");
}

function lineAt(text: string, at: number): number {
  let line = 1;
  for (let next = text.indexOf("\n"); next !== -1 && next < at; next = text.indexOf("\n", next + 1)) line++;
  return line;
}
