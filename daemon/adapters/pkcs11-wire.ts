import { z } from "zod";
import { ERRORS, type ErrorCode } from "../core/errors.ts";

/**
 * What is said to the process with the token's module, and what it answers: a frame is two lengths (32 bits, big-endian), then
 * a head in JSON, then bytes that are secret. Those stand in no text, so that they can be wiped.
 */
export type Frame = { readonly head: unknown; readonly body: Buffer };

/** `key`: a number that the process gave for a key that it holds open. */
export type Pkcs11Request =
  | { readonly op: "create"; readonly id: string; readonly asks: boolean }
  | { readonly op: "open"; readonly id: string; readonly spec: string; readonly asks: boolean }
  | { readonly op: "wrap" | "unwrap" | "drop"; readonly key: number }
  | { readonly op: "retire"; readonly id: string };

const LENGTHS_BYTES = 8;
const MAX_HEAD_BYTES = 65_536;
const MAX_BODY_BYTES = 65_536;

const ReplySchema = z.discriminatedUnion("ok", [
  z.strictObject({
    n: z.number().int().min(0),
    ok: z.literal(true),
    key: z.number().int().min(0).optional(),
    spec: z.string().max(4_096).optional(),
  }),
  z.strictObject({
    n: z.number().int().min(0),
    ok: z.literal(false),
    code: z.string().refine((code): code is ErrorCode => Object.hasOwn(ERRORS, code), "no known code"),
    message: z.string().max(4_096),
  }),
]);
export type Pkcs11Reply = z.infer<typeof ReplySchema>;

/** For the caller to wipe, when it was written. Throws RangeError for more than a frame holds. */
export function renderFrame(head: object, body: Uint8Array): Buffer {
  const text = Buffer.from(JSON.stringify(head), "utf8");
  if (text.length > MAX_HEAD_BYTES || body.length > MAX_BODY_BYTES)
    throw new RangeError(`a frame of ${text.length} and ${body.length} bytes`);
  const frame = Buffer.alloc(LENGTHS_BYTES + text.length + body.length);
  frame.writeUInt32BE(text.length, 0);
  frame.writeUInt32BE(body.length, 4);
  text.copy(frame, LENGTHS_BYTES);
  frame.set(body, LENGTHS_BYTES + text.length);
  return frame;
}

/** Cuts what comes into frames, and wipes it; a body is for the caller to wipe. After what is none there is nothing more: "dead". */
export function createFrameCutter(): { push(chunk: Buffer): readonly Frame[] | "dead" } {
  let held = Buffer.alloc(0);
  let isDead = false;

  function next(): Frame | "dead" | null {
    if (held.length < LENGTHS_BYTES) return null;
    const [head, body] = [held.readUInt32BE(0), held.readUInt32BE(4)];
    if (head > MAX_HEAD_BYTES || body > MAX_BODY_BYTES) return "dead";
    const end = LENGTHS_BYTES + head + body;
    if (held.length < end) return null;
    const value = parse(held.subarray(LENGTHS_BYTES, LENGTHS_BYTES + head));
    if (value === undefined) return "dead";
    const frame = { head: value, body: Buffer.from(held.subarray(LENGTHS_BYTES + head, end)) };
    keep(held, held.subarray(end));
    return frame;
  }

  function keep(before: Buffer, rest: Uint8Array): void {
    held = Buffer.from(rest);
    before.fill(0);
  }

  return {
    push(chunk) {
      const before = held;
      held = Buffer.concat([before, chunk]);
      before.fill(0);
      chunk.fill(0);
      const frames: Frame[] = [];
      while (!isDead) {
        const frame = next();
        if (frame === null) return frames;
        if (frame === "dead") isDead = true;
        else frames.push(frame);
      }
      keep(held, Buffer.alloc(0));
      for (const { body } of frames) body.fill(0);
      return "dead";
    },
  };
}

/** An answer, or null for what is none. */
export function readReply(head: unknown): Pkcs11Reply | null {
  const read = ReplySchema.safeParse(head);
  return read.success ? read.data : null;
}

function parse(bytes: Buffer): unknown {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes)) as unknown;
  } catch {
    return undefined;
  }
}
