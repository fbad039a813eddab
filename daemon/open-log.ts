import { parseNote } from "./audit/checkpoint.ts";
import type { Fold } from "./audit/fold.ts";
import { emptyFold } from "./audit/fold.ts";
import { emptyTail, type Tail } from "./audit/log.ts";
import type { Entry } from "./audit/record.ts";
import { type Recovery, recoverLog } from "./audit/recover.ts";
import type { Chunk } from "./audit/split.ts";
import { BoundaryError } from "./core/errors.ts";
import type { History } from "./core/start.ts";
import type { LogStore, Signer } from "./ports.ts";

/** The log's directory, the state directory's key and remembered head: what a start needs of the disk. */
export interface LogPlace {
  read(): AsyncIterable<Chunk>;
  cut(place: { readonly file: string; readonly byte: number; readonly seq: number }): string;
  /** Moves the segments aside, as evidence; returns where. */
  quarantine(): string;
  create(firstSeq: number): LogStore;
  open(file: string, size: number): LogStore;
  hasSegments(): boolean;
  head():
    | { readonly kind: "missing" }
    | { readonly kind: "note"; readonly note: string }
    | { readonly kind: "unreadable"; readonly why: string };
  /** Throws BoundaryError("key-unreadable") when there is one that cannot be read. */
  key():
    | { readonly kind: "loaded"; readonly key: LogKey }
    | { readonly kind: "missing" }
    | { readonly kind: "empty" };
  /** What else an earlier daemon left here; names, for a person to read. Empty before a first start. */
  traces(): readonly string[];
  createKey(): LogKey;
}

export type LogKey = { readonly signer: Signer; readonly origin: string };

export type Opened = {
  readonly history: History;
  readonly fold: Fold;
  readonly tail: Tail;
  readonly store: LogStore;
  readonly key: LogKey;
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
  const key = keyOf(place, exists, head);
  if (!key) {
    const why = whyNoFirstStart(place, exists, head);
    if (why === null) return begin(place, place.createKey(), { kind: "none" }, []);
    return restart(place, place.createKey(), why, head);
  }
  if (!exists && head.kind === "missing") {
    return begin(
      place,
      key,
      { kind: "unreadable", why: "there is a key, but neither a log nor a remembered head" },
      [],
    );
  }
  const note = head.kind === "note" ? head.note : null;
  const recovery = await recoverLog({ read: place.read, cut: place.cut, vkey: key.signer.vkey, head: note });
  switch (recovery.kind) {
    case "none":
      return restart(place, key, "the log is empty", head);
    case "broken": {
      const { code, what, file, byte, seq } = recovery.bad;
      return restart(place, key, `${code}: ${what} (record ${seq}, ${file}, byte ${byte})`, head);
    }
    case "sound":
    case "recovered":
      return goOn(place, key, recovery, head);
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
): LogKey | null {
  const found = place.key();
  if (found.kind === "loaded") return found.key;
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

/** What the log tells of the time before, without touching anything: for `--close`. A start would come to the same mode. */
export async function readHistory(
  place: Omit<LogPlace, "quarantine" | "create" | "open" | "createKey">,
): Promise<History> {
  const head = headOf(place);
  const exists = place.hasSegments();
  const key = keyOf(place, exists, head);
  if (!key) {
    const why = whyNoFirstStart(place, exists, head);
    return why === null ? { kind: "none" } : { kind: "broken", why };
  }
  if (head.kind !== "note") return { kind: "unreadable", why: `the remembered head is ${head.kind}` };
  const recovery = await recoverLog({
    read: place.read,
    cut: () => "",
    vkey: key.signer.vkey,
    head: head.note,
  });
  if (recovery.kind === "sound" || recovery.kind === "recovered")
    return historyOf(recovery.fold, recovery.kind);
  return { kind: "broken", why: recovery.kind === "broken" ? recovery.bad.what : "the log is empty" };
}

/** The log goes on where it ended. Without a head to hold against it, a cut tail could not be seen: LOCKDOWN. */
function goOn(
  place: LogPlace,
  key: LogKey,
  recovery: Extract<Recovery, { kind: "sound" | "recovered" }>,
  head: ReturnType<LogPlace["head"]>,
): Opened {
  const { fold, tail, file, endByte } = recovery;
  const store = place.open(file, endByte);
  const findings: Entry[] =
    recovery.kind === "recovered"
      ? [
          {
            kind: "log.recovered",
            data: { ended: "torn", savedAs: recovery.savedAs, bytes: recovery.verdict.unsealed.bytes },
          },
        ]
      : [];
  if (head.kind !== "note") {
    const why =
      head.kind === "missing"
        ? "the remembered head is missing"
        : `the remembered head cannot be read: ${head.why}`;
    const { epoch, frozen } = fold;
    return { history: { kind: "unreadable", why, epoch, frozen }, fold, tail, store, key, findings };
  }
  return { history: historyOf(fold, recovery.kind), fold, tail, store, key, findings };
}

function historyOf(fold: Fold, ended: "sound" | "recovered"): History {
  const { wanted, epoch, frozen, lastAt } = fold;
  if (fold.unreadable !== "")
    return { kind: "unreadable", why: `the log's ${fold.unreadable} cannot be read`, epoch, frozen };
  // Bytes after a clean stop were not written by us: not clean.
  if (ended === "sound" && fold.stop === "clean" && wanted !== null)
    return { kind: "clean", wanted, epoch, frozen };
  return { kind: "crash", wanted: wanted ?? "LOCKDOWN", epoch, frozen, lastAt };
}

/** The old files are moved aside and a new log begins, in LOCKDOWN. */
function restart(place: LogPlace, key: LogKey, why: string, head: ReturnType<LogPlace["head"]>): Opened {
  const movedTo = place.hasSegments() ? place.quarantine() : "";
  const remembered = head.kind === "note" ? head.note : "";
  const finding: Entry = { kind: "log.recovered", data: { ended: "broken", why, movedTo, remembered } };
  return begin(place, key, { kind: "broken", why }, [finding]);
}

function begin(place: LogPlace, key: LogKey, history: History, findings: readonly Entry[]): Opened {
  return { history, fold: emptyFold(), tail: emptyTail(), store: place.create(0), key, findings };
}
