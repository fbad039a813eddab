import { setTimeout as sleep } from "node:timers/promises";
import { parseNote, verifyNote } from "../../daemon/audit/checkpoint.ts";
import { BoundaryError, renderErrorChain } from "../../daemon/core/errors.ts";
import { backoffMs } from "./backoff.ts";
import type { Cursor, CursorStore } from "./cursor.ts";
import type { KnownKey, Position, ProvenBatch } from "./follow.ts";
import type { Sink } from "./sink.ts";
import { listLog } from "./tail.ts";
import { firstKept, walkLog } from "./walk.ts";

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
  readonly key: KnownKey;
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
 * with `once` also what the sink rejects with.
 */
export async function shipLog(parts: ShipParts): Promise<void> {
  if (parts.mode === "once" && (await listLog(parts.directory)).segments.length === 0) {
    throw new BoundaryError("log-unsafe", `there is no log in ${parts.directory}`);
  }
  let confirmed = await locate(parts);
  let failures = 0;
  const progress = (after: Position): void => {
    [confirmed, failures] = [after, 0];
  };
  for (;;) {
    try {
      return await shipFrom(parts, confirmed, progress);
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
  const first = await firstKept(parts.directory, parts.key);
  const cursor = parts.cursor.load();
  if (typeof cursor === "string") return fromStart(parts, first, cursor);
  if (cursor === null) return fromStart(parts, first, "there is no cursor");
  const kept = first.frontier.size;
  // the cursor's seal is itself handed over
  if (cursor.size + 1 < kept) {
    parts.tell({ event: "gap", from: cursor.size + 1, to: kept - 1 });
    return fromStart(parts, first, "the cursor is in what was pruned");
  }
  if (cursor.size + 1 === kept && first.last?.data["note"] === cursor.note) return fromCursor(parts, first);
  const found = await find(parts, first, cursor);
  return typeof found === "string" ? fromStart(parts, first, found) : fromCursor(parts, found);
}

function fromStart({ tell }: ShipParts, first: Position, why: string): Position {
  tell({ event: "from-start", why });
  if (first.frontier.size > 0) tell({ event: "gap", from: 0, to: first.frontier.size - 1 });
  return first;
}

function fromCursor({ tell }: ShipParts, position: Position): Position {
  tell({ event: "from-cursor", next: position.frontier.size });
  return position;
}

/** The position after the cursor's seal; a text: why it is not in this log. */
async function find(
  { directory, signal }: ShipParts,
  first: Position,
  cursor: Cursor,
): Promise<Position | string> {
  try {
    for await (const step of walkLog(directory, first, cursor.size)) {
      if (step.kind === "end" || signal.aborted) return "the log ends before the cursor";
      if (step.batch.size > cursor.size) return "the cursor's seal is not in this log";
      if (step.batch.size === cursor.size) return matches(step.batch, cursor);
    }
  } catch (error) {
    // told when all before it has been handed over, which is once more from the start
    if (error instanceof BoundaryError && error.code === "log-broken")
      return "the log is broken before the cursor";
    throw error;
  }
  return "the cursor's seal is not in this log";
}

/** The seal there has been checked; the cursor's own signature is as well, in case its text differs. */
function matches(batch: ProvenBatch, cursor: Cursor): Position | string {
  const sealed = batch.lines.at(-1)?.record.seq === cursor.size;
  const note = parseNote(cursor.note);
  const signer = batch.after.key.verifier;
  if (!note.ok || !verifyNote(signer, note.value).ok) return "the cursor's signature is wrong";
  return sealed && batch.note === cursor.note ? batch.after : "the cursor's seal is not in this log";
}

/** Ships from a position on; `progress` hears of each position that everything before has been confirmed. */
async function shipFrom(
  parts: ShipParts,
  start: Position,
  progress: (after: Position) => void,
): Promise<void> {
  const { sink, pace, signal } = parts;
  let batch: ProvenBatch | null = null; // the newest that is not confirmed
  let [records, bytes, sinceMs] = [0, 0, 0];

  async function confirm(): Promise<void> {
    if (batch === null) return;
    await sink.confirm();
    const { note, size, after } = batch;
    parts.cursor.save({ note, size, to: sink.name, file: after.file, byte: after.byte });
    progress(after);
    parts.tell({ event: "confirmed", through: after.frontier.size - 1, records });
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
    for await (const step of walkLog(parts.directory, start)) {
      if (step.kind === "batch") await hand(step.batch);
      const due = performance.now() - sinceMs >= pace.confirmMs || bytes >= pace.confirmBytes;
      const leaving = signal.aborted || (step.kind === "end" && parts.mode === "once");
      if (due || leaving) await confirm();
      if (leaving) return;
      if (step.kind === "end") await pause(pace.pollMs, signal);
    }
  } catch (error) {
    if (!isOfSink(error)) await confirm();
    throw error;
  }
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await sleep(ms, undefined, { signal }).catch(() => undefined); // aborted: whoever waits looks at the signal
}
