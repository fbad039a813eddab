/**
 * Texts in rules, as USBGuard writes them: between double quotes, with `\"`, `\\` and `\xHH` for one byte. What is not
 * printable ASCII is written as the bytes of its UTF-8, so a device's name can put nothing into a file or a terminal.
 */

const LONGEST_SHOWN = 200;

/** A text with its quotes, as a rule has it. `also`: a character that has to be written as a byte besides. */
export function quoteText(text: string, also: ")" | null = null): string {
  const bytes = new TextEncoder().encode(text);
  const written = Array.from(bytes, (byte) => {
    const character = String.fromCharCode(byte);
    if (character === '"' || character === "\\") return `\\${character}`;
    return byte < 0x20 || byte > 0x7e || character === also ? hexOf(byte) : character;
  });
  return `"${written.join("")}"`;
}

export type Unquoted =
  | { readonly ok: true; readonly text: string; readonly end: number }
  /** `at`: where in the line the problem stands; `end`: where reading can go on. */
  | {
      readonly ok: false;
      readonly at: number;
      readonly end: number;
      readonly message: string;
      readonly hint: string;
    };

/** Reads the text that begins with the quote at `start` of a line. */
export function unquoteText(line: string, start: number): Unquoted {
  const end = closingQuote(line, start + 1);
  if (end === null) {
    return {
      ok: false,
      at: start,
      end: line.length,
      message: "this text does not end",
      hint: 'put a `"` after it',
    };
  }
  const refuse = (at: number, message: string, hint: string): Unquoted => ({
    ok: false,
    at,
    end: end + 1,
    message,
    hint,
  });
  const bytes: Uint8Array[] = [];
  for (let at = start + 1; at < end; ) {
    const escaped = line[at] === "\\";
    const next = escaped ? escapeEnd(line, at, end) : plainEnd(line, at, end);
    if (next === null) {
      return refuse(at, "unknown escape", 'write `\\"`, `\\\\`, or `\\xHH` for any other byte');
    }
    const piece = line.slice(at, next);
    bytes.push(escaped ? bytesOfEscape(piece) : new TextEncoder().encode(piece));
    at = next;
  }
  const text = decode(bytes);
  if (text === null || !line.slice(start, end).isWellFormed()) {
    return refuse(
      start,
      "these bytes are not UTF-8",
      "the kernel gives names and serials in UTF-8: check the bytes",
    );
  }
  return { ok: true, text, end: end + 1 };
}

/** Some text of a file in a message: short, and harmless for a terminal. */
export function showText(text: string): string {
  const short = text.length > 60 ? `${text.slice(0, 60)}…` : text;
  return short.replaceAll(/[^ -~…]/gu, "?");
}

/** The beginning of a text that may be long, for a message. */
export function clipText(text: string): string {
  return text.length > LONGEST_SHOWN ? `${text.slice(0, LONGEST_SHOWN)}…` : text;
}

function closingQuote(line: string, from: number): number | null {
  for (let at = from; at < line.length; at++) {
    if (line[at] === '"') return at;
    if (line[at] === "\\") at++;
  }
  return null;
}

function plainEnd(line: string, from: number, end: number): number {
  const backslash = line.indexOf("\\", from);
  return backslash === -1 ? end : Math.min(backslash, end);
}

function escapeEnd(line: string, at: number, end: number): number | null {
  const length = /^\\(?:["\\]|x[0-9A-Fa-f]{2})/.exec(line.slice(at, Math.min(at + 4, end)))?.[0].length;
  return length === undefined ? null : at + length;
}

function bytesOfEscape(piece: string): Uint8Array {
  return piece[1] === "x"
    ? Uint8Array.of(Number.parseInt(piece.slice(2), 16))
    : new TextEncoder().encode(piece.slice(1));
}

function decode(pieces: readonly Uint8Array[]): string | null {
  const all = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    all.set(piece, at);
    at += piece.length;
  }
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(all);
  } catch {
    return null;
  }
}

function hexOf(byte: number): string {
  return `\\x${byte.toString(16).padStart(2, "0")}`;
}
