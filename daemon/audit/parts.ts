import { renderCanonical } from "./canonical.ts";
import { parseVkey } from "./checkpoint.ts";
import type { LogRecord } from "./record.ts";
import { renderSnapshot, snapshotIn } from "./snapshot.ts";
import type { Bad, Gap, Verdict } from "./verdict.ts";
import { type Begin, MAX_GAPS, MAX_WARNINGS } from "./verify.ts";

/**
 * A log in parts, a segment each, that can be verified side by side: what a segment's first record says of the time
 * before it is taken as given, and once all are done it is held against what the part before came to. What is sound in
 * parts is sound as a whole. Anything else is for one reading in order to explain.
 */
export type Part = {
  /** Null: the log's beginning. */
  readonly begin: Begin | null;
  readonly verdict: Verdict;
};

/** Where a segment's first record says that it begins; null when it is no such record, or has no snapshot. */
export function beginOf(record: LogRecord, origin: string): Begin | null {
  const snapshot = snapshotIn(record);
  const { key, format, segment, origin: named, ...more } = record.data;
  if (record.kind !== "log.segment" || snapshot === null || format !== 1 || named !== origin) return null;
  if (typeof key !== "string" || typeof segment !== "number" || Object.keys(more).length !== 1) return null;
  const parsed = parseVkey(key);
  if (!parsed.ok || parsed.value.name !== origin) return null;
  const epoch = { vkey: key, segment, firstSeq: record.seq, since: record.at };
  return { ...snapshot, prev: record.prev, epoch };
}

/** The verdict on the whole; null when the parts do not fit together, or one of them is not sound. */
export function joinParts(parts: readonly Part[]): Verdict | null {
  const last = parts.at(-1)?.verdict;
  if (
    !last ||
    last.trustworthyUpTo === null ||
    last.bad !== null ||
    last.verdict === "broken" ||
    parts[0]?.begin !== null
  )
    return null;
  for (const [at, part] of parts.entries()) {
    const next = parts[at + 1];
    if (next && (part.verdict.verdict !== "sound" || next.begin === null || !fits(part.verdict, next.begin)))
      return null;
  }
  const verdicts = parts.map(({ verdict }) => verdict);
  return {
    ...last,
    seals: verdicts.reduce((sum, { seals }) => sum + seals, 0),
    firstAt: verdicts[0]?.firstAt ?? "",
    gaps: verdicts.flatMap(({ gaps }): readonly Gap[] => gaps).slice(0, MAX_GAPS),
    warnings: verdicts.flatMap(({ warnings }) => warnings).slice(0, MAX_WARNINGS),
    keys: verdicts.flatMap(({ keys }) => keys),
    bad: null satisfies Bad | null,
  };
}

/** Whether one part ends where the next says that it begins: number, tree, chain, state and key. */
export function fits({ trustworthyUpTo: end }: Verdict, begin: Begin): boolean {
  if (end === null) return false;
  const { tail } = end;
  return (
    tail.certified === begin.epoch.vkey &&
    tail.segment.number + 1 === begin.epoch.segment &&
    tail.size === begin.epoch.firstSeq &&
    tail.size === begin.frontier.size &&
    tail.prev === begin.prev &&
    renderCanonical(renderSnapshot(tail)) === renderCanonical(renderSnapshot(begin))
  );
}
