import type { UsbProblem, UsbToken } from "./usb-rule-tokens.ts";

/** Walks over the tokens of a line and gathers what is wrong with it. */
export type Cursor = {
  /** The token that is `ahead` of the next one; the end of the line for ever after it. */
  readonly peek: (ahead?: number) => UsbToken;
  readonly take: () => UsbToken;
  readonly refuse: (at: { readonly column: number }, message: string, hint: string) => void;
  /** Goes on at the next of these words or signs, or at the end: one mistake is told once. */
  readonly skipTo: (stops: readonly string[]) => void;
  readonly problems: () => readonly UsbProblem[];
};

/** A cursor at the first token. `before`: problems that are known already. */
export function cursorOver(tokens: readonly UsbToken[], line: number, before: readonly UsbProblem[]): Cursor {
  const problems = [...before];
  let at = 0;
  const last = tokens.length - 1;
  const peek = (ahead = 0): UsbToken => {
    const token = tokens[Math.min(at + ahead, last)];
    if (token === undefined) throw new RangeError("a line without an end token"); // tokensOfLine always gives one
    return token;
  };
  return {
    peek,
    take: () => {
      const token = peek();
      at = Math.min(at + 1, last);
      return token;
    },
    refuse: ({ column }, message, hint) => {
      problems.push({ line, column, message, hint });
    },
    skipTo: (stops) => {
      while (peek().kind !== "end" && (peek().kind === "text" || !stops.includes(peek().text))) at++;
    },
    problems: () => problems.toSorted((a, b) => a.column - b.column),
  };
}
