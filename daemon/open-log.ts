import { parseNote } from "./audit/checkpoint.ts";
import type { Fold } from "./audit/fold.ts";
import { emptyFold } from "./audit/fold.ts";
import { emptyTail, type Tail } from "./audit/log.ts";
import type { Entry } from "./audit/record.ts";
import { type LogEnd, type Recovery, recoverLog } from "./audit/recover.ts";
import type { Chunk } from "./audit/split.ts";
import { BoundaryError } from "./core/errors.ts";
import type { History } from "./core/start.ts";
import type { KeyRing, LogStore, Signer } from "./ports.ts";

/** The log's directory, the state directory's key and remembered head: what a start needs of the disk. */
export interface LogPlace {
  read(): AsyncIterable<Chunk>;
  /** The log's end, from its newest snapshot on; null when there is none. */
  readEnd(): LogEnd | null;
  cut(place: { readonly file: string; readonly byte: number; readonly seq: number }): string;
  /** Moves the segments aside, as evidence; returns where. */
  quarantine(): string;
  create(firstSeq: number): LogStore;
  open(file: string, size: number): LogStore;
  hasSegments(): boolean;
  /** All there is is a first segment without a byte. */
  isUnwritten(): boolean;
  head():
    | { readonly kind: "missing" }
    | { readonly kind: "note"; readonly note: string }
    | { readonly kind: "unreadable"; readonly why: string };
  /** Durably: a power cut must not bring it back. */
  forgetHead(): void;
  /** Throws BoundaryError("key-unreadable") when there is one that cannot be read. */
  key():
    | { readonly kind: "loaded"; readonly ring: KeyRing }
    | { readonly kind: "missing" }
    | { readonly kind: "empty" };
  /** What else an earlier daemon left here; names, for a person to read. Empty before a first start. */
  traces(): readonly string[];
  createKey(): KeyRing;
}

export type Opened = {
  readonly history: History;
  readonly fold: Fold;
  readonly tail: Tail;
  readonly store: LogStore;
  readonly ring: KeyRing;
  /** The key to go on with: the ring's next one where the log's last segment has ended. */
  readonly signer: Signer;
  /** What the start has to record about the log itself. */
  readonly findings: readonly Entry[];
};

/**
 * Opens the log, and says what it tells of the time before. A log that is not exactly as we left it is never gone on
 * with in silence: it is LOCKDOWN, the old files stay as evidence, and the new log begins by saying so.
 * Throws when the disk cannot be read or written, or the key cannot be read: then there can be no daemon.
 */
export async function openHistory(place: LogPlace): Promise<Opened> {
  const head = headOf(place);
  const exists = place.hasSegments();
  const ring = keyOf(place, exists, head);
  if (!ring) {
    const why = whyNoFirstStart(place, exists, head);
    if (why === null) return begin(place, place.createKey(), { kind: "none" }, []);
    return restart(place, place.createKey(), why, head);
  }
  if (!exists && head.kind === "missing") {
    return begin(
      place,
      ring,
      { kind: "unreadable", why: "there is a key, but neither a log nor a remembered head" },
      [],
    );
  }
  if (neverBegan(place, ring, head)) return begin(place, ring, { kind: "none" }, []);
  const recovery = await recover(place, ring, head.kind === "note" ? head.note : null, place.cut);
  if (recovery.kind === "foreign-head") return restart(place, ring, recovery.why, head);
  switch (recovery.kind) {
    case "none":
      return restart(place, ring, "the log is empty", head);
    case "broken": {
      const { code, what, file, byte, seq } = recovery.bad;
      return restart(place, ring, `${code}: ${what} (record ${seq}, ${file}, byte ${byte})`, head);
    }
    case "sound":
    case "recovered":
      return goOn(place, ring, recovery, head);
  }
}

/** A head that is not this log's at all says as much as one that the log does not reach: no start may fail over it. */
async function recover(
  place: Pick<LogPlace, "read" | "readEnd">,
  ring: KeyRing,
  head: string | null,
  cut: LogPlace["cut"],
): Promise<Recovery | { readonly kind: "foreign-head"; readonly why: string }> {
  const { read, readEnd } = place;
  try {
    return await recoverLog({ read, readEnd, cut, vkey: ring.genesis, current: ring.current().vkey, head });
  } catch (error) {
    if (!(error instanceof BoundaryError && error.code === "head-invalid")) throw error;
    return { kind: "foreign-head", why: error.message };
  }
}

/** What is remembered, if it is a note at all: bytes that are none are as good as an unreadable file. */
function headOf(place: Pick<LogPlace, "head">): ReturnType<LogPlace["head"]> {
  const head = place.head();
  return head.kind === "note" && !parseNote(head.note).ok
    ? { kind: "unreadable", why: "it holds no signed note" }
    : head;
}

/** Null when there is none. A file of no bytes is none as long as nothing is there that was signed with a key. */
function keyOf(
  place: Pick<LogPlace, "key">,
  exists: boolean,
  head: ReturnType<LogPlace["head"]>,
): KeyRing | null {
  const found = place.key();
  if (found.kind === "loaded") return found.ring;
  if (found.kind === "empty" && (exists || head.kind !== "missing")) {
    throw new BoundaryError("key-unreadable", "the log's key is empty, and there is a log signed with it");
  }
  return null;
}

/** Without a key: whether somebody took it away, or there never was one (null). */
function whyNoFirstStart(
  place: Pick<LogPlace, "traces">,
  exists: boolean,
  head: ReturnType<LogPlace["head"]>,
): string | null {
  if (exists || head.kind !== "missing") return "the log's key is missing";
  const traces = place.traces();
  return traces.length === 0
    ? null
    : `log, key and remembered head are missing, but not ${traces.join(", ")}`;
}

/**
 * A first start that failed before its first batch: key and segment were made, and nothing was ever sealed. Only where
 * the genesis key still signs: whoever has that could write any log, so emptying one gains him nothing. A first start
 * that came further has left a baseline, or its head.
 */
function neverBegan(
  place: Pick<LogPlace, "isUnwritten" | "traces">,
  ring: KeyRing,
  head: ReturnType<LogPlace["head"]>,
): boolean {
  const rotated = ring.next() !== null || ring.current().vkey !== ring.genesis;
  if (head.kind !== "missing" || rotated || !place.isUnwritten()) return false;
  return place.traces().every((name) => name === GENESIS_FILE);
}

/** Made together with the first key. */
const GENESIS_FILE = "log.vkey";

/**
 * What the log tells of the time before, without touching anything: for `--close`. A start would come to the same mode, but
 * for one after a first start that failed: that host is kept closed until one succeeds.
 */
export async function readHistory(
  place: Omit<LogPlace, "quarantine" | "create" | "open" | "createKey" | "forgetHead" | "isUnwritten">,
): Promise<History> {
  const head = headOf(place);
  const exists = place.hasSegments();
  const ring = keyOf(place, exists, head);
  if (!ring) {
    const why = whyNoFirstStart(place, exists, head);
    return why === null ? { kind: "none" } : { kind: "broken", why };
  }
  if (head.kind !== "note") return { kind: "unreadable", why: `the remembered head is ${head.kind}` };
  const recovery = await recover(place, ring, head.note, () => "");
  if (recovery.kind === "foreign-head") return { kind: "broken", why: recovery.why };
  if (recovery.kind === "sound" || recovery.kind === "recovered")
    return historyOf(recovery.fold, recovery.kind);
  return { kind: "broken", why: recovery.kind === "broken" ? recovery.bad.what : "the log is empty" };
}

/** The log goes on where it ended. Without a head to hold against it, a cut tail could not be seen: LOCKDOWN. */
function goOn(
  place: LogPlace,
  ring: KeyRing,
  recovery: Extract<Recovery, { kind: "sound" | "recovered" }>,
  head: ReturnType<LogPlace["head"]>,
): Opened {
  const { fold, tail, kind } = recovery;
  const signer = takeUp(ring, recovery);
  if (signer === null) return restart(place, ring, "the log goes on under a key that is not here", head);
  const ended = tail.certified !== null;
  const store = ended ? place.create(tail.size) : place.open(recovery.file, recovery.endByte);
  const findings = kind === "recovered" ? [tornEnd(recovery.savedAs, recovery.verdict.unsealed.bytes)] : [];
  const history =
    head.kind === "note"
      ? historyOf(fold, kind)
      : withoutHead(fold, head.kind === "unreadable" ? head.why : null);
  return { history, fold, tail, store, ring, signer, findings };
}

/**
 * The key that the log goes on with, however far a rotation had come when we ended: not certified, and it never was;
 * certified, and its segment has to begin; in use, and the old key has to go. Null when it is none of ours.
 */
function takeUp(
  ring: KeyRing,
  { key, tail }: Extract<Recovery, { kind: "sound" | "recovered" }>,
): Signer | null {
  const [current, next] = [ring.current(), ring.next()];
  if (tail.certified !== null) return key === current.vkey && next?.vkey === tail.certified ? next : null;
  if (key === current.vkey) {
    if (next) ring.discardNext();
    return current;
  }
  if (key !== next?.vkey) return null;
  ring.promote();
  return ring.current();
}

function tornEnd(savedAs: string, bytes: number): Entry {
  return { kind: "log.recovered", data: { ended: "torn", savedAs, bytes } };
}

function withoutHead({ epoch, frozen }: Fold, unreadable: string | null): History {
  const why =
    unreadable === null
      ? "the remembered head is missing"
      : `the remembered head cannot be read: ${unreadable}`;
  return { kind: "unreadable", why, epoch, frozen };
}

function historyOf(fold: Fold, ended: "sound" | "recovered"): History {
  const { wanted, epoch, frozen, lastAt, hold, parameterBoot, releasedBoot } = fold;
  const held = { hold, parameterBoot, releasedBoot };
  if (fold.unreadable !== "")
    return { kind: "unreadable", why: `the log's ${fold.unreadable} cannot be read`, epoch, frozen };
  // Bytes after a clean stop were not written by us: not clean.
  if (ended === "sound" && fold.stop === "clean" && wanted !== null)
    return { kind: "clean", wanted, epoch, frozen, held };
  return { kind: "crash", wanted: wanted ?? "LOCKDOWN", epoch, frozen, held, lastAt };
}

/** The old files are moved aside and a new log begins, in LOCKDOWN. Its genesis key is the key that we have. */
function restart(place: LogPlace, ring: KeyRing, why: string, head: ReturnType<LogPlace["head"]>): Opened {
  const movedTo = place.hasSegments() ? place.quarantine() : "";
  const remembered = head.kind === "note" ? head.note : "";
  const genesis = ring.genesis;
  place.forgetHead(); // it is of the log that was moved; the finding below keeps it
  const finding: Entry = {
    kind: "log.recovered",
    data: { ended: "broken", why, movedTo, remembered, genesis },
  };
  return begin(place, ring, { kind: "broken", why }, [finding]);
}

function begin(place: LogPlace, ring: KeyRing, history: History, findings: readonly Entry[]): Opened {
  if (ring.genesis !== ring.current().vkey) ring.rebase(); // a new log begins under the key that we have
  const store = place.create(0);
  return { history, fold: emptyFold(), tail: emptyTail(), store, ring, signer: ring.current(), findings };
}
