import { BoundaryError } from "../core/errors.ts";
import type { Clock, HeadStore, LogStore, Signer } from "../ports.ts";
import { type Batch, chunkOf, createBatch, putLine } from "./batch.ts";
import { makeWellFormed, renderCanonical } from "./canonical.ts";
import { renderCheckpoint, signNote } from "./checkpoint.ts";
import { emptyFold, type Fold, fold as foldOf } from "./fold.ts";
import { grantsParts } from "./grant-parts.ts";
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
  MAX_RECORD_BYTES,
  RECORD_VERSION,
  type RecordKind,
} from "./record.ts";
import { withoutSecrets } from "./redaction.ts";
import { renderSnapshot } from "./snapshot.ts";

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
  /**
   * Ends the segment and begins the next one, under the next key. What is appended meanwhile waits for neither. Resolves
   * when the new segment's beginning is durable and the old key is erased. Rejects when no next key could be made (the
   * log goes on as before) and when the log fails.
   */
  rotate(): Promise<void>;
  /** The open segment: the one that is appended to. */
  segment(): Segment;
  /** The key (vkey) that signs the next seal. */
  vkey(): string;
  /** The fold of all records appended so far, durable or not. */
  fold(): Fold;
  /** What is wrong with the open segment's file, or null. */
  damage(): ReturnType<LogStore["damage"]>;
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

/** One file of the log. */
export type Segment = {
  /** 0 for the first. */
  readonly number: number;
  readonly firstSeq: number;
  /** RFC 3339: its first record's time; "" when it has none yet. */
  readonly since: string;
  /** Bytes that are in the file. */
  readonly bytes: number;
};

/** Where a log ends: what an opener needs to go on. */
export type Tail = {
  /** Number of lines: the next record's seq. */
  readonly size: number;
  /** Leaf hash of the last line. */
  readonly prev: string;
  /** Over all lines. */
  readonly frontier: Frontier;
  readonly fold: Fold;
  readonly head: Head;
  readonly segment: Segment;
  /** The key (vkey) of the next segment, when the last one has ended and the next has not begun; otherwise null. */
  readonly certified: string | null;
  /** The seq of the newest snapshot; 0 when there is none. */
  readonly snapshotSeq: number;
};

/** Where the next segment's key and file come from. */
export type Successor = {
  /** Makes the key, durable when it returns. */
  key(): Signer;
  store(firstSeq: number): LogStore;
  /** The new segment's beginning is durable: the old key can go. */
  took(): void;
};

export type LogParts = {
  readonly store: LogStore;
  readonly signer: Signer;
  readonly head: HeadStore;
  readonly clock: Clock;
  readonly tail: Tail;
  /** The checkpoints' origin: the name in the signer's vkey. */
  readonly origin: string;
  /** Without one this log stays in one segment. */
  readonly successor?: Successor;
  /** Every record once it is durable, seals included, in order. */
  readonly onRecord?: (record: LogRecord) => void;
  /** Once, at the first failure; never from within `append`, whose caller may be in the middle of a step. */
  readonly onFailed: (cause: BoundaryError) => void;
};

/** The most that waits for the disk. */
export const MAX_BATCH_BYTES = 4 * 1024 * 1024;
/** The tokens and leases that go with a snapshot, at their bounds (core/token.ts, core/lease.ts), are within this. */
export const MAX_STATE_BYTES = 3.5 * 1024 * 1024;
/** The most that a crash can leave on disk without its seal. */
const MAX_UNSEALED_BYTES = MAX_BATCH_BYTES + MAX_STATE_BYTES;
/** Room kept in every batch for its end: a snapshot, the next key, the seal. */
const END_BYTES = 72 * 1024;
/** A snapshot after so many records: some 20 ms of a start. */
const SNAPSHOT_EVERY = 4_096;
/** And one more for so many bytes of tokens: what a snapshot costs stays a part of what the records cost. */
const SNAPSHOT_LATER_BYTES = 128;
/** Room kept for the machine's own records: a flood of requests must not keep a trip out of the log. */
const MACHINE_BYTES = 1024 * 1024;
/** What is left of a record for a snapshot. */
const MAX_SNAPSHOT_BYTES = MAX_RECORD_BYTES - 1024;
/** What a peer, or somebody outside, can cause as often as he likes. */
const CAUSED_BY_OTHERS: ReadonlySet<RecordKind> = new Set<RecordKind>([
  "decision",
  "decision.repeated",
  "policy.untaken",
  "request.refused",
  "limit.blocked",
  "approval.requested",
  "tripwire.noted",
  "tripwire.repeated",
  "ceremony.refused",
  "token.minted",
  "token.narrowed",
  "token.used",
  "token.revoked",
  "token.expiring",
  "lease.requested",
  "lease.granted",
  "lease.ended",
  "lease.suspended",
  "lease.resumed",
]);
/** Larger buffers are given back after a burst. */
const KEEP_BYTES = 1024 * 1024;

/** The tail of a log that has no lines. */
export function emptyTail(): Tail {
  const head = { size: 0, root: EMPTY_ROOT, sealedAt: "", note: "" };
  const segment = { number: 0, firstSeq: 0, since: "", bytes: 0 };
  return {
    size: 0,
    prev: FIRST_PREV,
    frontier: emptyFrontier(),
    fold: emptyFold(),
    head,
    segment,
    certified: null,
    snapshotSeq: 0,
  };
}

/**
 * Goes on where `tail` ends. A log without lines begins with its genesis record, which names the key; where the tail's
 * last segment has ended, the next one begins, and `signer` and `store` are its own.
 */
export function openLog(parts: LogParts): AuditLog {
  const { clock, successor } = parts;
  const frontier = copyFrontier(parts.tail.frontier);
  let { store, signer } = parts;
  let { prev, fold, segment, snapshotSeq } = parts.tail;
  let turn: { readonly done: PromiseWithResolvers<void>; certified: boolean } | null = null; // a rotation
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
    const { data, text } = withoutSecrets(entry.kind, renderData(entry.data));
    const record = chain(stampNow(), entry.kind, data, text, roomFor(entry.kind) + pending.stateBytes);
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
    fold = foldOf(fold, record);
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
    if (state === "failed" || writing !== null) return;
    try {
      const next = turn !== null && !turn.certified ? nextSegment() : null;
      if (pending.records.length === 0) return;
      const sealed = sealPending();
      const batch = pending;
      writing = batch;
      pending = createBatch(spare);
      spare = undefined;
      if (next) beginSegment(next);
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

  /** The next key, certified as the batch's last record. Null when there is none to be had: then all stays as it is. */
  function nextSegment(): Signer | null {
    try {
      if (!successor) throw new BoundaryError("internal", "rotating a log that has no successor");
      const next = successor.key();
      const data = { key: next.vkey, segment: segment.number + 1 };
      if (chain(stampNow(), "log.rotated", data, renderCanonical(data), MAX_UNSEALED_BYTES) === "full")
        throw new BoundaryError("internal", "no room for the next key");
      pending.place = "ends";
      if (turn) turn.certified = true;
      return next;
    } catch (error) {
      endTurn(error);
      return null;
    }
  }

  /** Its first record: from here on the old key signs nothing more. */
  function beginSegment(next: Signer): void {
    signer = next;
    segment = { number: segment.number + 1, firstSeq: frontier.size, since: "", bytes: 0 };
    pending.place = "begins";
    const entry = { format: 1, key: next.vkey, origin: parts.origin, segment: segment.number };
    const stamp = stampNow();
    segment = { ...segment, since: stamp.at };
    const data = { ...entry, snapshot: renderSnapshot({ fold, frontier: copyFrontier(frontier) }) };
    snapshotSeq = frontier.size;
    const fits = Buffer.byteLength(renderCanonical(data)) <= MAX_SNAPSHOT_BYTES;
    const held: Data = fits ? data : entry;
    chain(stamp, "log.segment", held, renderCanonical(held), MAX_UNSEALED_BYTES);
    if (fits) chainGrants(stamp);
  }

  /** Right after the snapshot, in its batch: what it promises is there with it, or neither is. */
  function chainGrants(stamp: Stamp): void {
    const before = pending.length;
    for (const data of grantsParts(fold.grants)) {
      if (chain(stamp, "token.state", data, renderCanonical(data), MAX_UNSEALED_BYTES) === "full")
        throw new BoundaryError("internal", "no room for the tokens of a snapshot");
    }
    pending.stateBytes += pending.length - before;
  }

  /** What a start goes on from without reading everything before; left out when it does not fit into a record. */
  function snapshot(stamp: Stamp): void {
    const later = Math.floor(fold.grants.tokenBytes / SNAPSHOT_LATER_BYTES);
    if (frontier.size - snapshotSeq < SNAPSHOT_EVERY + later) return;
    snapshotSeq = frontier.size;
    const data = renderSnapshot({ fold, frontier: copyFrontier(frontier) });
    const text = renderCanonical(data);
    if (Buffer.byteLength(text) > MAX_SNAPSHOT_BYTES) return;
    chain(stamp, "log.snapshot", data, text, MAX_UNSEALED_BYTES);
    chainGrants(stamp);
  }

  function stampNow(): Stamp {
    return { at: timeText(clock.wallMs()), mono: String(clock.monoNs()), boot: clock.bootId() };
  }

  /**
   * The seal bears the time of the record before it: nothing signed would cover a time of its own until the next
   * seal, and the last line of a log could be altered unseen.
   */
  function sealPending(): Head {
    const last = pending.records.at(-1);
    if (!last) throw new BoundaryError("internal", "sealing an empty batch");
    const stamp = { at: last.at, mono: last.mono, boot: last.boot };
    if (pending.place !== "ends") snapshot(stamp);
    const size = frontier.size;
    const rootNow = root(frontier);
    const note = signNote(renderCheckpoint({ origin: parts.origin, size, root: rootNow }), signer);
    const sealed = chain(stamp, "seal", { note }, renderCanonical({ note }), MAX_UNSEALED_BYTES);
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
    try {
      placed(batch);
    } catch (error) {
      batch.done.resolve(); // it is durable, whatever comes next
      fail(error);
      return;
    }
    batch.done.resolve(); // whoever waits runs after this function
    if (batch.bytes.length <= KEEP_BYTES) spare = batch.bytes;
    if (pending.records.length > 0 || turn !== null) setImmediate(flush);
    // These records are durable; but a head that is not remembered lets a cut tail pass.
    remembered = parts.head.remember(sealed.note).catch(fail);
    try {
      for (const record of batch.records) parts.onRecord?.(record);
    } catch (error) {
      fail(error);
    }
  }

  /** A segment's last batch is followed by another file; its first one by the end of the old key. */
  function placed(batch: Batch): void {
    const bytes = batch.length - 1;
    if (batch.place === "ends" && successor) {
      const ended = store;
      store = successor.store(segment.firstSeq); // first: what it takes of a full disk, the ended one has kept for us
      ended.finish();
      return;
    }
    segment = { ...segment, bytes: segment.bytes + bytes };
    if (batch.place !== "begins") return;
    successor?.took();
    turn?.done.resolve();
    turn = null;
  }

  function endTurn(error: unknown): void {
    turn?.done.reject(error);
    turn = null;
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
    endTurn(error);
    writing = null;
  }

  function rotate(): Promise<void> {
    if (state === "failed" || closing) return Promise.reject(unavailable("rotating the log"));
    if (turn === null) {
      turn = { done: Promise.withResolvers<void>(), certified: false };
      turn.done.promise.catch(() => undefined); // that nobody waits is no fault
      if (writing === null) setImmediate(flush);
    }
    return turn.done.promise;
  }

  function drain(): Promise<void> {
    if (state === "failed") return Promise.reject(unavailable("the log has failed"));
    if (pending.records.length > 0) return pending.done.promise;
    return writing ? writing.done.promise : Promise.resolve();
  }

  if (parts.tail.size === 0) {
    const { at } = append(genesis(parts.origin, signer.vkey));
    segment = { ...segment, since: at };
  } else if (parts.tail.certified !== null) {
    beginSegment(signer);
    setImmediate(flush);
  }

  return {
    append,
    rotate,
    segment: () => segment,
    vkey: () => signer.vkey,
    fold: () => fold,
    damage: () => store.damage(),
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
      if (turn && !turn.certified) endTurn(unavailable("the log is closed"));
      await drain().catch(() => undefined);
      await remembered;
      if (!inStore) store.close(); // the number of a file closed under a write may be another file's by then
    },
  };
}

function roomFor(kind: RecordKind): number {
  const most = MAX_BATCH_BYTES - END_BYTES;
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
