import { hash } from "node:crypto";
import { type LogRecord, MAX_RECORD_BYTES } from "./record.ts";

/**
 * The lines that go to disk together. They are written into one buffer as they come, so that a batch is one write
 * and a line is hashed where it lies.
 */
export type Batch = {
  bytes: Buffer;
  /** Bytes in use; the first is spare. */
  length: number;
  /** Of them, those of the records that go with a snapshot: nobody's place in the queue. */
  stateBytes: number;
  readonly records: LogRecord[];
  /** Where in the log's segments it stands. */
  place: "within" | "begins" | "ends";
  readonly done: PromiseWithResolvers<void>;
};

const FIRST_BYTES = 64 * 1024;
const NEWLINE = 0x0a;
const LEAF_PREFIX = 0x00;

/** An empty batch. `bytes` may be the buffer of a batch that is done. */
export function createBatch(bytes: Buffer = Buffer.allocUnsafe(FIRST_BYTES)): Batch {
  const done = Promise.withResolvers<void>();
  done.promise.catch(() => undefined); // whoever waits sees it; that nobody waits is no fault
  return { bytes, length: 1, stateBytes: 0, records: [], place: "within", done };
}

export type PutResult = { readonly leaf: string } | { readonly refused: "too-large" | "full" };

/**
 * Writes a line behind the others and returns its RFC 6962 leaf hash, hex. Refuses a line longer than a record may
 * be, and one with which the batch would hold more than `maxBytes`; the batch is then as before.
 */
export function putLine(batch: Batch, line: string, maxBytes: number): PutResult {
  if (line.length > MAX_RECORD_BYTES) return { refused: "too-large" };
  makeRoom(batch, line.length * 3 + 1); // a UTF-16 unit is at most three bytes of UTF-8
  const start = batch.length;
  const end = start + batch.bytes.write(line, start, "utf8");
  if (end - start > MAX_RECORD_BYTES) return { refused: "too-large" };
  if (end > maxBytes) return { refused: "full" };
  // The byte before the line is the "\n" of the line before it (or the spare one): lent to the hash's prefix.
  batch.bytes[start - 1] = LEAF_PREFIX;
  const leaf = hash("sha256", batch.bytes.subarray(start - 1, end), "hex");
  batch.bytes[start - 1] = NEWLINE;
  batch.bytes[end] = NEWLINE;
  batch.length = end + 1;
  return { leaf };
}

/** What to write to the file: all lines, each with its "\n". */
export function chunkOf(batch: Batch): Buffer {
  return batch.bytes.subarray(1, batch.length);
}

function makeRoom(batch: Batch, needed: number): void {
  if (batch.bytes.length - batch.length >= needed) return;
  const larger = Buffer.allocUnsafe(Math.max(batch.bytes.length * 2, batch.length + needed));
  batch.bytes.copy(larger, 0, 0, batch.length);
  batch.bytes = larger;
}
