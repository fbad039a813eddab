import { invalid } from "./cedar-read.ts";

/** TypeScript's own description lacks what ECMAScript 2026 has. */
type Reviver = (name: string, value: unknown, context: { readonly source?: string }) => unknown;
type ExactJson = {
  parse: (text: string, reviver?: Reviver) => unknown;
  readonly rawJSON: (text: string) => unknown;
  readonly isRawJSON: (value: unknown) => boolean;
};
const exactJson = JSON as unknown as ExactJson;

const INTEGER = /^-?[0-9]+$/;

/**
 * The JSON text with which cedar-wasm answered. Its binding hands that text to the global JSON.parse, which rounds
 * integers beyond 2^53: Cedar's go up to 2^63. For the time of the call the text is taken instead. Synchronous, and
 * meant for the process in which the wasm lives. Throws what the call throws; "policy-invalid" when there was no text.
 */
export function answerText(call: () => unknown): string {
  const parse = exactJson.parse;
  let text = "";
  exactJson.parse = (answer) => {
    text = answer;
    return null;
  };
  try {
    call();
  } finally {
    exactJson.parse = parse;
  }
  if (text === "") throw invalid("cedar-wasm gave no JSON");
  return text;
}

/** JSON with its integers exact: a bigint where a number would have been rounded. Throws SyntaxError. */
export function parseExact(text: string): unknown {
  return exactJson.parse(text, (_name, value, { source }) =>
    typeof value === "number" && !Number.isSafeInteger(value) && source !== undefined && INTEGER.test(source)
      ? BigInt(source)
      : value,
  );
}

/** The same for what is handed to cedar-wasm, which has it written by JSON.stringify: bigints become numbers there. */
export function writable(json: unknown): unknown {
  if (typeof json === "bigint") return exactJson.rawJSON(String(json));
  if (Array.isArray(json)) return json.map(writable);
  if (typeof json !== "object" || json === null || exactJson.isRawJSON(json)) return json;
  // fromEntries defines: a field named __proto__ stays a field
  return Object.fromEntries(Object.entries(json).map(([name, value]) => [name, writable(value)]));
}
