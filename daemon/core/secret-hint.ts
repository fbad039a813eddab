import { PRIVATE_KEY_BEGINNINGS, PRIVATE_KEY_HINT } from "./private-key-text.ts";
import {
  ASSIGNMENT_HINT,
  CREDENTIAL_BEGINNINGS,
  CREDENTIAL_HINT,
  NAME_BEGINNINGS,
  secretNamed,
} from "./secret-assignments.ts";
import { SHAPE_BEGINNINGS, SHAPE_HINT } from "./secret-shapes.ts";

/** A run of characters this long may be an encoded secret: no word is. */
export const ENCODED_LEAST = 28;

/**
 * Whether a text, or the JSON text of a value, is worth the search in core/redact.ts. False is certain. It looks at every
 * record, so it is fast: a table says whether the last four characters are how something begins, and only there an
 * expression is tried. What is not printable ASCII, or escaped, is always worth it.
 */
export function mayHoldSecret(text: string): boolean {
  let last = 0;
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code >= 128 || KIND_OF[code] === ODD) return true;
    last = ((last << 5) | (code & 31)) & FOUR;
    if (BEGINS[last] !== 0 && matchesAt(text, at - 3)) return true;
  }
  // a beginning of three characters at the very end has no fourth
  if (BEGINS[(last << 5) & FOUR] !== 0 && matchesAt(text, text.length - 3)) return true;
  return text.length >= ENCODED_LEAST && hasRun(text);
}

/** The same for everything in a value: its strings are at hand, its JSON text would have to be put together first. */
export function mayHoldSecretWithin(value: unknown): boolean {
  if (typeof value === "string") return mayHoldSecret(value);
  if (typeof value !== "object" || value === null) return false;
  if (Array.isArray(value)) return value.some(isWorthALook);
  for (const name in value) {
    if (mayName(name) || mayHoldSecretWithin((value as Readonly<Record<string, unknown>>)[name])) return true;
  }
  return false;
}

/** An item may be an option, whose argument is the next item. */
function isWorthALook(item: unknown): boolean {
  return (typeof item === "string" && item.startsWith("-")) || mayHoldSecretWithin(item);
}

/** Whether a field's name may be that of a secret, or hold one itself. */
function mayName(name: string): boolean {
  let last = 0;
  for (let at = 0; at < name.length; at++) {
    const code = name.charCodeAt(at);
    if (code >= 128 || KIND_OF[code] === ODD) return true;
    last = ((last << 5) | (code & 31)) & FOUR;
    if (BEGINS[last] !== 0) return isNameOrSecret(name);
  }
  return BEGINS[(last << 5) & FOUR] === 0
    ? name.length >= ENCODED_LEAST && hasRun(name)
    : isNameOrSecret(name);
}

function isNameOrSecret(name: string): boolean {
  return name.toLowerCase() === "key" || secretNamed(name) !== null || mayHoldSecret(name);
}

function hasRun(text: string): boolean {
  let run = 0;
  for (let at = 0; at < text.length && run < ENCODED_LEAST; at++)
    run = KIND_OF[text.charCodeAt(at)] === IN_RUN ? run + 1 : 0;
  return run >= ENCODED_LEAST;
}

const ODD = 1;
const IN_RUN = 2;
const KIND_OF = Uint8Array.from({ length: 128 }, (_, code) => {
  const character = String.fromCharCode(code);
  if (/[^ -~]|[\\%]/.test(character)) return ODD;
  return /[A-Za-z0-9+/_-]/.test(character) ? IN_RUN : 0;
});

/** Five bits of each of four characters: case does not matter, and that some look alike costs a try. */
const FOUR = (1 << 20) - 1;
const BEGINS = new Uint8Array(FOUR + 1);
for (const beginning of [
  ...NAME_BEGINNINGS,
  ...CREDENTIAL_BEGINNINGS,
  ...PRIVATE_KEY_BEGINNINGS,
  ...SHAPE_BEGINNINGS,
]) {
  const codes = Array.from(beginning.slice(0, 4), (character) => character.charCodeAt(0));
  const known = codes.reduce((before, code) => (before << 5) | (code & 31), 0);
  if (codes.length === 4) BEGINS[known] = 1;
  else BEGINS.fill(1, known << 5, (known + 1) << 5); // three, and any fourth
}

const HINT = new RegExp([SHAPE_HINT, PRIVATE_KEY_HINT, CREDENTIAL_HINT, ASSIGNMENT_HINT].join("|"), "iy");

function matchesAt(text: string, at: number): boolean {
  if (at < 0) return false;
  HINT.lastIndex = at;
  return HINT.test(text);
}
