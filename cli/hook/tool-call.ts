import { decodeUtf8, parseStrictJson } from "../../daemon/core/json.ts";

/** What an agent is about to do, as its hook is told (Claude Code, PreToolUse). Nothing of it is trusted. */
export type ToolCall = {
  readonly tool: string;
  readonly input: Readonly<Record<string, unknown>>;
  /** The agent's working directory; "" when it said none. */
  readonly cwd: string;
};

export type ReadCall =
  | { readonly ok: true; readonly call: ToolCall }
  | { readonly ok: false; readonly why: string };

/** The content of a file to be written comes along, and is not looked at. */
export const MAX_INPUT_BYTES = 8_388_608;
const MAX_DEPTH = 64;
const MAX_NAME = 256;

/** Reads the hook's input. Never throws: what cannot be read is a reason to deny. */
export function readToolCall(bytes: Uint8Array): ReadCall {
  if (bytes.length > MAX_INPUT_BYTES) return no(`the input is longer than ${MAX_INPUT_BYTES} bytes`);
  const text = decodeUtf8(bytes);
  if (!text.ok) return no("the input is no UTF-8");
  const parsed = parseStrictJson(text.value, { maxDepth: MAX_DEPTH });
  if (!parsed.ok) return no(`the input is no JSON that can be read (${parsed.code})`);
  if (!isRecord(parsed.value)) return no("the input is no JSON object");
  const event = own(parsed.value, "hook_event_name");
  if (event !== "PreToolUse") return no("the input is not about a PreToolUse event");
  const tool = own(parsed.value, "tool_name");
  const input = own(parsed.value, "tool_input");
  const cwd = own(parsed.value, "cwd") ?? "";
  if (typeof tool !== "string" || tool === "" || tool.length > MAX_NAME) return no("the input names no tool");
  if (!isRecord(input)) return no("the input has no tool_input");
  if (typeof cwd !== "string") return no("the input's cwd is no text");
  return { ok: true, call: { tool, input, cwd } };
}

/** A field of outside data: its own, never an inherited one. */
export function own(record: Readonly<Record<string, unknown>>, name: string): unknown {
  return Object.hasOwn(record, name) ? record[name] : undefined;
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function no(why: string): ReadCall {
  return { ok: false, why };
}
