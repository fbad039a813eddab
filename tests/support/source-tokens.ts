/**
 * Splits TypeScript into words, strings and punctuation, leaving comments out: enough to see what a file imports and
 * calls. The text of strings and regular expressions is never taken for code; the code inside `${}` is.
 */
export type Token = {
  readonly kind: "word" | "string" | "punct";
  readonly text: string;
  readonly line: number;
};

const WORD = /[\p{L}\p{N}_$#]+/uy;
// after these words a "/" begins a regular expression, not a division
const BEFORE_REGEX = new Set([
  "return",
  "typeof",
  "case",
  "in",
  "of",
  "do",
  "else",
  "void",
  "yield",
  "await",
]);

export function tokensOf(source: string): readonly Token[] {
  const tokens: Token[] = [];
  // one entry for each open brace: "code" for a plain one, "template" for the one of `${`
  const braces: ("code" | "template")[] = [];
  let at = 0;
  let line = 1;

  function push(kind: Token["kind"], text: string): void {
    tokens.push({ kind, text, line });
  }
  /** Moves to `end`, counting lines. */
  function advance(end: number): string {
    const text = source.slice(at, end);
    line += text.split("\n").length - 1;
    at = end;
    return text;
  }
  /** From inside a template: to its end, or to the next `${`. */
  function template(): void {
    const end = endOfTemplatePart(source, at);
    push("string", source.slice(at, end));
    advance(end);
    if (source.startsWith("${", at)) {
      braces.push("template");
      advance(at + 2);
    } else {
      advance(at + 1);
    }
  }

  while (at < source.length) {
    const char = source[at] ?? "";
    WORD.lastIndex = at;
    if (/\s/.test(char)) advance(at + 1);
    else if (source.startsWith("//", at)) advance(endOr(source, source.indexOf("\n", at)));
    else if (source.startsWith("/*", at)) advance(endOr(source, source.indexOf("*/", at + 2) + 2));
    else if (char === '"' || char === "'") {
      const end = endOfQuoted(source, at + 1, char);
      push("string", source.slice(at + 1, end - 1));
      advance(end);
    } else if (char === "`") {
      advance(at + 1);
      template();
    } else if (char === "}" && braces.pop() === "template") {
      advance(at + 1);
      template();
    } else if (char === "/" && beginsRegex(tokens.at(-1))) {
      push("string", advance(endOfRegex(source, at + 1)));
    } else if (WORD.test(source)) {
      push("word", source.slice(at, WORD.lastIndex));
      at = WORD.lastIndex;
    } else {
      if (char === "{") braces.push("code");
      push("punct", advance(at + 1));
    }
  }
  return tokens;
}

function endOr(source: string, index: number): number {
  return index <= 1 ? source.length : index;
}

function endOfQuoted(source: string, from: number, quote: string): number {
  let at = from;
  while (at < source.length && source[at] !== quote && source[at] !== "\n") at += source[at] === "\\" ? 2 : 1;
  return at + 1;
}

function endOfTemplatePart(source: string, from: number): number {
  let at = from;
  while (at < source.length && source[at] !== "`" && !source.startsWith("${", at)) {
    at += source[at] === "\\" ? 2 : 1;
  }
  return at;
}

function endOfRegex(source: string, from: number): number {
  let inClass = false;
  for (let at = from; at < source.length && source[at] !== "\n"; at++) {
    const char = source[at];
    if (char === "\\") at++;
    else if (char === "[") inClass = true;
    else if (char === "]") inClass = false;
    else if (char === "/" && !inClass) return at + 1;
  }
  return source.length;
}

function beginsRegex(before: Token | undefined): boolean {
  if (before === undefined) return true;
  if (before.kind === "word") return BEFORE_REGEX.has(before.text);
  return before.kind === "punct" && ![")", "]", "}"].includes(before.text);
}
