import { BoundaryError } from "../core/errors.ts";
import type { Data } from "./record.ts";

/** Nesting allowed in a record's data; the record around it adds one level. */
export const MAX_DATA_DEPTH = 32;

/**
 * RFC 8785 canonical JSON for what records may hold: strings, safe integers, arrays and plain objects. Keys are
 * ordered by UTF-16 code units. Throws BoundaryError("record-invalid") for everything else (floats, -0, booleans,
 * null, undefined, lone surrogates, nesting over 32, and so cycles): a record we cannot write the same way twice
 * is a bug in the caller.
 */
export function renderCanonical(value: Data): string {
  return renderValue(value, 1);
}

/** One string in canonical JSON, with its quotes. Throws BoundaryError("record-invalid") for a lone surrogate. */
export function renderString(text: string): string {
  if (!NEEDS_CARE.test(text)) return `"${text}"`;
  if (!text.isWellFormed()) throw invalid("a string with a lone surrogate");
  return JSON.stringify(text);
}

/** Replaces lone surrogates in all strings and keys by U+FFFD: what comes from outside may have them. */
export function makeWellFormed(value: Data): Data {
  return repair(value, 1) as Data;
}

// Anything but what JSON writes as it is: control characters, quote, backslash and surrogates remain.
const NEEDS_CARE = /[^ !#-[\]-\ud7ff\ue000-\uffff]/;

function renderValue(value: unknown, depth: number): string {
  if (typeof value === "string") return renderString(value);
  if (typeof value === "number") return renderInteger(value);
  if (typeof value !== "object" || value === null)
    throw invalid(value === null ? "null" : `a ${typeof value}`);
  if (depth > MAX_DATA_DEPTH) throw invalid(`nesting over ${MAX_DATA_DEPTH} levels`);
  return Array.isArray(value) ? renderArray(value, depth) : renderObject(value, depth);
}

function renderInteger(value: number): string {
  if (!Number.isSafeInteger(value) || Object.is(value, -0)) throw invalid(`the number ${value}`);
  return String(value);
}

function renderArray(items: readonly unknown[], depth: number): string {
  let text = "[";
  // By index: a hole in a sparse array has to be refused, and iteration helpers skip holes.
  for (let i = 0; i < items.length; i++) text += (i === 0 ? "" : ",") + renderValue(items[i], depth + 1);
  return `${text}]`;
}

function renderObject(object: object, depth: number): string {
  const prototype: unknown = Object.getPrototypeOf(object);
  if (prototype !== Object.prototype && prototype !== null) throw invalid("an object that is not plain");
  const fields = object as Readonly<Record<string, unknown>>;
  let text = "{";
  for (const key of Object.keys(fields).sort()) {
    text += `${(text === "{" ? "" : ",") + renderString(key)}:${renderValue(fields[key], depth + 1)}`;
  }
  return `${text}}`;
}

function repair(value: unknown, depth: number): unknown {
  if (typeof value === "string") return value.toWellFormed();
  if (typeof value !== "object" || value === null || depth > MAX_DATA_DEPTH) return value;
  if (Array.isArray(value)) return value.map((item) => repair(item, depth + 1));
  const entries = Object.entries(value).map(([key, item]) => [key.toWellFormed(), repair(item, depth + 1)]);
  return Object.fromEntries(entries);
}

function invalid(what: string): BoundaryError {
  return new BoundaryError("record-invalid", `rendering a record: ${what} cannot be recorded`);
}
