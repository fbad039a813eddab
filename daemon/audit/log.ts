import { BoundaryError } from "../core/errors.ts";
import type { Clock, HeadStore, LogStore, Signer } from "../ports.ts";
import { type Batch, chunkOf, createBatch, putLine } from "./batch.ts";
import { makeWellFormed, renderCanonical } from "./canonical.ts";
import { renderCheckpoint, signNote } from "./checkpoint.ts";
import { renderLine } from "./line.ts";
import {
  append as appendLeaf,
  copyFrontier,
  EMPTY_ROOT,
  emptyFrontier,
  type Frontier,
  root,
} from "./merkle.ts";
import {
  type Data,
  type Entry,
  FIRST_PREV,
  type LogRecord,
  RECORD_VERSION,
  type RecordKind,
} from "./record.ts";
import { withoutSecrets } from "./redaction.ts";

/**
 * The one appender. A record gets its number, time and place in the chain at the call, so the order of the log is
 * the order of decisions. What is appended while a write is under way is the next batch; a batch ends with a seal,
 * and its records are durable when the batch is on disk.
 */
export type AuditLog = {
  /**
   * Numbers and chains a record. `durable` resolves when it is on disk under a seal, and rejects with
   * BoundaryError("log-unavailable") when that is not certain. Throws, and uses up no number, when the record cannot
   * be taken: "log-unavailable" (failed, closed, or too much is waiting), "record-too-large", "record-invalid".
   * What others can cause at will is refused while much is waiting, and the log goes on; when there is no room for a
   * record of the machine's own, the log has failed: the mode it tells of would be the wrong one from then on.
   */
  append(entry: Entry): Receipt;
  /** Seals what is pending; when nothing is, a `log.alive` record and its seal, so that empty periods have seals. */
  seal(): Promise<void>;
  /** The newest seal on disk. */
  head(): Head;
  /** "failed" is for good: after a failed write, or a record of the machine's that found no room, it is not the truth. */
  state(): "writing" | "failed";
  /** Resolves when everything appended so far is durable; rejects as `durable` does. */
  drain(): Promise<void>;
  /** Takes no more records, writes what is pending and closes the file. Never rejects: onFailed has told a failure. */
  close(): Promise<void>;
};

export type Receipt = { readonly seq: number; readonly at: string; readonly durable: Promise<void> };

export type Head = {
  /** Tree size: the number of lines before the seal. 0 when nothing is sealed yet. */
  readonly size: number;
  /** RFC 6962 root, hex. */
  readonly root: string;
  /** RFC 3339; "" when nothing is sealed yet. */
  readonly sealedAt: string;
  /** The signed note; "" when nothing is sealed yet. */
  readonly note: string;
};

/** Where a log ends: what an opener needs to go on. */
export type Tail = {
  /** Number of lines: the next record's seq. */
  readonly size: number;
  /** Leaf hash of the last line. */
  readonly prev: string;
  /** Over all lines. */
  readonly frontier: Frontier;
  readonly head: Head;
};

export type LogParts = {
  readonly store: LogStore;
  readonly signer: Signer;
  readonly head: HeadStore;
  readonly clock: Clock;
  readonly tail: Tail;
  /** The checkpoints' origin: the name in the signer's vkey. */
  readonly origin: string;
  /** Every record once it is durable, seals included, in order. */
  readonly onRecord?: (record: LogRecord) => void;
  /** Once, at the first failure; never from within `append`, whose caller may be in the middle of a step. */
  readonly onFailed: (cause: BoundaryError) => void;
};

/** The most that waits for the disk, and so the most that a crash can leave on disk without its seal. */
export const MAX_BATCH_BYTES = 4 * 1024 * 1024;
/** Room kept in every batch for its seal. */
const SEAL_BYTES = 4 * 1024;
/** Room kept for the machine's own records: a flood of requests must not keep a trip out of the log. */
const MACHINE_BYTES = 1024 * 1024;
/** What a peer, or somebody outside, can cause as often as he likes. */
const CAUSED_BY_OTHERS: ReadonlySet<RecordKind> = new Set<RecordKind>([
  "decision",
  "request.refused",
  "tripwire.noted",
  "tripwire.repeated",
  "ceremony.refused",
]);
/** Larger buffers are given back after a burst. */
const KEEP_BYTES = 1024 * 1024;

/** The tail of a log that has no lines. */
export function emptyTail(): Tail {
  const head = { size: 0, root: EMPTY_ROOT, sealedAt: "", note: "" };
  return { size: 0, prev: FIRST_PREV, frontier: emptyFrontier(), head };
}

/** Goes on where `tail` ends. A log without lines begins with its genesis record, which names the key. */
export function openLog(parts: LogParts): AuditLog {
  const { store, signer, clock } = parts;
  const frontier = copyFrontier(parts.tail.frontier);
  let prev = parts.tail.prev;
  let head = parts.tail.head;
  let state: "writing" | "failed" = "writing";
  let closing = false;
  let inStore = false;
  let remembered: Promise<void> = Promise.resolve();
  let pending = createBatch();
  let writing: Batch | null = null;
  let spare: Buffer | undefined;
  const timeText = createTimeText();

  function append(entry: Entry): Receipt {
    if (state === "failed" || closing)
      throw unavailable(closing ? "the log is closed" : "the log has failed");
    const stamp = { at: timeText(clock.wallMs()), mono: String(clock.monoNs()), boot: clock.bootId() };
    const { data, text } = withoutSecrets(entry.kind, renderData(entry.data));
    const record = chain(stamp, entry.kind, data, text, roomFor(entry.kind));
    if (record === "full") throw noRoomFor(entry.kind);
    schedule();
    return { seq: record.seq, at: record.at, durable: pending.done.promise };
  }

  /** Numbers the record and puts it behind the others; refuses or throws before anything has changed. */
  function chain(stamp: Stamp, kind: string, data: Data, text: string, maxBytes: number): LogRecord | "full" {
    const record: LogRecord = { v: RECORD_VERSION, seq: frontier.size, ...stamp, kind, data, prev };
    const put = putLine(pending, renderLine(record, text), maxBytes);
    if ("refused" in put) {
      if (put.refused === "full") return "full";
      throw tooLarge(kind);
    }
    appendLeaf(frontier, put.leaf);
    prev = put.leaf;
    pending.records.push(record);
    return record;
  }

  function noRoomFor(kind: RecordKind): BoundaryError {
    const error = unavailable(`no room for a record of kind ${kind}: too many wait for the disk`);
    if (CAUSED_BY_OTHERS.has(kind)) return error;
    queueMicrotask(() => parts.onFailed(error)); // the caller is in the middle of a step
    giveUp(error);
    return error;
  }

  function schedule(): void {
    // After this turn's callbacks, so that everything that came in together goes to disk together.
    if (writing === null && pending.records.length === 1) setImmediate(flush);
  }

  function flush(): void {
    if (state === "failed" || writing !== null || pending.records.length === 0) return;
    try {
      const sealed = sealPending();
      const batch = pending;
      writing = batch;
      pending = createBatch(spare);
      spare = undefined;
      inStore = true;
      store
        .write(chunkOf(batch))
        .finally(() => {
          inStore = false;
        })
        .then(() => written(batch, sealed), fail);
    } catch (error) {
      fail(error);
    }
  }

  /**
   * The seal bears the time of the record before it: nothing signed would cover a time of its own until the next
   * seal, and the last line of a log could be altered unseen.
   */
  function sealPending(): Head {
    const last = pending.records.at(-1);
    if (!last) throw new BoundaryError("internal", "sealing an empty batch");
    const size = frontier.size;
    const rootNow = root(frontier);
    const note = signNote(renderCheckpoint({ origin: parts.origin, size, root: rootNow }), signer);
    const stamp = { at: last.at, mono: last.mono, boot: last.boot };
    const sealed = chain(stamp, "seal", { note }, renderCanonical({ note }), MAX_BATCH_BYTES);
    if (sealed === "full") throw new BoundaryError("internal", "no room for a seal");
    return { size, root: rootNow, sealedAt: last.at, note };
  }

  function written(batch: Batch, sealed: Head): void {
    if (state === "failed") return;
    const damage = store.damage();
    if (damage) {
      fail(new BoundaryError("log-broken", `the log was ${damage.what}: ${damage.detail}`));
      return;
    }
    writing = null;
    head = sealed;
    batch.done.resolve(); // whoever waits runs after this function
    if (batch.bytes.length <= KEEP_BYTES) spare = batch.bytes;
    if (pending.records.length > 0) setImmediate(flush);
    // These records are durable; but a head that is not remembered lets a cut tail pass.
    remembered = parts.head.remember(sealed.note).catch(fail);
    try {
      for (const record of batch.records) parts.onRecord?.(record);
    } catch (error) {
      fail(error);
    }
  }

  function fail(cause: unknown): void {
    if (state === "failed") return;
    const error = unavailable("writing the log", cause);
    giveUp(error);
    parts.onFailed(error);
  }

  function giveUp(error: BoundaryError): void {
    state = "failed";
    writing?.done.reject(error);
    pending.done.reject(error);
    writing = null;
  }

  function drain(): Promise<void> {
    if (state === "failed") return Promise.reject(unavailable("the log has failed"));
    if (pending.records.length > 0) return pending.done.promise;
    return writing ? writing.done.promise : Promise.resolve();
  }

  if (parts.tail.size === 0) append(genesis(parts.origin, signer.vkey));

  return {
    append,
    async seal() {
      await (pending.records.length > 0
        ? pending.done.promise
        : append({ kind: "log.alive", data: {} }).durable);
    },
    head: () => head,
    state: () => state,
    drain,
    async close() {
      closing = true;
      await drain().catch(() => undefined);
      await remembered;
      if (!inStore) store.close(); // the number of a file closed under a write may be another file's by then
    },
  };
}

function roomFor(kind: RecordKind): number {
  const most = MAX_BATCH_BYTES - SEAL_BYTES;
  return CAUSED_BY_OTHERS.has(kind) ? most - MACHINE_BYTES : most;
}

type Stamp = { readonly at: string; readonly mono: string; readonly boot: string };

/** `segment` counts up, and `key` changes, with each segment of the log. */
function genesis(origin: string, key: string): Entry {
  return { kind: "log.genesis", data: { format: 1, key, origin, segment: 0 } };
}

/** What came from outside may hold lone surrogates, which canonical JSON cannot: only then is the data copied. */
function renderData(data: Data): { data: Data; text: string } {
  try {
    return { data, text: renderCanonical(data) };
  } catch {
    const repaired = makeWellFormed(data);
    return { data: repaired, text: renderCanonical(repaired) };
  }
}

/** RFC 3339 of milliseconds; many records share one millisecond. */
function createTimeText(): (wallMs: number) => string {
  let lastMs = Number.NaN;
  let text = "";
  return (wallMs) => {
    if (wallMs !== lastMs) {
      text = new Date(wallMs).toISOString();
      lastMs = wallMs;
    }
    return text;
  };
}

function unavailable(doing: string, cause?: unknown): BoundaryError {
  return new BoundaryError("log-unavailable", doing, { cause });
}

function tooLarge(kind: string): BoundaryError {
  return new BoundaryError("record-too-large", `appending a record of kind ${kind}`);
}
