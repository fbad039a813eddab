import type { Value } from "./record.ts";

/**
 * Reads text that is exactly what renderCanonical gives, and nothing else: one pass, no second form of anything, so
 * no duplicate keys, no spaces, no escape where none is needed. Null for all other text; who wants to know why asks
 * parseStrictJson. (Faster than JSON.parse and rendering again to compare, which is the same thing said twice.)
 */
export function readCanonical(text: string, maxDepth: number): Value | null {
  const cursor: Cursor = { text, at: 0, depth: 0, maxDepth };
  const value = readValue(cursor);
  return cursor.at === text.length ? value : null;
}

/** Where reading has come to; the functions below take a part and move on, or answer null. */
export type Cursor = { readonly text: string; at: number; depth: number; readonly maxDepth: number };

const QUOTE = 0x22;
const COMMA = 0x2c;
const MINUS = 0x2d;
const ZERO = 0x30;
const NINE = 0x39;
const COLON = 0x3a;
const OPEN_ARRAY = 0x5b;
const BACKSLASH = 0x5c;
const CLOSE_ARRAY = 0x5d;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;

/** Any value that a record may hold. */
export function readValue(cursor: Cursor): Value | null {
  const code = cursor.text.charCodeAt(cursor.at);
  if (code === QUOTE) return readString(cursor);
  if (code === OPEN_OBJECT) return nested(cursor, readObject);
  if (code === OPEN_ARRAY) return nested(cursor, readArray);
  return readInteger(cursor);
}

function nested(cursor: Cursor, read: (cursor: Cursor) => Value | null): Value | null {
  if (cursor.depth === cursor.maxDepth) return null;
  cursor.depth++;
  const value = read(cursor);
  cursor.depth--;
  return value;
}

function readObject(cursor: Cursor): Value | null {
  const { text } = cursor;
  const object: Record<string, Value> = {};
  if (text.charCodeAt(++cursor.at) === CLOSE_OBJECT) return closed(cursor, object);
  let before: string | null = null;
  for (;;) {
    const key = readString(cursor);
    // Rising keys are canonical order, and cannot repeat.
    if (key === null || (before !== null && key <= before)) return null;
    if (text.charCodeAt(cursor.at++) !== COLON) return null;
    const value = readValue(cursor);
    if (value === null) return null;
    setOwn(object, key, value);
    before = key;
    const next = text.charCodeAt(cursor.at);
    if (next === CLOSE_OBJECT) return closed(cursor, object);
    if (next !== COMMA) return null;
    cursor.at++;
  }
}

function readArray(cursor: Cursor): Value | null {
  const { text } = cursor;
  const items: Value[] = [];
  if (text.charCodeAt(++cursor.at) === CLOSE_ARRAY) return closed(cursor, items);
  for (;;) {
    const item = readValue(cursor);
    if (item === null) return null;
    items.push(item);
    const next = text.charCodeAt(cursor.at);
    if (next === CLOSE_ARRAY) return closed(cursor, items);
    if (next !== COMMA) return null;
    cursor.at++;
  }
}

function closed(cursor: Cursor, value: Value): Value {
  cursor.at++;
  return value;
}

/** Assigning to "__proto__" would set the prototype instead of a property. */
function setOwn(object: Record<string, Value>, key: string, value: Value): void {
  if (key !== "__proto__") object[key] = value;
  else Object.defineProperty(object, key, { value, enumerable: true, configurable: true, writable: true });
}

/** A string, with its quotes. */
export function readString(cursor: Cursor): string | null {
  const { text } = cursor;
  const start = cursor.at + 1;
  if (text.charCodeAt(cursor.at) !== QUOTE) return null;
  for (let i = start; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code === QUOTE) {
      cursor.at = i + 1;
      return text.slice(start, i);
    }
    if (code < 0x20 || code === BACKSLASH || (code >= 0xd800 && code <= 0xdfff))
      return readCareful(cursor, i);
  }
  return null;
}

/** A string with escapes or surrogates: canonical when rendering it gives the same token. */
function readCareful(cursor: Cursor, from: number): string | null {
  const { text, at } = cursor;
  let end = from;
  while (end < text.length && text.charCodeAt(end) !== QUOTE)
    end += text.charCodeAt(end) === BACKSLASH ? 2 : 1;
  const token = text.slice(at, end + 1);
  try {
    const value: unknown = JSON.parse(token);
    if (typeof value !== "string" || !value.isWellFormed() || JSON.stringify(value) !== token) return null;
    cursor.at = end + 1;
    return value;
  } catch {
    return null;
  }
}

/** A safe integer. */
export function readInteger(cursor: Cursor): number | null {
  const { text } = cursor;
  const start = cursor.at;
  const digits = text.charCodeAt(start) === MINUS ? start + 1 : start;
  let end = digits;
  while (end - digits < 17 && text.charCodeAt(end) >= ZERO && text.charCodeAt(end) <= NINE) end++;
  const value = Number(text.slice(start, end));
  const plain = text.charCodeAt(digits) !== ZERO || (end === digits + 1 && digits === start);
  if (end === digits || !plain || !Number.isSafeInteger(value)) return null;
  cursor.at = end;
  return value;
}
