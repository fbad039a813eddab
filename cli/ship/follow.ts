import type { Seen } from "../../daemon/audit/anomaly.ts";
import { readKey } from "../../daemon/audit/known.ts";
import type { Chunk } from "../../daemon/audit/split.ts";
import type { Bad, BadCode, Proven } from "../../daemon/audit/verdict.ts";
import { type Begin, createVerification } from "../../daemon/audit/verify.ts";
import type { ProvenLine } from "./sink.ts";

/**
 * A place right after a proven seal, where a segment begins, or the log's start (`begin` null, `file` ""): what is
 * known of the log before it, and the first byte that was not read.
 */
export type Position = { readonly begin: Begin | null; readonly file: string; readonly byte: number };

/** Lines up to and including a good seal. `note` is the seal's, `size` the tree's that it signs. */
export type ProvenBatch = {
  readonly lines: readonly ProvenLine[];
  readonly note: string;
  readonly size: number;
  readonly after: Position;
};

/** What a chunk brought: batches, and after them perhaps what is wrong first. */
export type Followed = { readonly batches: readonly ProvenBatch[]; readonly fault: Bad | null };

/** Verifies a log as it grows. After a fault it takes nothing more. */
export type Follower = {
  push(chunk: Chunk): Followed;
  /** What is wrong if nothing more comes. */
  fault(): Bad | null;
};

/** Where a log begins: nothing is known but its genesis key. */
export const START: Position = { begin: null, file: "", byte: 0 };

/** A log that has no line yet may get some; whether a pruning was recorded is known at a log's end, and this one grows. */
const NOT_YET: readonly BadCode[] = ["log-empty", "pruned-unrecorded"];

type Kept = { readonly seen: Seen; readonly text: string };

/**
 * Follows a log from a position on and gives out what is proven: verify-log's verification, chunk by chunk. `cutAt`: a
 * batch ends at the seal with this number, if there is one. Throws BoundaryError("key-invalid").
 */
export function createFollower(vkey: string, begin: Begin | null, cutAt: number | null = null): Follower {
  let lines: Kept[] = [];
  let seals: Proven[] = [];
  const verification = createVerification(readKey(vkey), {
    vkey,
    begin: begin ?? undefined,
    onLine: (seen, { text }) => lines.push({ seen, text: text ?? "" }),
    onSeal: (proves) => seals.push(proves),
  });

  function push(chunk: Chunk): Followed {
    const went = verification.feed(chunk);
    const settled = verification.settle();
    const fault = went === "stop" || settled === "stop" ? verification.finish().bad : null;
    return { batches: takeProven(verification.proven()?.seq ?? -1), fault };
  }

  /** One batch up to the newest proven seal; two where `cutAt` lies within. */
  function takeProven(through: number): readonly ProvenBatch[] {
    const proven = seals.filter(({ seq }) => seq <= through);
    seals = seals.slice(proven.length);
    const ends = proven.filter((seal, at) => at === proven.length - 1 || seal.seq === cutAt);
    return ends.map(takeBatch);
  }

  function takeBatch(end: Proven): ProvenBatch {
    const next = lines.findIndex(({ seen }) => seen.record.seq > end.seq);
    const [taken, rest] = next === -1 ? [lines, []] : [lines.slice(0, next), lines.slice(next)];
    lines = rest;
    const last = taken.at(-1)?.seen;
    return {
      lines: taken.map(({ seen, text }) => ({ record: seen.record, text })),
      note: end.tail.head.note,
      size: end.tail.head.size,
      after: { begin: beginAfter(end, last), file: end.file, byte: end.endByte },
    };
  }

  return {
    push,
    fault() {
      const { bad } = verification.finish();
      return bad === null || NOT_YET.includes(bad.code) ? null : bad;
    },
  };
}

/** What is known after a proven seal. */
function beginAfter({ tail, key }: Proven, last: Seen | undefined): Begin {
  const { prev, frontier, fold, certified, segment } = tail;
  const epoch = { vkey: key, segment: segment.number, firstSeq: segment.firstSeq, since: segment.since };
  const due = certified === null ? null : { vkey: certified, verifier: readKey(certified) };
  return { frontier, prev, fold, epoch, due, ...(last && { last }) };
}
