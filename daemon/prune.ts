import { bury } from "./audit/bury.ts";
import { genesisStanding, type Standing } from "./audit/certificate.ts";
import { readLine } from "./audit/line.ts";
import type { AuditLog } from "./audit/log.ts";
import { beginOf } from "./audit/parts.ts";
import { createPruned } from "./audit/pruned.ts";
import type { LogRecord } from "./audit/record.ts";
import type { Chunk } from "./audit/split.ts";
import type { Begin } from "./audit/verify.ts";
import { BoundaryError } from "./core/errors.ts";

/** The log's files, as far as pruning goes. */
export interface PrunePlace {
  /** In order. */
  segments(): readonly { readonly file: string; readonly firstSeq: number }[];
  /** A segment's first line, without its "\n". */
  firstLine(file: string): string | null;
  /** A segment, and then all later ones. */
  read(file: string): AsyncIterable<Chunk>;
  /** Tombstones that stand for segments that are gone, then all segments. */
  readAll(): AsyncIterable<Chunk>;
  /** Durable when it returns; one that a broken-off pruning left is replaced. */
  saveTombstone(firstSeq: number, text: string): void;
  removeSegment(firstSeq: number): void;
}

export type PruneOrder = {
  readonly keptDays: number;
  readonly by: number;
  /** CLOCK_REALTIME, ms. */
  readonly nowMs: number;
};

/** `through`: the first record that is kept. */
export type Pruning = { readonly segments: number; readonly through: number };

const DAY_MS = 86_400_000;

/**
 * Removes the segments whose last record is older than `keptDays`, oldest first, never the open one. Each is verified
 * before, and leaves a tombstone; the log says so, durably, before anything is gone. What a crash breaks off, the next
 * pruning finishes. Throws BoundaryError("log-broken") when a segment is not sound: it is evidence, and stays.
 */
export async function prune(
  place: PrunePlace,
  log: Pick<AuditLog, "append">,
  vkey: string,
  order: PruneOrder,
): Promise<Pruning> {
  const all = place.segments();
  const beginnings = all.map(({ file }) => firstRecord(place, file));
  const old = all.filter((_segment, at) =>
    endedBefore(beginnings[at + 1], order.nowMs - order.keptDays * DAY_MS),
  );
  const through = all[old.length]?.firstSeq ?? 0;
  if (old.length === 0) return { segments: 0, through };
  let standing = await standingOf(place, vkey);
  for (const [at, { file, firstSeq }] of old.entries()) {
    const chunks = only(file, place.read(file));
    const begin = firstSeq === 0 ? null : begins(beginnings[at], standing);
    const next = begins(beginnings[at + 1], standing);
    const burial = await bury(chunks, { vkey, standing, begin, next });
    place.saveTombstone(firstSeq, burial.tombstone);
    standing = burial.standing;
  }
  const { by, keptDays } = order;
  await log.append({ kind: "log.pruned", data: { by: String(by), keptDays, segments: old.length, through } })
    .durable;
  for (const { firstSeq } of old) place.removeSegment(firstSeq);
  return { segments: old.length, through };
}

async function* only(file: string, chunks: AsyncIterable<Chunk>): AsyncGenerator<Chunk> {
  for await (const chunk of chunks) {
    if (chunk.file !== file) return;
    yield chunk;
  }
}

/** A segment's last record is not newer than the next one's first. */
function endedBefore(next: LogRecord | undefined, ms: number): boolean {
  return next !== undefined && Date.parse(next.at) < ms;
}

function firstRecord(place: PrunePlace, file: string): LogRecord {
  const line = place.firstLine(file);
  const read = line === null ? null : readLine(line);
  if (!read?.ok) throw new BoundaryError("log-broken", `pruning: the first line of ${file} cannot be read`);
  return read.record;
}

function begins(record: LogRecord | undefined, { key }: Standing): Begin {
  const begin = record ? beginOf(record, key.name) : null;
  if (begin === null)
    throw new BoundaryError("log-broken", "pruning: a segment does not say what came before it");
  return begin;
}

/** What holds where the oldest kept segment begins. */
async function standingOf(place: PrunePlace, vkey: string): Promise<Standing> {
  const graves = createPruned(vkey);
  for await (const chunk of place.readAll()) if (!graves.take(chunk)) break;
  const end = graves.end();
  if (end && "code" in end) throw new BoundaryError("log-broken", `pruning: ${end.what}`);
  if (end) return end.standing;
  const start = genesisStanding(vkey);
  if (!start.ok) throw new BoundaryError("key-invalid", `pruning: ${start.why}`);
  return start.value;
}
