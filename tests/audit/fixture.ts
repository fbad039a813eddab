import { createPrivateKey, createPublicKey, hash, sign } from "node:crypto";
import * as fs from "node:fs";
import { join } from "node:path";
import { createSegment, prepareLogDirectory, segmentName } from "../../daemon/adapters/log-file.ts";
import { renderCanonical } from "../../daemon/audit/canonical.ts";
import { renderCheckpoint, renderVkey, signNote } from "../../daemon/audit/checkpoint.ts";
import { readLine, renderLine } from "../../daemon/audit/line.ts";
import { type AuditLog, emptyTail, type LogParts, openLog } from "../../daemon/audit/log.ts";
import { append, emptyFrontier, leafHash, root } from "../../daemon/audit/merkle.ts";
import { type Entry, FIRST_PREV, type LogRecord } from "../../daemon/audit/record.ts";
import type { Chunk } from "../../daemon/audit/split.ts";
import { BoundaryError } from "../../daemon/core/errors.ts";
import type { Clock, HeadStore, LogStore, Signer } from "../../daemon/ports.ts";
import { directoryOfFile } from "../support/directory-of-file.ts";

export const ORIGIN = "boundary-daemon/test";

/** A key made from a word: no key material in the repository. */
export function testSigner(word = "a test key, worth nothing", name = ORIGIN): Signer {
  const seed = hash("sha256", word, "buffer");
  const prefix = Buffer.from("302e020100300506032b657004220420", "hex");
  const key = createPrivateKey({ key: Buffer.concat([prefix, seed]), format: "der", type: "pkcs8" });
  const raw = createPublicKey(key).export({ format: "der", type: "spki" }).subarray(-32);
  return { vkey: renderVkey(name, raw), sign: (message) => sign(null, message, key) };
}

/** A clock that stands until it is moved, and moves a millisecond at each look. `setMs` moves the wall clock alone. */
export function testClock(
  startMs = Date.UTC(2026, 0, 2, 3, 4, 5),
): Clock & { moveMs(by: number): void; setMs(by: number): void } {
  let now = startMs;
  let off = 0;
  return {
    wallMs: () => now++ + off,
    setMs: (by) => {
      off += by;
    },
    monoNs: () => BigInt(now) * 1_000_000n,
    bootMs: () => now,
    bootId: () => "5a0e6c1e-0000-4000-8000-00000000b007",
    moveMs: (by) => {
      now += by;
    },
  };
}

export type FakeStore = LogStore & {
  readonly chunks: Buffer[];
  /** What the next writes do. hang: until `release`. */
  behave: "write" | "fail" | "fail-after-writing" | "hang";
  harm: ReturnType<LogStore["damage"]>;
  release(): void;
  closed: boolean;
  text(): string;
};

/** A disk in memory that can fail, fail after it took the bytes, hang, or be found damaged. */
export function fakeStore(): FakeStore {
  let waiting: (() => void)[] = [];
  const store: FakeStore = {
    chunks: [],
    behave: "write",
    harm: null,
    closed: false,
    async write(chunk) {
      if (store.behave === "hang") await new Promise<void>((resolve) => waiting.push(resolve));
      if (store.behave === "fail") throw new Error("no space left on device");
      store.chunks.push(Buffer.from(chunk));
      if (store.behave === "fail-after-writing") throw new Error("fdatasync failed");
    },
    damage: () => store.harm,
    close: () => {
      store.closed = true;
    },
    finish: () => {
      store.closed = true;
    },
    release() {
      store.behave = "write";
      for (const each of waiting) each();
      waiting = [];
    },
    text: () => Buffer.concat(store.chunks).toString("utf8"),
  };
  return store;
}

export function fakeHead(): HeadStore & { notes: string[] } {
  const notes: string[] = [];
  return {
    notes,
    async remember(note) {
      notes.push(note);
    },
  };
}

export type FakeLog = {
  readonly log: AuditLog;
  readonly store: FakeStore;
  readonly head: { notes: string[] };
  readonly failures: BoundaryError[];
  readonly seen: LogRecord[];
};

export function fakeLog(changes: Partial<LogParts> = {}): FakeLog {
  const store = fakeStore();
  const head = fakeHead();
  const failures: BoundaryError[] = [];
  const seen: LogRecord[] = [];
  const log = openLog({
    store,
    head,
    signer: testSigner(),
    clock: testClock(),
    tail: emptyTail(),
    origin: ORIGIN,
    onRecord: (record) => seen.push(record),
    onFailed: (cause) => failures.push(cause),
    ...changes,
  });
  return { log, store, head, failures, seen };
}

/** A log on real files, by the real appender: `batches` of entries, each a batch of its own. Returns the newest note. */
export async function writeLog(
  directory: string,
  batches: readonly (readonly Entry[])[],
  signer = testSigner(),
): Promise<string> {
  prepareLogDirectory(directory);
  const head = fakeHead();
  const store = createSegment(directory, 0);
  const onFailed = (cause: Error) => {
    throw cause;
  };
  const log = openLog({
    store,
    head,
    signer,
    clock: testClock(),
    tail: emptyTail(),
    origin: nameOf(signer),
    onFailed,
  });
  await log.drain();
  for (const batch of batches) {
    for (const entry of batch) log.append(entry);
    await log.drain();
  }
  await log.close();
  return head.notes.at(-1) ?? "";
}

export function decision(text: string): Entry {
  return { kind: "decision", data: { action: "recall", text } };
}

export function nameOf(signer: Signer): string {
  return signer.vkey.split("+")[0] ?? "";
}

/** The lines of a log, without their "\n". */
export function linesOf(directory: string): string[] {
  return fs
    .readFileSync(join(directory, segmentName(0)), "utf8")
    .split("\n")
    .slice(0, -1);
}

export function recordOf(line: string): LogRecord {
  const read = readLine(line);
  if (!read.ok) throw new Error(`not a record: ${read.why}`);
  return read.record;
}

/** Writes records anew as somebody who knows the format would: numbers, hashes and, with a key, seals made to fit. */
export function forge(
  records: readonly LogRecord[],
  how: { readonly from: number; readonly signer?: Signer },
): string[] {
  const frontier = emptyFrontier();
  let prev = FIRST_PREV;
  return records.map((record, seq) => {
    const changed =
      seq < how.from ? record : { ...record, seq, prev, data: sealData(record, frontier, how.signer) };
    const line = renderLine(changed, renderCanonical(changed.data));
    prev = leafHash(Buffer.from(line));
    append(frontier, prev);
    return line;
  });
}

function sealData(
  record: LogRecord,
  frontier: ReturnType<typeof emptyFrontier>,
  signer: Signer | undefined,
): LogRecord["data"] {
  if (record.kind !== "seal" || !signer) return record.data;
  const checkpoint = { origin: nameOf(signer), size: frontier.size, root: root(frontier) };
  return { note: signNote(renderCheckpoint(checkpoint), signer) };
}

export async function* chunksOf(
  files: Readonly<Record<string, Uint8Array>>,
  size = 64 * 1024,
): AsyncGenerator<Chunk> {
  for (const [file, bytes] of Object.entries(files)) {
    for (let at = 0; at < bytes.length; at += size) yield { file, bytes: bytes.subarray(at, at + size) };
  }
}

export function bytesOf(lines: readonly string[]): Buffer {
  return Buffer.from(lines.map((line) => `${line}\n`).join(""));
}

/** A directory that is gone after the test, also when it fails; with the process at the latest. */
export function tempDirectory(): { readonly path: string; [Symbol.dispose](): void } {
  const path = directoryOfFile("test");
  return { path, [Symbol.dispose]: () => fs.rmSync(path, { recursive: true, force: true }) };
}

/** The code of the BoundaryError that it throws, or rejects with. */
export async function codeOf(work: () => unknown): Promise<string> {
  try {
    await work();
  } catch (error) {
    if (error instanceof BoundaryError) return error.code;
    throw error;
  }
  return "nothing thrown";
}
