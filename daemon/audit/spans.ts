import { parseCheckpoint, parseNote } from "./checkpoint.ts";
import type { Data, LogRecord, Value } from "./record.ts";

/**
 * The audit stream's view of the core log: which kinds of records stand at which numbers, and the checkpoint that
 * seals them. Never a record's data. docs/LOG_FORMAT.md, "The audit stream".
 */
export type Span = {
  readonly first: number;
  readonly last: number;
  /** In order, without a hole, from `first` to `last`. */
  readonly runs: readonly Run[];
  /** The core log's tree at the seal that covers the runs: `last` when that seal is the last of them. */
  readonly size: number;
  /** Hex. */
  readonly root: string;
};

/** Records of one kind, one after the other. */
export type Run = readonly [kind: string, first: number, last: number];

/** Which core log the spans after it are of. */
export type CoreLog = {
  /** Its genesis key (vkey). */
  readonly key: string;
  /** The first record that is covered; above 0 when what was before had been pruned. */
  readonly from: number;
  /** Leaf hash of its record 0, which tells apart two logs of one key; "" when that was not seen. */
  readonly began: string;
};

/** A line of so many runs, escaped as JSON once more, fits into a frame: a kind has at most 64 characters. */
export const MAX_RUNS = 400;

export type Spans = {
  /** Records in order, each number once; what follows a hole begins anew and drops what was held. */
  take(record: Pick<LogRecord, "seq" | "kind" | "data" | "prev">): void;
  /** Everything up to the newest seal, in spans; what is after it is kept. Throws TypeError for a seal without a checkpoint. */
  drain(): readonly Span[];
  /** How many runs are held. */
  runs(): number;
  /** The leaf hash of record 0; "" when it has not come by. */
  began(): string;
  /** The next number that it takes; -1 before the first. */
  next(): number;
};

/** Collects records into spans. Holds a run for each change of kind, not a record. */
export function createSpans(): Spans {
  let sealed: Open[] = []; // a seal comes after them
  let open: Open[] = [];
  let note: Value | undefined;
  let began = "";
  let next = -1;

  function take(record: Pick<LogRecord, "seq" | "kind" | "data" | "prev">): void {
    const { seq, kind } = record;
    if (seq !== next) {
      sealed = [];
      open = [];
    }
    next = seq + 1;
    if (seq === 1) began = record.prev;
    // in place: this is on the way of every decision
    const last = open.at(-1);
    if (last?.kind === kind) last.last = seq;
    else open.push({ kind, first: seq, last: seq });
    if (kind === "seal") close(record.data["note"]);
  }

  function close(found: Value | undefined): void {
    for (const run of open) {
      const last = sealed.at(-1);
      if (last?.kind === run.kind) last.last = run.last;
      else sealed.push(run);
    }
    open = [];
    note = found;
  }

  function drain(): readonly Span[] {
    if (sealed.length === 0) return [];
    const checkpoint = checkpointIn(note);
    if (checkpoint === null) throw new TypeError("a seal of the log without a checkpoint");
    const all = sealed.map(({ kind, first, last }): Run => [kind, first, last]);
    const spans = inPieces(all).map((runs) => ({
      first: runs[0]?.[1] ?? 0,
      last: runs.at(-1)?.[2] ?? 0,
      runs,
      ...checkpoint,
    }));
    sealed = [];
    return spans;
  }

  return { take, drain, runs: () => sealed.length + open.length, began: () => began, next: () => next };
}

/** A run that may still grow. */
type Open = { readonly kind: string; readonly first: number; last: number };

function inPieces(runs: readonly Run[]): readonly (readonly Run[])[] {
  const count = Math.ceil(runs.length / MAX_RUNS);
  return Array.from({ length: count }, (_, at) => runs.slice(at * MAX_RUNS, (at + 1) * MAX_RUNS));
}

/** Tree size and root of a seal's note, its signature unseen; null when it is none. */
export function checkpointIn(
  note: Value | undefined,
): { readonly size: number; readonly root: string } | null {
  const parsed = typeof note === "string" ? parseNote(note) : null;
  const checkpoint = parsed?.ok ? parseCheckpoint(parsed.value.text) : null;
  return checkpoint?.ok ? { size: checkpoint.value.size, root: checkpoint.value.root } : null;
}

/** As it stands in a record. */
export function renderSpan({ first, last, runs, size, root }: Span): Data {
  return { first, last, runs, size, root };
}

/** The span that a record `audit.span` holds; null when it holds none whose runs fit together. */
export function spanIn({ kind, data }: Pick<LogRecord, "kind" | "data">): Span | null {
  const { first, last, runs, size, root } = data;
  if (kind !== "audit.span" || typeof first !== "number" || typeof last !== "number") return null;
  if (typeof size !== "number" || typeof root !== "string" || !/^[0-9a-f]{64}$/.test(root)) return null;
  if (!Array.isArray(runs) || first < 0 || size < last) return null;
  let next = first;
  const read: Run[] = [];
  for (const run of runs as readonly Value[]) {
    const found = runIn(run, next);
    if (found === null) return null;
    read.push(found);
    next = found[2] + 1;
  }
  return next === last + 1 && read.length > 0 ? { first, last, runs: read, size, root } : null;
}

function runIn(value: Value, next: number): Run | null {
  if (!Array.isArray(value) || value.length !== 3) return null;
  const [kind, first, last] = value as readonly Value[];
  if (typeof kind !== "string" || first !== next || typeof last !== "number" || last < next) return null;
  return [kind, next, last];
}

/** What a record `audit.core` says; null for any other. */
export function coreIn({ kind, data }: Pick<LogRecord, "kind" | "data">): CoreLog | null {
  const { key, from, began } = data;
  if (kind !== "audit.core" || typeof key !== "string" || typeof from !== "number" || from < 0) return null;
  return typeof began === "string" ? { key, from, began } : null;
}
