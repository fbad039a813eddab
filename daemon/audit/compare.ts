import type { LogRecord } from "./record.ts";
import { type CoreLog, checkpointIn, coreIn, type Run, type Span, spanIn } from "./spans.ts";

/** What the audit stream says of one core log: its spans in order, and where each stands in the stream. */
export type Section = {
  readonly core: CoreLog;
  readonly spans: readonly (Span & { readonly seq: number })[];
};

/** Where stream and core log part. `core`: the number in the core log; `stream`: that of the stream's record. */
export type Difference = { readonly core: number; readonly stream: number; readonly what: string };

export type Comparison = {
  /** How many numbers of the core log the stream speaks of, of those that are still there. */
  readonly compared: number;
  /** The stream covers them, and the core log has pruned them: nothing can be said. */
  readonly pruned: number;
  /** The core log goes on after what the stream covers, which is no difference: it follows a moment later. */
  readonly ahead: number;
  readonly difference: Difference | null;
};

/** Takes the stream's records, verified apart, in order, and gives its sections. Records that cannot be read are faults. */
export function createSections(): {
  take(record: LogRecord): void;
  sections(): readonly Section[];
  fault(): Difference | null;
} {
  const sections: { core: CoreLog; spans: (Span & { seq: number })[] }[] = [];
  let fault: Difference | null = null;

  function take(record: LogRecord): void {
    if (fault !== null || (record.kind !== "audit.core" && record.kind !== "audit.span")) return;
    const core = coreIn(record);
    if (core) {
      sections.push({ core, spans: [] });
      return;
    }
    const span = spanIn(record);
    const section = sections.at(-1);
    if (!span || !section) {
      const what = span
        ? "a span before any record audit.core"
        : "a record of the stream that cannot be read";
      fault = { core: span?.first ?? 0, stream: record.seq, what };
      return;
    }
    const next = (section.spans.at(-1)?.last ?? section.core.from - 1) + 1;
    if (span.first !== next) fault = { core: next, stream: record.seq, what: holeOrOverlap(span, next) };
    section.spans.push({ ...span, seq: record.seq });
  }

  return { take, sections: () => sections, fault: () => fault };
}

function holeOrOverlap({ first }: Span, next: number): string {
  return first > next
    ? `the stream says nothing of records ${next} to ${first - 1}`
    : `the stream speaks of record ${first} twice`;
}

/**
 * The section that is of this core log: by its record 0, or, where that was pruned or never seen, the newest of its key.
 * `began`: leaf hash of the core log's record 0, null when it is not there.
 */
export function sectionOf(
  sections: readonly Section[],
  { key, began }: { readonly key: string; readonly began: string | null },
): Section | null {
  const ofKey = sections.filter((each) => each.core.key === key);
  const exact = ofKey.findLast((each) => began !== null && each.core.began === began);
  const open = ofKey.findLast((each) => began === null || each.core.began === "");
  return exact ?? open ?? null;
}

/** Holds a section against the core log's records, which come in order, verified apart. */
export function createComparison({ core, spans }: Section): {
  take(record: LogRecord): void;
  end(): Comparison;
} {
  const walk = createWalk(spans);
  const checkpoints = bySize(spans);
  let difference: Difference | null = null;
  let firstSeq = -1;
  let lastSeq = -1;
  let compared = 0;

  function take(record: LogRecord): void {
    if (firstSeq === -1) firstSeq = record.seq;
    lastSeq = record.seq;
    difference ??= kindFault(record) ?? checkpointFault(record, checkpoints.get(record.seq) ?? []);
  }

  function kindFault({ seq, kind }: LogRecord): Difference | null {
    const said = walk.at(seq);
    if (said === null) return null;
    compared++;
    if (said.kind === kind) return null;
    const what = `the stream says ${said.kind}, the core log has ${kind}`;
    return { core: seq, stream: said.seq, what };
  }

  function end(): Comparison {
    const last = spans.at(-1)?.last ?? core.from - 1;
    const pruned = firstSeq === -1 ? 0 : Math.max(0, Math.min(firstSeq, last + 1) - core.from);
    return {
      compared,
      pruned,
      ahead: Math.max(0, lastSeq - last),
      difference: difference ?? missing(last),
    };
  }

  function missing(last: number): Difference | null {
    const span = spans.find((each) => each.size > lastSeq);
    if (span === undefined) return null;
    const what = `the core log ends at record ${lastSeq}, the stream covers it up to ${last}`;
    return { core: lastSeq + 1, stream: span.seq, what };
  }

  return { take, end };
}

type Placed = Section["spans"][number];

/** Every checkpoint that the stream names has to be a seal of the core log, with that root. */
function checkpointFault(record: LogRecord, spans: readonly Placed[]): Difference | null {
  if (spans.length === 0) return null;
  const found = record.kind === "seal" ? checkpointIn(record.data["note"]) : null;
  const wrong = spans.find((span) => span.root !== found?.root);
  if (wrong === undefined) return null;
  const what = found
    ? `the stream's checkpoint of ${wrong.size} records has another root than the core log's`
    : "the core log has no seal where the stream says so";
  return { core: record.seq, stream: wrong.seq, what };
}

function bySize(spans: readonly Placed[]): ReadonlyMap<number, readonly Placed[]> {
  const found = new Map<number, Placed[]>();
  for (const span of spans) found.set(span.size, [...(found.get(span.size) ?? []), span]);
  return found;
}

/** Looks up numbers that only go up. */
function createWalk(spans: Section["spans"]): {
  at(seq: number): { readonly kind: string; readonly seq: number } | null;
} {
  let span = 0;
  let run = 0;
  return {
    at(seq) {
      for (; span < spans.length; span++, run = 0) {
        const { runs, seq: place } = spans[span] as Placed;
        while (run < runs.length && (runs[run] as Run)[2] < seq) run++;
        const found = runs[run];
        if (found) return found[1] <= seq ? { kind: found[0], seq: place } : null;
      }
      return null;
    },
  };
}
