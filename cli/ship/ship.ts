import { setTimeout as sleep } from "node:timers/promises";
import { readKey } from "../../daemon/audit/known.ts";
import { readLine } from "../../daemon/audit/line.ts";
import { createPruned, type PrunedEnd } from "../../daemon/audit/pruned.ts";
import { BoundaryError, renderErrorChain } from "../../daemon/core/errors.ts";
import { readLogFiles, segmentFiles } from "../log-files.ts";
import { segmentOf } from "../segment-begin.ts";
import { backoffMs } from "./backoff.ts";
import type { Cursor, CursorStore } from "./cursor.ts";
import { type Position, type ProvenBatch, START } from "./follow.ts";
import type { Sink } from "./sink.ts";
import { asideNote, walkLog } from "./walk.ts";

/** What happened, for a person or a program that watches. Record numbers are `seq`. */
export type ShipEvent =
  | { readonly event: "from-start"; readonly why: string }
  | { readonly event: "from-cursor"; readonly next: number }
  /** Pruned here before they were handed over: records `from` to `to` will not come. */
  | { readonly event: "gap"; readonly from: number; readonly to: number }
  | { readonly event: "confirmed"; readonly through: number; readonly records: number }
  | { readonly event: "retry"; readonly inMs: number; readonly why: string }
  /** We were told to stop and could not see the last of it arrive: the next start sends it again. */
  | { readonly event: "unconfirmed"; readonly why: string };

export type ShipParts = {
  readonly directory: string;
  /** The log's genesis key. */
  readonly vkey: string;
  readonly sink: Sink;
  readonly cursor: CursorStore;
  /** once: to the log's present end, one attempt. follow: until `signal`. */
  readonly mode: "once" | "follow";
  readonly signal: AbortSignal;
  readonly tell: (event: ShipEvent) => void;
  readonly pace: Pace;
};

export type Pace = {
  /** Between looks for more, at the end of the log. */
  readonly pollMs: number;
  /** What was handed over is confirmed after this long, or this many bytes of lines. */
  readonly confirmMs: number;
  readonly confirmBytes: number;
  /** Before the next attempt, after so many failed ones. */
  readonly retryMs: (failures: number) => number;
};

export const PACE: Pace = {
  pollMs: 500,
  confirmMs: 10_000,
  confirmBytes: 64 * 1024 * 1024,
  retryMs: (failures) => backoffMs(failures, Math.random()),
};

/**
 * Hands a log over to a sink, in order and at least once; the log itself is the buffer. Throws BoundaryError:
 * "log-broken" and "log-unsafe" as walkLog does (with all before it handed over), "state-unwritable" for the cursor,
 * "key-invalid", with `once` also what the sink rejects with.
 */
export async function shipLog(parts: ShipParts): Promise<void> {
  if (parts.mode === "once" && (await segmentFiles(parts.directory)).length === 0) {
    throw new BoundaryError("log-unsafe", `there is no log in ${parts.directory}`);
  }
  let confirmed = await locate(parts);
  let failures = 0;
  const progress = (after: Position): void => {
    [confirmed, failures] = [after, 0];
  };
  for (;;) {
    try {
      if ((await shipFrom(parts, confirmed, progress)) === "done") return;
      confirmed = await locate(parts); // the cursor is now in what was pruned: from what is kept
    } catch (error) {
      if (parts.mode === "once" || !isOfSink(error)) throw error;
      if (parts.signal.aborted) return parts.tell({ event: "unconfirmed", why: renderErrorChain(error) });
      const inMs = parts.pace.retryMs(++failures);
      parts.tell({ event: "retry", inMs, why: renderErrorChain(error) });
      await pause(inMs, parts.signal);
      if (parts.signal.aborted) return;
    } finally {
      await parts.sink.close();
    }
  }
}

function isOfSink(error: unknown): boolean {
  return error instanceof BoundaryError && (error.code === "ship-failed" || error.code === "ship-untrusted");
}

/** Where to go on: after the cursor when it is in this log and signed, else at the start of what there is. */
async function locate(parts: ShipParts): Promise<Position> {
  const end = await prunedEnd(parts);
  const kept = end?.standing.tree.size ?? 0;
  const cursor = parts.cursor.load();
  if (typeof cursor === "string") return fromStart(parts, kept, cursor);
  if (cursor === null) return fromStart(parts, kept, "there is no cursor");
  // the cursor's seal is itself handed over
  if (cursor.size + 1 < kept) {
    parts.tell({ event: "gap", from: cursor.size + 1, to: kept - 1 });
    parts.tell({ event: "from-start", why: "the cursor is in what was pruned" });
    return START;
  }
  if (end !== null && isAtEnd(cursor, end)) return fromCursor(parts, kept, START);
  const found = await find(parts, cursor);
  return typeof found === "string"
    ? fromStart(parts, kept, `${found}${await asideNote(parts.directory)}`)
    : fromCursor(parts, cursor.size + 1, found);
}

/** What the tombstones come to; null where there are none. Throws BoundaryError("log-broken") for a bad one. */
async function prunedEnd({ directory, vkey }: ShipParts): Promise<PrunedEnd | null> {
  const pruned = createPruned(vkey);
  for await (const chunk of readLogFiles(directory)) if (!pruned.take(chunk)) break;
  const end = pruned.end();
  if (end !== null && "code" in end)
    throw new BoundaryError("log-broken", `reading the log ${directory}: ${end.what}`);
  return end;
}

/** Whether the cursor is the last seal before what was kept. */
function isAtEnd(cursor: Cursor, end: PrunedEnd): boolean {
  const seal = readLine(end.seal);
  return seal.ok && seal.record.data["note"] === cursor.note;
}

function fromStart({ tell }: ShipParts, kept: number, why: string): Position {
  tell({ event: "from-start", why });
  if (kept > 0) tell({ event: "gap", from: 0, to: kept - 1 });
  return START;
}

function fromCursor({ tell }: ShipParts, next: number, position: Position): Position {
  tell({ event: "from-cursor", next });
  return position;
}

/**
 * The position after the cursor's seal; a text: why it is not in this log. Its segment is enough: the first record
 * there is a leaf of the cursor's tree, and what it says is as true as the cursor.
 */
async function find(parts: ShipParts, cursor: Cursor): Promise<Position | string> {
  const segment = await segmentOf(parts.directory, cursor.size, readKey(parts.vkey).name);
  const start = segment === null ? START : { ...segment, byte: 0 };
  try {
    for await (const step of walkLog(parts, start, cursor.size)) {
      if (step.kind !== "batch" || parts.signal.aborted) return "the log ends before the cursor";
      // a note that the log has sealed, byte for byte, by the key in force: so is its signature
      if (step.batch.size === cursor.size && step.batch.note === cursor.note) return step.batch.after;
      if (step.batch.size >= cursor.size) break;
    }
  } catch (error) {
    // told when all before it has been handed over, which is once more from the start
    if (error instanceof BoundaryError && error.code === "log-broken")
      return "the log is broken before the cursor";
    throw error;
  }
  return "the cursor's seal is not in this log";
}

/**
 * Ships from a position on; `progress` hears of each position that everything before has been confirmed. "pruned": what
 * comes next is no longer there.
 */
async function shipFrom(
  parts: ShipParts,
  start: Position,
  progress: (after: Position) => void,
): Promise<"done" | "pruned"> {
  const { sink, pace, signal } = parts;
  let batch: ProvenBatch | null = null; // the newest that is not confirmed
  let [records, bytes, sinceMs] = [0, 0, 0];

  async function confirm(): Promise<void> {
    if (batch === null) return;
    await sink.confirm();
    const { note, size, after } = batch;
    parts.cursor.save({ note, size, to: sink.name, file: after.file, byte: after.byte });
    progress(after);
    parts.tell({ event: "confirmed", through: size, records });
    [batch, records, bytes] = [null, 0, 0];
  }

  async function hand(over: ProvenBatch): Promise<void> {
    if (batch === null) sinceMs = performance.now();
    await sink.write(over.lines);
    batch = over;
    records += over.lines.length;
    bytes += over.lines.reduce((sum, line) => sum + line.text.length, 0);
  }

  try {
    for await (const step of walkLog(parts, start)) {
      if (step.kind === "batch") await hand(step.batch);
      const due = performance.now() - sinceMs >= pace.confirmMs || bytes >= pace.confirmBytes;
      const leaving = signal.aborted || (step.kind === "end" && parts.mode === "once");
      if (due || leaving || step.kind === "pruned") await confirm();
      if (leaving) return "done";
      if (step.kind === "end") await pause(pace.pollMs, signal);
    }
  } catch (error) {
    if (!isOfSink(error)) await confirm();
    throw error;
  }
  return "pruned";
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await sleep(ms, undefined, { signal }).catch(() => undefined); // aborted: whoever waits looks at the signal
}
