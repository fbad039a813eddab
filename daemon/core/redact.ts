import { toPlainText } from "./plain-text.ts";
import { findPrivateKeys, privateKeyState } from "./private-key-text.ts";
import { findAssigned, findCredentials, isBareKey, secretNamed } from "./secret-assignments.ts";
import { ENCODED_LEAST, mayHoldSecret } from "./secret-hint.ts";
import { type Found, findShapes } from "./secret-shapes.ts";

/**
 * No secret gets into a record, the operational log or a message: it is replaced by "[redacted:KIND]" before anything
 * is written. In doubt it is replaced: a word too many is lost rather than a secret kept. Doing it twice changes
 * nothing, and time grows with the length of the text, whatever is in it.
 *
 * Not seen: a secret without a form or a name of its own ("hunter2 is what I use"), one cut into pieces other than by line
 * breaks, an unquoted password after its first blank, letters of other alphabets that only look alike, and what is
 * compressed, encrypted, or encoded otherwise than in base64, hex, percent or \u escapes.
 */
export function redactText(text: string): string {
  return mayHoldSecret(text) ? redactClosely(text) : text;
}

/** The same without the quick look before it: a test holds that both agree. */
export function redactClosely(text: string): string {
  let before = text;
  // what a marker leaves behind may look different beside it; one round more finds nothing almost always
  for (let round = 0; round < MAX_ROUNDS; round++) {
    const after = redactOnce(before);
    if (after === before) return after;
    before = after;
  }
  return marker("unsettled"); // no text is known that gets here: closed by default
}

/**
 * The same for all strings and keys of a JSON value, and for what stands under a key that names a secret. Numbers stay:
 * a caller cannot put one into a record. Gives the value itself back when nothing was replaced.
 */
export function redactValue<T>(value: T): T {
  return redactAny(value, null) as T;
}

const MAX_ROUNDS = 8;
const MAX_ENCODED_DEPTH = 2;
const MARKER = "[redacted:";
/** What stands in a secret's place. */
export function marker(kind: string): string {
  return `${MARKER}${kind}]`;
}

/** Whether something was replaced in a text, or in the JSON of a value; or it holds the words that say so by itself. */
export function holdsRedaction(text: string): boolean {
  return text.includes(MARKER);
}

/**
 * Where in a text secrets are, in order and apart from each other: for who replaces them himself. What `redactText` finds
 * in one round.
 */
export function findSecretSpans(text: string): readonly Found[] {
  if (!mayHoldSecret(text)) return [];
  const plain = toPlainText(text);
  const spans: Found[] = [];
  let at = 0;
  for (const { start, end, kind } of merge(findAll(plain.text, 0))) {
    const from = Math.max(at, plain.starts[start] ?? text.length);
    at = Math.max(at, plain.ends[end - 1] ?? text.length);
    if (at > from) spans.push({ start: from, end: at, kind });
  }
  return spans;
}

function redactOnce(text: string): string {
  const plain = toPlainText(text);
  const found = merge(findAll(plain.text, 0));
  let result = "";
  let at = 0;
  for (const { start, end, kind } of found) {
    result += text.slice(at, Math.max(at, plain.starts[start] ?? text.length)) + marker(kind);
    at = Math.max(at, plain.ends[end - 1] ?? text.length);
  }
  return result + text.slice(at);
}

function findAll(text: string, depth: number): readonly Found[] {
  return [
    ...findPrivateKeys(text),
    ...findAssigned(text),
    ...findShapes(text),
    ...findCredentials(text),
    ...findEncoded(text, depth),
  ];
}

/** In order, none within or across another; the first to begin gives its kind. */
function merge(found: readonly Found[]): readonly Found[] {
  const merged: Found[] = [];
  for (const one of found.toSorted((a, b) => a.start - b.start || b.end - a.end)) {
    const last = merged.at(-1);
    if (one.end <= one.start) continue;
    if (last === undefined || one.start >= last.end) merged.push(one);
    else if (one.end > last.end) merged[merged.length - 1] = { ...last, end: one.end };
  }
  return merged;
}

const BASE64_RUN = new RegExp(`[A-Za-z0-9+/_\\-\\n\\v]{${ENCODED_LEAST},}={0,2}`, "g");
const HEX_RUN = new RegExp(`[0-9A-Fa-f\\n\\v]{${ENCODED_LEAST},}`, "g");

/** Runs that hide a secret in base64 or hex, wherever in the run it begins. */
export function findEncoded(text: string, depth = 0): readonly Found[] {
  if (depth >= MAX_ENCODED_DEPTH) return [];
  const hides = (run: string, encoding: "base64" | "hex", offsets: readonly number[]) => {
    const dense = run.replace(/[\n\v]/g, "");
    return offsets.some((offset) => isSecretBytes(Buffer.from(dense.slice(offset), encoding), depth + 1));
  };
  const found: Found[] = [];
  for (const hit of text.matchAll(BASE64_RUN))
    if (hides(hit[0], "base64", [0, 1, 2, 3])) found.push(spanOf(hit));
  for (const hit of text.matchAll(HEX_RUN)) if (hides(hit[0], "hex", [0, 1])) found.push(spanOf(hit));
  return found;
}

function isSecretBytes(bytes: Buffer, depth: number): boolean {
  const text = bytes.toString("latin1");
  const readable = /^[\t\n\r -~]+$/.test(text);
  if (!readable) return findShapes(text).length > 0 || findPrivateKeys(text).length > 0;
  return mayHoldSecret(text) && findAll(text, depth).length > 0;
}

function spanOf(hit: RegExpExecArray): Found {
  return { start: hit.index, end: hit.index + hit[0].length, kind: "encoded" };
}

/** `kind`: of the secret that the field around it names; everything below is one. */
function redactAny(value: unknown, kind: string | null): unknown {
  if (typeof value === "string") return kind === null || value === "" ? redactText(value) : marker(kind);
  if (typeof value !== "object" || value === null) return value;
  return Array.isArray(value) ? redactArray(value, kind) : redactObject(value, kind);
}

/** Beside the items: an option and its argument, and the lines of a private key. */
function redactArray(items: readonly unknown[], kind: string | null): readonly unknown[] {
  let next: string | null = null;
  let inKey = false;
  const redacted = items.map((item) => {
    const state = typeof item === "string" ? privateKeyState(item) : "neither";
    const within = inKey || state === "begins";
    inKey = state === "begins" || (inKey && state !== "ends");
    const done = redactAny(item, kind ?? next ?? (within ? "private-key" : null));
    next = typeof item === "string" && /^-{1,2}[A-Za-z]/.test(item) ? secretNamed(item) : null;
    return done;
  });
  return redacted.every((item, index) => item === items[index]) ? items : redacted;
}

function redactObject(object: object, kind: string | null): object {
  const entries = Object.entries(object);
  const isJwk = Object.hasOwn(object, "kty");
  const taken = new Map<string, number>();
  const redacted = entries.map(([name, value]): [string, unknown] => [
    unique(redactText(name), taken),
    redactAny(value, kind ?? kindOfField(name, value, isJwk)),
  ]);
  const same = redacted.every(
    ([name, value], index) => name === entries[index]?.[0] && value === entries[index]?.[1],
  );
  return same ? object : Object.fromEntries(redacted);
}

const PRIVATE_JWK_FIELDS: ReadonlySet<string> = new Set(["d", "p", "q", "dp", "dq", "qi", "k"]);

function kindOfField(name: string, value: unknown, isJwk: boolean): string | null {
  if (isJwk && PRIVATE_JWK_FIELDS.has(name)) return "private-key";
  const plain = toPlainText(name).text;
  if (/^key$/i.test(plain) && typeof value === "string" && isBareKey(value)) return "key";
  return secretNamed(plain);
}

/** Two keys that were secrets stay two. */
function unique(name: string, taken: Map<string, number>): string {
  const count = (taken.get(name) ?? 0) + 1;
  taken.set(name, count);
  return count === 1 ? name : `${name}#${count}`;
}
