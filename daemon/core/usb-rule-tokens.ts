import { showText, unquoteText } from "./usb-rule-text.ts";

/** What is wrong with a rules file, where, and what would be right. Lines and columns count from 1, in UTF-16 units. */
export type UsbProblem = {
  readonly line: number;
  readonly column: number;
  readonly message: string;
  readonly hint: string;
};

/** `column` is where it begins, `end` the column after it. A text is without its quotes and escapes. */
export type UsbToken = {
  readonly kind: "word" | "text" | "{" | "}" | "(" | ")" | "!" | "end";
  readonly text: string;
  readonly column: number;
  readonly end: number;
};

const SIGNS = ["{", "}", "(", ")", "!"] as const;
const WORD = /[^ \t"{}()!#]+/y;
const BLANKS = /[ \t]*/y;

/**
 * The tokens of one line, up to its end or its comment; the last one is always "end". A text with a problem is a token
 * all the same, so that what follows it is read too.
 */
export function tokensOfLine(
  source: string,
  line: number,
): { readonly tokens: readonly UsbToken[]; readonly problems: readonly UsbProblem[] } {
  const tokens: UsbToken[] = [];
  const problems: UsbProblem[] = [];
  const problem = (at: number, message: string, hint: string) =>
    problems.push({ line, column: at + 1, message, hint });
  let at = endOf(BLANKS, source, 0);
  while (at < source.length && source[at] !== "#") {
    const start = at;
    const sign = SIGNS.find((one) => one === source[start]);
    if (sign !== undefined) {
      at = start + 1;
      tokens.push({ kind: sign, text: sign, column: start + 1, end: at + 1 });
    } else if (source[start] === '"') {
      const read = unquoteText(source, start);
      at = read.end;
      if (!read.ok) problem(read.at, read.message, read.hint);
      tokens.push({ kind: "text", text: read.ok ? read.text : "", column: start + 1, end: at + 1 });
    } else {
      at = endOf(WORD, source, start);
      tokens.push({ kind: "word", text: source.slice(start, at), column: start + 1, end: at + 1 });
    }
    const before = tokens.at(-2);
    const token = tokens.at(-1);
    if (before && token && runTogether(before, token)) {
      problem(
        start,
        `a blank is missing before \`${showText(source.slice(start, at))}\``,
        "put a blank between the two",
      );
    }
    at = endOf(BLANKS, source, at);
  }
  tokens.push({ kind: "end", text: "", column: at + 1, end: at + 1 });
  return { tokens, problems };
}

/** Signs need no blanks about them; `name"x"`, `"a""b"` and `}name` are refused, as they are by USBGuard. */
function runTogether(before: UsbToken, token: UsbToken): boolean {
  const ends = before.kind === "word" || before.kind === "text" || before.kind === "}" || before.kind === ")";
  return ends && before.end === token.column && (token.kind === "word" || token.kind === "text");
}

function endOf(pattern: RegExp, source: string, from: number): number {
  pattern.lastIndex = from;
  return pattern.test(source) ? pattern.lastIndex : from + 1;
}
