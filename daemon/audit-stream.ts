import { readLine } from "./audit/line.ts";
import { type AuditLog, openLog } from "./audit/log.ts";
import type { LogRecord } from "./audit/record.ts";
import {
  checkpointIn,
  coreIn,
  createSpans,
  MAX_RUNS,
  renderSpan,
  type Span,
  type Spans,
  spanIn,
} from "./audit/spans.ts";
import { verifyLog } from "./audit/verify.ts";
import { BoundaryError, renderErrorChain } from "./core/errors.ts";
import { isSegmentFull, type SegmentLimits } from "./core/rotation.ts";
import { type LogPlace, type Opened, openHistory } from "./open-log.ts";
import { paced } from "./paced.ts";
import type { Clock, HeadStore, LogStore } from "./ports.ts";
import type { AuditHead, AuditLines } from "./protocol/messages.ts";
import { type ReadBackPlace, readBack } from "./read-back.ts";

/**
 * The audit stream: a second log beside the core log, that says which kinds of records the core log has at which
 * numbers, and the checkpoints that seal them, for an auditor who may not read the records. docs/LOG_FORMAT.md has its
 * form.
 *
 * It follows the core log and never holds it up: nothing here is waited for before a decision, and what fails here is
 * told and does not close the host. The core log is the truth, and a stream can be made from it again.
 */
export type AuditStream = {
  /** Every record of the core log once it is durable, in order. Never throws: the log must not fail for it. */
  take(record: LogRecord): void;
  /** Opens the stream and makes the spans that are missing, beside the loop. Never rejects. */
  open(): Promise<void>;
  /** Once a heartbeat: what came since is written, as one batch. */
  tick(): void;
  /** Writes what is left and closes. Never rejects; after `take` has seen the core log's last record. */
  close(): Promise<void>;
  /** Rejects with BoundaryError("log-unavailable") when the stream could not be opened. */
  head(): Promise<AuditHead>;
  /** Durable lines from a number on, as many as fit into a frame. Rejects as `head`. */
  lines(from: number, limit: number): Promise<AuditLines>;
  state(): StreamState;
};

export type StreamState = {
  readonly kind: "opening" | "behind" | "writing" | "failed";
  /** The first number of the core log that is not covered yet. */
  readonly next: number;
  /** RFC 3339: the newest seal; "" when there is none. */
  readonly sealedAt: string;
  /** Why it failed; "" otherwise. */
  readonly why: string;
};

/** The core log as it was when it was opened. */
export type Core = {
  /** Genesis key (vkey). */
  readonly key: string;
  readonly origin: string;
  /** The next number. */
  readonly size: number;
  readonly head: { readonly size: number; readonly root: string };
  readonly files: ReadBackPlace;
};

export type StreamParts = {
  /** Makes the stream's directories, or checks them. */
  readonly prepare: () => void;
  /** The stream's own directories. */
  readonly place: LogPlace;
  readonly head: () => HeadStore;
  readonly store: (firstSeq: number) => LogStore;
  /** Lines of the stream's files, from a number up to and with another. */
  readonly lines: (from: number, through: number, limit: number) => readonly string[];
  /** The stream's newest line that `wanted` says yes to. */
  readonly lastLine: (wanted: (line: string) => boolean) => string | null;
  readonly core: Core;
  readonly clock: Clock;
  readonly limits: SegmentLimits;
  /** It is not as we left it, or cannot be written. At most once each. */
  readonly damaged: (what: string, detail: string) => void;
  /** A new stream has begun, and has to be made known in the core log. */
  readonly began: (data: { readonly key: string; readonly why: "first" | "broken" }) => void;
};

/** More than that is not held for a disk that does not answer: it is read from the core log's files again. */
const MAX_LIVE_RUNS = 20_000;

export function createAuditStream(parts: StreamParts): AuditStream {
  const { core, clock, limits } = parts;
  const opening = Promise.withResolvers<AuditHead["vkey"]>();
  opening.promise.catch(() => undefined); // whoever asks hears of it
  let live: Spans = createSpans();
  let log: AuditLog | null = null;
  let newest: Span | null = null; // the last one written
  let behindTo: number | null = core.size; // up to here the core log's files have to be read first
  let section: { readonly from: number } | null = null; // to be named before the next span
  let failed = "";
  let closing = false;
  let work: Promise<void> = Promise.resolve();
  let busy = false;

  function take(record: LogRecord): void {
    if (failed !== "") return;
    live.take(record);
    if (record.kind !== "seal" || live.runs() <= MAX_LIVE_RUNS) return;
    live = createSpans();
    behindTo = record.seq + 1;
  }

  /** One piece of work at a time; what it throws is the stream's end. */
  function run(task: () => Promise<void>): Promise<void> {
    busy = true;
    work = task()
      .catch((error: unknown) => fail("write-failed", renderErrorChain(error)))
      .finally(() => {
        busy = false;
      });
    return work;
  }

  function fail(what: string, detail: string): void {
    if (failed !== "") return;
    failed = detail;
    live = createSpans();
    opening.reject(new BoundaryError("log-unavailable", `opening the audit stream: ${detail}`));
    parts.damaged(what, detail);
  }

  async function begin(): Promise<void> {
    parts.prepare();
    const opened = await openHistory(gently(parts.place));
    newest = opened.tail.size === 0 ? null : newestSpan();
    log = logOn(opened);
    for (const finding of opened.findings) log.append(finding);
    const { history, ring } = opened;
    if (history.kind === "broken" || history.kind === "unreadable") parts.damaged("broken", history.why);
    if (opened.tail.size === 0)
      parts.began({ key: ring.genesis, why: history.kind === "none" ? "first" : "broken" });
    opening.resolve(ring.genesis);
    await follow();
  }

  function logOn({ store, signer, tail, ring }: Opened): AuditLog {
    return openLog({
      store,
      signer,
      head: parts.head(),
      clock,
      tail,
      origin: ring.origin,
      successor: { key: ring.prepareNext, store: parts.store, took: ring.promote },
      onFailed: (cause) => fail("write-failed", renderErrorChain(cause)),
    });
  }

  /** Null when the stream holds none, or none of the core log that it speaks of last. */
  function newestSpan(): Span | null {
    const line = parts.lastLine((each) => each.includes('"kind":"audit.') && spanOrCore(each) !== null);
    const found = line === null ? null : spanOrCore(line);
    return found !== null && "runs" in found ? found : null;
  }

  /** Everything that is durable in the core log and not in the stream yet. */
  async function follow(): Promise<void> {
    if (behindTo !== null) {
      const to = behindTo;
      if (!(await catchUp(to))) return;
      if (behindTo === to) behindTo = null; // otherwise so much came meanwhile that it was not held
    }
    if (behindTo === null) await write(live);
  }

  /** False when it was broken off, to be gone on with at the next start. */
  async function catchUp(to: number): Promise<boolean> {
    if (newest !== null && newest.last + 1 === to && newest.root === core.head.root) return true;
    const kept = core.files.segments()[0]?.firstSeq ?? 0;
    // without the record of the last checkpoint nobody can tell that it is the same core log
    const known = to > 0 && newest !== null && newest.size >= kept ? newest : null;
    if (known && (await cover(known.last + 1, to, known)) === "done") return true;
    if (closing) return false;
    section = { from: kept };
    return to === 0 || (await cover(kept, to, null)) === "done";
  }

  /**
   * Makes the spans of the core log's records from one number up to another, from its files. `after`: the span before
   * them; "another" when the core log does not hold its checkpoint.
   */
  async function cover(
    from: number,
    to: number,
    after: Span | null,
  ): Promise<"done" | "another" | "broken off"> {
    const spans = createSpans();
    let same = after === null;
    const onRecord = (record: LogRecord) => {
      if (record.seq === after?.size) same = isCheckpoint(record, after);
      if (record.seq >= from && record.seq < to) spans.take(record);
    };
    const between = async () => {
      if (same && spans.runs() >= MAX_RUNS) await write(spans);
      return closing || spans.next() >= to ? "stop" : "go-on";
    };
    const { begin: at, chunks } = readBack(core.files, core.origin, after?.size ?? from);
    const verdict = await verifyLog(paced(chunks, between), {
      vkey: core.key,
      begin: at ?? undefined,
      onRecord,
    });
    if (closing) return "broken off";
    if (!same) return "another";
    if (verdict.bad) throw new BoundaryError("log-broken", `reading the core log again: ${verdict.bad.what}`);
    await write(spans);
    if (from < to && spans.next() < to)
      throw new BoundaryError("log-broken", `reading the core log again: it ends before record ${to}`);
    return "done";
  }

  /** What is sealed of them, as one batch. Resolves when it is durable. */
  async function write(spans: Spans): Promise<void> {
    const found = spans.drain();
    if (found.length === 0 || log === null) return;
    if (section) {
      const { from } = section;
      log.append({
        kind: "audit.core",
        data: { key: core.key, from, began: from === 0 ? spans.began() : "" },
      });
      section = null;
    }
    const receipts = found.map((span) =>
      (log as AuditLog).append({ kind: "audit.span", data: renderSpan(span) }),
    );
    newest = found.at(-1) ?? newest;
    await receipts.at(-1)?.durable;
  }

  function tick(): void {
    if (log === null || failed !== "" || busy || closing) return;
    const damage = log.damage();
    if (damage) fail(damage.what, damage.detail);
    else
      void run(async () => {
        await follow();
        if (log && isSegmentFull(log.segment(), limits, clock.wallMs())) await log.rotate();
      });
  }

  async function close(): Promise<void> {
    closing = true;
    await work;
    if (failed === "" && behindTo === null) await run(() => write(live));
    await log?.close();
  }

  return {
    take,
    open: () => run(begin),
    tick,
    close,
    async head() {
      const vkey = await opening.promise;
      const { size = 0, note = "" } = log?.head() ?? {};
      return { vkey, size, note };
    },
    async lines(from, limit) {
      await opening.promise;
      const head = log?.head();
      return { lines: head && head.note !== "" ? parts.lines(from, head.size, limit) : [] };
    },
    state: () => ({
      kind: failed !== "" ? "failed" : log === null ? "opening" : behindTo === null ? "writing" : "behind",
      next: newest === null ? 0 : newest.last + 1,
      sealedAt: log?.head().sealedAt ?? "",
      why: failed,
    }),
  };
}

function isCheckpoint(record: LogRecord, { root }: Span): boolean {
  return record.kind === "seal" && checkpointIn(record.data["note"])?.root === root;
}

function spanOrCore(line: string): Span | ReturnType<typeof coreIn> {
  const read = readLine(line);
  return read.ok ? (spanIn(read.record) ?? coreIn(read.record)) : null;
}

/** Reading the stream is no reason to hold the loop up. */
function gently(place: LogPlace): LogPlace {
  return {
    ...place,
    read: () => paced(place.read()),
    readEnd: () => {
      const end = place.readEnd();
      return end && { ...end, chunks: () => paced(end.chunks()) };
    },
  };
}
