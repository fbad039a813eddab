import { isUtf8 } from "node:buffer";
import type { ErrorCode } from "../core/errors.ts";
import { parseStrictJson } from "../core/json.ts";
import { exactNumbers } from "./exact-json.ts";

/**
 * One thing read off a connection. `fatal`: the stream cannot be trusted to be in step any more, so the reader
 * reads nothing after it and the connection has to be closed; otherwise the next frame is read as usual.
 */
export type Frame =
  | { readonly kind: "message"; readonly type: string; readonly data: unknown }
  | { readonly kind: "bad"; readonly code: ErrorCode; readonly fatal: boolean };

/**
 * Reads one connection's bytes. It holds at most `maxBytes` of them. In a frame of type "request" a number with a
 * fraction or an exponent is NaN (exact-json.ts), which nothing takes.
 */
export type FrameReader = {
  /** The frames that these bytes complete, in order. Never throws. */
  push(chunk: Buffer): readonly Frame[];
  /** idle: nothing held. partial: a frame has begun. dead: after a fatal frame; everything is ignored. */
  state(): "idle" | "partial" | "dead";
};

/** Frames end with a form feed, which JSON text never holds raw. */
const DELIMITER = 0x0c;
const FIRST_CAPACITY_BYTES = 1024;

/** `{"type":…,"data":…}` and the delimiter. Throws TypeError for what JSON cannot say (a cycle, a bigint). */
export function renderFrame(type: string, data: unknown): string {
  return `${JSON.stringify({ type, data })}\f`;
}

/** `maxBytes`: of one frame, without its delimiter. `maxDepth`: nesting of the JSON in it, envelope included. */
export function createFrameReader(limits: {
  readonly maxBytes: number;
  readonly maxDepth: number;
}): FrameReader {
  let held: Buffer | null = null;
  let heldBytes = 0;
  let dead = false;

  function hold(bytes: Buffer): void {
    held = withRoom(held, heldBytes, heldBytes + bytes.length, limits.maxBytes);
    bytes.copy(held, heldBytes);
    heldBytes += bytes.length;
  }

  function takeFrame(last: Buffer): Frame {
    if (held === null) return parseFrame(last, limits.maxDepth);
    hold(last);
    const frame = parseFrame(held.subarray(0, heldBytes), limits.maxDepth);
    drop();
    return frame;
  }

  function drop(): void {
    held = null;
    heldBytes = 0;
  }

  function push(chunk: Buffer): readonly Frame[] {
    const frames: Frame[] = [];
    let start = 0;
    while (!dead && start < chunk.length) {
      const found = chunk.indexOf(DELIMITER, start);
      const end = found === -1 ? chunk.length : found;
      const part = chunk.subarray(start, end);
      if (heldBytes + part.length > limits.maxBytes) {
        dead = true;
        drop();
        frames.push({ kind: "bad", code: "frame-too-large", fatal: true });
      } else if (found === -1) {
        hold(part);
      } else {
        frames.push(takeFrame(part));
      }
      start = end + 1;
    }
    return frames;
  }

  return { push, state: () => (dead ? "dead" : heldBytes > 0 ? "partial" : "idle") };
}

// doubling, so that a frame sent byte by byte is copied a constant number of times
function withRoom(held: Buffer | null, usedBytes: number, neededBytes: number, mostBytes: number): Buffer {
  if (held !== null && held.length >= neededBytes) return held;
  const capacity = Math.min(mostBytes, Math.max(FIRST_CAPACITY_BYTES, usedBytes * 2));
  const grown = Buffer.allocUnsafeSlow(Math.max(capacity, neededBytes));
  held?.copy(grown, 0, 0, usedBytes);
  return grown;
}

function parseFrame(bytes: Buffer, maxDepth: number): Frame {
  if (!isUtf8(bytes)) return bad("frame-not-utf8");
  const text = bytes.toString("utf8");
  const parsed = parseStrictJson(text, { maxDepth });
  if (!parsed.ok) return bad(parsed.code);
  const frame = parseEnvelope(parsed.value);
  // what is asked for is asked as it was written, on either socket; replies may have fractions
  return frame.kind === "message" && frame.type === "request"
    ? parseEnvelope(exactNumbers(text, parsed.value))
    : frame;
}

function parseEnvelope(value: unknown): Frame {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return bad("request-invalid");
  const type: unknown = Object.hasOwn(value, "type") ? Reflect.get(value, "type") : undefined;
  const shaped = Object.keys(value).length === 2 && Object.hasOwn(value, "data");
  if (!shaped || typeof type !== "string") return bad("request-invalid");
  return { kind: "message", type, data: Reflect.get(value, "data") };
}

function bad(code: ErrorCode): Frame {
  return { kind: "bad", code, fatal: false };
}
