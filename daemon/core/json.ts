import { isUtf8 } from "node:buffer";

/**
 * Reading JSON and text from outside. Refusals are values: what a peer or a file may send is never an exception.
 * JSON.parse alone keeps the last of two equal keys, so that two readers can see two different messages.
 */
export type JsonResult =
  | { readonly ok: true; readonly value: unknown }
  | {
      readonly ok: false;
      readonly code: "json-invalid" | "json-too-deep" | "json-duplicate-key";
      /** Offset in the text, UTF-16 code units; its length where JSON.parse does not say. */
      readonly at: number;
    };

/**
 * Parses one JSON value. `maxDepth` counts nested arrays and objects; a lone number has depth 0.
 * Keys are compared after unescaping. "__proto__" and the like become own properties. The caller bounds the length.
 */
export function parseStrictJson(text: string, limits: { readonly maxDepth: number }): JsonResult {
  const outline = scan(text, limits.maxDepth);
  if (outline.tooDeepAt !== -1) return { ok: false, code: "json-too-deep", at: outline.tooDeepAt };
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    return { ok: false, code: "json-invalid", at: positionOf(error, text) };
  }
  // Every key stands before one colon; an object that came out with fewer keys than colons had two alike.
  if (countKeys(value) === outline.colons) return { ok: true, value };
  return { ok: false, code: "json-duplicate-key", at: duplicateKeyAt(text) };
}

export type TextResult =
  | { readonly ok: true; readonly value: string }
  | { readonly ok: false; readonly code: "frame-not-utf8" };

/** Decodes UTF-8, refusing what is not (no replacement characters). A byte order mark is kept, and is not JSON. */
export function decodeUtf8(bytes: Uint8Array): TextResult {
  if (!isUtf8(bytes)) return { ok: false, code: "frame-not-utf8" };
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return { ok: true, value: view.toString("utf8") };
}

const QUOTE = 0x22;
const COLON = 0x3a;
const BACKSLASH = 0x5c;
const OPEN_ARRAY = 0x5b;
const CLOSE_ARRAY = 0x5d;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;

function scan(text: string, maxDepth: number): { colons: number; tooDeepAt: number } {
  let colons = 0;
  let depth = 0;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code === QUOTE) i = stringEnd(text, i + 1);
    else if (code === COLON) colons++;
    else if (code === OPEN_OBJECT || code === OPEN_ARRAY) {
      depth++;
      if (depth > maxDepth) return { colons, tooDeepAt: i };
    } else if (code === CLOSE_OBJECT || code === CLOSE_ARRAY) depth--;
  }
  return { colons, tooDeepAt: -1 };
}

/** Index of the quote that ends the string whose first character is at `from`; the text's length when none does. */
function stringEnd(text: string, from: number): number {
  let end = text.indexOf('"', from);
  while (end !== -1 && isEscaped(text, from, end)) end = text.indexOf('"', end + 1);
  return end === -1 ? text.length : end;
}

function isEscaped(text: string, from: number, quote: number): boolean {
  let backslashes = 0;
  while (quote - backslashes > from && text.charCodeAt(quote - backslashes - 1) === BACKSLASH) backslashes++;
  return backslashes % 2 === 1;
}

// `maxDepth` has bounded this recursion already.
function countKeys(value: unknown): number {
  if (typeof value !== "object" || value === null) return 0;
  const children: readonly unknown[] = Array.isArray(value) ? value : Object.values(value);
  let count = Array.isArray(value) ? 0 : children.length;
  for (const child of children) {
    if (typeof child === "object" && child !== null) count += countKeys(child);
  }
  return count;
}

/** Only for text that is valid JSON and has a duplicate: says where, so it may be slow. */
function duplicateKeyAt(text: string): number {
  const open: (Set<string> | null)[] = [];
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code === OPEN_OBJECT) open.push(new Set());
    else if (code === OPEN_ARRAY) open.push(null);
    else if (code === CLOSE_OBJECT || code === CLOSE_ARRAY) open.pop();
    else if (code === QUOTE) {
      const end = stringEnd(text, i + 1);
      const keys = open.at(-1);
      if (keys && /^[\t\n\r ]*:/.test(text.slice(end + 1, end + 65))) {
        const key = String(JSON.parse(text.slice(i, end + 1)));
        if (keys.has(key)) return i;
        keys.add(key);
      }
      i = end;
    }
  }
  return text.length;
}

function positionOf(error: unknown, text: string): number {
  const found = / at position (\d+)/.exec(error instanceof Error ? error.message : "");
  return found ? Number(found[1]) : text.length;
}
