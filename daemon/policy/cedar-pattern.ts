import type { PatternPart } from "./cedar-json.ts";

/**
 * Cedar's `like`: null stands for any text. Works on UTF-16 units; both sides are well-formed, so a part is never found
 * in the middle of a character. The first place of each part will do, so the time grows with the text's length
 * times the pattern's at worst.
 */
export function compilePattern(pattern: readonly PatternPart[]): (text: string) => boolean {
  const parts = [""];
  for (const part of pattern) {
    if (part === null) parts.push("");
    else parts.push((parts.pop() ?? "") + part);
  }
  const [first = "", ...others] = parts;
  const last = others.pop();
  if (last === undefined) return (text) => text === first;
  const middle = others.filter((part) => part !== "");
  return (text) => {
    if (!text.startsWith(first) || !text.endsWith(last)) return false;
    let at = first.length;
    for (const part of middle) {
      const found = text.indexOf(part, at);
      if (found < 0) return false;
      at = found + part.length;
    }
    return at <= text.length - last.length;
  };
}
