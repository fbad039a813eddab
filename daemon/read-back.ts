import { readLine } from "./audit/line.ts";
import { beginOf } from "./audit/parts.ts";
import { beginAt } from "./audit/recover.ts";
import { isSnapshotLine } from "./audit/snapshot.ts";
import type { Chunk } from "./audit/split.ts";
import type { Begin } from "./audit/verify.ts";
import { BoundaryError } from "./core/errors.ts";

/** A log's files, as far as reading them again goes. */
export interface ReadBackPlace {
  /** In order. */
  segments(): readonly { readonly file: string; readonly firstSeq: number }[];
  /** A segment's first line, without its "\n". */
  firstLine(file: string): string | null;
  /** The newest line of the last segment that is a snapshot and that `wanted` says yes to. */
  snapshot(
    wanted: (line: string) => boolean,
  ): { readonly file: string; readonly byte: number; readonly line: string } | null;
  /** From a byte of a segment on, then all later segments. */
  read(place: { readonly file: string; readonly byte: number }): AsyncIterable<Chunk>;
}

/** What a verification is given to go on from there; `begin` null: the log's beginning. */
export type ReadBack = { readonly begin: Begin | null; readonly chunks: AsyncIterable<Chunk> };

/**
 * The log from a record on, or from not long before it: a snapshot in the last segment, otherwise the beginning of the
 * segment. `origin`: the log's name. Throws BoundaryError("log-broken") when that record is not there any more.
 */
export function readBack(place: ReadBackPlace, origin: string, seq: number): ReadBack {
  const segments = place.segments();
  const at = segments.findLastIndex(({ firstSeq }) => firstSeq <= seq);
  if (at === segments.length - 1) {
    const near = fromSnapshot(place, seq);
    if (near) return near;
  }
  for (const { file, firstSeq } of segments.slice(0, at + 1).toReversed()) {
    const chunks = place.read({ file, byte: 0 });
    if (firstSeq === 0) return { begin: null, chunks };
    const first = readLine(place.firstLine(file) ?? "");
    const begin = first.ok ? beginOf(first.record, origin) : null; // null: its snapshot did not fit into the record
    if (begin) return { begin, chunks };
  }
  throw new BoundaryError("log-broken", `reading the log again from record ${seq}: it is not there`);
}

function fromSnapshot(place: ReadBackPlace, seq: number): ReadBack | null {
  const found = place.snapshot((line) => isSnapshotLine(line) && seqOf(line) <= seq);
  const first = found && place.firstLine(found.file);
  const key = first ? keyIn(first) : null;
  const begin = found && first && key !== null ? beginAt({ first, snapshot: found.line }, key) : null;
  return found && begin ? { begin, chunks: place.read(found) } : null;
}

function seqOf(line: string): number {
  const read = readLine(line);
  return read.ok ? read.record.seq : Number.POSITIVE_INFINITY;
}

/** The key that a segment's first line names: this process verified it when it opened the log. */
function keyIn(line: string): string | null {
  const read = readLine(line);
  const key = read.ok ? read.record.data["key"] : undefined;
  return typeof key === "string" ? key : null;
}
