import { decodeUtf8, parseStrictJson } from "../core/json.ts";

/** The body of a request as JSON, or why it is none. */
export type ReadJson =
  | { readonly ok: true; readonly value: unknown }
  | {
      readonly ok: false;
      readonly code: "frame-not-utf8" | "json-invalid" | "json-too-deep" | "json-duplicate-key";
      readonly why: string;
    };

const MAX_DEPTH = 32;
const FRACTION_OR_EXPONENT = /[0-9][.eE]/;
const PLAIN_INTEGER = /^-?[0-9]+$/;

/**
 * Strict JSON (core/json.ts) in UTF-8, in which a number written with a fraction or an exponent comes out as NaN: it
 * would be rounded otherwise, 9007199254740990.6 to an integer that nobody wrote. Whoever uses the number refuses it.
 */
export function readExactJson(bytes: Uint8Array): ReadJson {
  const text = decodeUtf8(bytes);
  if (!text.ok) return { ok: false, code: text.code, why: "the body is not UTF-8" };
  const parsed = parseStrictJson(text.value, { maxDepth: MAX_DEPTH });
  if (!parsed.ok)
    return { ok: false, code: parsed.code, why: `the body is not one JSON value: at ${parsed.at}` };
  // also true for some strings, which costs no more than a second reading
  if (!FRACTION_OR_EXPONENT.test(text.value)) return parsed;
  const value: unknown = JSON.parse(text.value, function exact(_name, each: unknown, ...rest: unknown[]) {
    return typeof each === "number" && !PLAIN_INTEGER.test(sourceOf(rest[0])) ? Number.NaN : each;
  });
  return { ok: true, value };
}

/** JSON.parse hands its reviver the text of a primitive value (ECMAScript, "JSON.parse source text access"). */
function sourceOf(context: unknown): string {
  const source: unknown =
    typeof context === "object" && context !== null ? Reflect.get(context, "source") : undefined;
  return typeof source === "string" ? source : "";
}
