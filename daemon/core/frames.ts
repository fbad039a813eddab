import { parseStrictJson } from "./json.ts";

/**
 * How the daemon and the processes beside it (worker, egress) speak: a length of four bytes, big-endian, then that many
 * bytes of JSON in UTF-8.
 */
/** Of one frame, both ways. */
export const MAX_FRAME_BYTES = 4_194_304;
const HEADER_BYTES = 4;
const FIRST_CAPACITY_BYTES = 4_096;
/** Nothing that is sent nests deeper. */
const MAX_DEPTH = 4;

/** Reads frames off a stream. A fault is the last thing read: the stream cannot be trusted to be in step any more. */
export type FrameReader = {
  push(chunk: Uint8Array): readonly FrameRead[];
};

export type FrameRead =
  | { readonly ok: true; readonly value: unknown }
  | { readonly ok: false; readonly why: string };

/** A frame's bytes. Throws RangeError when it is longer than a reader takes, TypeError for what JSON cannot say. */
export function renderFrame(message: object): Buffer {
  const body = Buffer.from(JSON.stringify(message), "utf8");
  if (body.length > MAX_FRAME_BYTES) throw new RangeError(`a frame of ${body.length} bytes`);
  const frame = Buffer.allocUnsafe(HEADER_BYTES + body.length);
  frame.writeUInt32BE(body.length, 0);
  body.copy(frame, HEADER_BYTES);
  return frame;
}

/**
 * A reader for one connection, of frames of at most `mostBytes`. What it holds grows with what has come, never with what a
 * length promises.
 */
export function createFrameReader(mostBytes = MAX_FRAME_BYTES): FrameReader {
  const header = Buffer.alloc(HEADER_BYTES);
  let headerBytes = 0;
  let body = Buffer.alloc(0);
  let bodyBytes = 0;
  let wanted = 0;
  let dead = false;

  /** Takes what belongs to the present frame, and says how much that was. */
  function take(chunk: Uint8Array): number {
    if (headerBytes < HEADER_BYTES) {
      const part = chunk.subarray(0, HEADER_BYTES - headerBytes);
      header.set(part, headerBytes);
      headerBytes += part.length;
      if (headerBytes === HEADER_BYTES) wanted = header.readUInt32BE(0);
      return part.length;
    }
    const part = chunk.subarray(0, wanted - bodyBytes);
    body = withRoom(body, bodyBytes, bodyBytes + part.length, wanted);
    body.set(part, bodyBytes);
    bodyBytes += part.length;
    return part.length;
  }

  function finished(): FrameRead {
    const read = parseBody(body.subarray(0, bodyBytes));
    body.fill(0, 0, bodyBytes); // it may have held stdin
    [headerBytes, bodyBytes, wanted, body] = [0, 0, 0, Buffer.alloc(0)];
    dead = !read.ok;
    return read;
  }

  function push(chunk: Uint8Array): readonly FrameRead[] {
    const found: FrameRead[] = [];
    let rest = chunk;
    while (!dead && rest.length > 0) {
      rest = rest.subarray(take(rest));
      if (headerBytes < HEADER_BYTES) continue;
      if (wanted === 0 || wanted > mostBytes) {
        dead = true;
        found.push({ ok: false, why: `a frame of ${wanted} bytes` });
      } else if (bodyBytes === wanted) {
        found.push(finished());
      }
    }
    return found;
  }

  return { push };
}

// doubling, so that a frame that comes byte by byte is copied a constant number of times
function withRoom(
  held: Buffer<ArrayBuffer>,
  used: number,
  needed: number,
  most: number,
): Buffer<ArrayBuffer> {
  if (held.length >= needed) return held;
  const grown = Buffer.alloc(Math.max(needed, Math.min(most, Math.max(FIRST_CAPACITY_BYTES, used * 2))));
  held.copy(grown, 0, 0, used);
  held.fill(0);
  return grown;
}

function parseBody(bytes: Buffer): FrameRead {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return { ok: false, why: "a frame that is not UTF-8" };
  }
  const parsed = parseStrictJson(text, { maxDepth: MAX_DEPTH });
  return parsed.ok ? { ok: true, value: parsed.value } : { ok: false, why: `a frame with ${parsed.code}` };
}
