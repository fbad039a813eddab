/**
 * A look at policy text before Cedar sees it: deep nesting and long chains of operators kill a WebAssembly instance of
 * Cedar for good, so both are counted here, and statements are told apart so that each is given to Cedar by itself and
 * its errors can be placed. Nothing is skipped: the statements and the blanks between them are the whole text.
 */
export type Outline = {
  readonly statements: readonly Span[];
  /** Where it is too deep, and why; null when it is not. */
  readonly fault: { readonly at: number; readonly problem: string } | null;
};

/** A statement with its ";", as offsets of UTF-16 code units. `at` is its first character that is no blank or comment. */
export type Span = {
  readonly start: number;
  readonly end: number;
  readonly at: number;
  /** Of `at`, from 1. */
  readonly line: number;
  readonly column: number;
};

/** Brackets within brackets. 150 nested parentheses kill an instance. */
export const MAX_NESTING = 64;
/** Operators in one policy: a chain of them is a tree as deep. 5,000 kill an instance. */
export const MAX_OPERATORS = 400;
/** Policies in one file. */
const MAX_STATEMENTS = 4_096;

const BLANK = /[\s]/;
const OPERATORS = /^(?:&&|\|\||[-+*.<>=!]|(?:if|in|is|has|like)\b)/;
const WORD = /[A-Za-z0-9_]/;

/** Finds statements (up to a ";" outside brackets, strings and comments) and counts nesting. Linear; never throws. */
export function outline(text: string): Outline {
  const statements: Span[] = [];
  let depth = 0;
  let operators = 0;
  let start = 0;
  let first = -1;
  const place = createPlaces(text);
  const refuse = (at: number, problem: string): Outline => ({ statements, fault: { at, problem } });
  for (let at = 0; at < text.length; at++) {
    const character = text.charAt(at);
    if (BLANK.test(character)) continue;
    if (character === "/" && text.charAt(at + 1) === "/") {
      at = commentEnd(text, at);
      continue;
    }
    if (first === -1) first = at;
    if (character === '"') at = stringEnd(text, at);
    else if ("([{".includes(character)) {
      depth++;
      if (depth > MAX_NESTING) return refuse(at, `nested deeper than ${MAX_NESTING}`);
    } else if (")]}".includes(character)) depth = Math.max(0, depth - 1);
    else if (character === ";" && depth === 0) {
      if (statements.length >= MAX_STATEMENTS) return refuse(at, `more than ${MAX_STATEMENTS} policies`);
      statements.push({ start, end: at + 1, at: first, ...place(first) });
      start = at + 1;
      first = -1;
      operators = 0;
    } else if (isOperator(text, at)) {
      operators++;
      if (operators > MAX_OPERATORS) return refuse(at, `more than ${MAX_OPERATORS} operators in one policy`);
    }
  }
  if (first !== -1) return refuse(first, "no ';' ends this");
  return { statements, fault: null };
}

/** Whether brackets nest deeper than Cedar survives, of text that has no statements (a schema). */
export function nestingFault(text: string): Outline["fault"] {
  let depth = 0;
  for (let at = 0; at < text.length; at++) {
    const character = text.charAt(at);
    if (character === '"') at = stringEnd(text, at);
    else if (character === "/" && text.charAt(at + 1) === "/") at = commentEnd(text, at);
    // a set's type is written with angle brackets
    else if ("([{<".includes(character)) {
      depth++;
      if (depth > MAX_NESTING) return { at, problem: `nested deeper than ${MAX_NESTING}` };
    } else if (")]}>".includes(character)) depth = Math.max(0, depth - 1);
  }
  return null;
}

/** Line and column, from 1, of an offset in UTF-16 code units. */
export function positionOf(text: string, offset: number): { readonly line: number; readonly column: number } {
  const before = text.slice(0, Math.max(0, offset));
  const lineStart = before.lastIndexOf("\n") + 1;
  return { line: before.split("\n").length, column: before.length - lineStart + 1 };
}

/** Places of offsets that only grow: each line end is looked at once, however many places are asked for. */
function createPlaces(text: string): (offset: number) => { readonly line: number; readonly column: number } {
  let line = 1;
  let lineStart = 0;
  let lineEnd = text.indexOf("\n");
  return (offset) => {
    while (lineEnd !== -1 && lineEnd < offset) {
      line++;
      lineStart = lineEnd + 1;
      lineEnd = text.indexOf("\n", lineStart);
    }
    return { line, column: offset - lineStart + 1 };
  };
}

/** The offset in UTF-16 code units of one in UTF-8 bytes, which is how Cedar counts. */
export function unitsOf(text: string, bytes: number): number {
  let seen = 0;
  let units = 0;
  for (const character of text) {
    if (seen >= bytes) break;
    const code = character.codePointAt(0) ?? 0;
    seen += code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x1_0000 ? 3 : 4;
    units += character.length;
  }
  return units;
}

function isOperator(text: string, at: number): boolean {
  const previous = at === 0 ? "" : text.charAt(at - 1);
  const ahead = text.slice(at, at + 5);
  if (!OPERATORS.test(ahead)) return false;
  return !(WORD.test(ahead.charAt(0)) && WORD.test(previous));
}

/** Of the quote that ends the string, or the text's last character. */
function stringEnd(text: string, quote: number): number {
  for (let at = quote + 1; at < text.length; at++) {
    const character = text.charAt(at);
    if (character === "\\") at++;
    else if (character === '"') return at;
  }
  return text.length - 1;
}

/** Of the last character of the line; Cedar ends a comment at a carriage return as well. */
function commentEnd(text: string, from: number): number {
  for (let at = from; at < text.length; at++) {
    const character = text.charAt(at);
    if (character === "\n" || character === "\r") return at;
  }
  return text.length - 1;
}
