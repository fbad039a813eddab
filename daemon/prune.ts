import { bury } from "./audit/bury.ts";
import { genesisStanding, type Standing } from "./audit/certificate.ts";
import { readLine } from "./audit/line.ts";
import { beginOf } from "./audit/parts.ts";
import { createPruned } from "./audit/pruned.ts";
import type { Entry, LogRecord } from "./audit/record.ts";
import type { Chunk } from "./audit/split.ts";
import type { Begin } from "./audit/verify.ts";
import { BoundaryError } from "./core/errors.ts";
import { paced } from "./paced.ts";

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
 * Removes the oldest segments, as far as all their records are older than `keptDays`, never the open one. Each is
 * verified before, and leaves a tombstone; the log says so, durably, before anything is gone. What a crash breaks off,
 * the next pruning finishes. Throws BoundaryError("log-broken") when a segment is not sound: it is evidence, and stays.
 */
export async function prune(
  place: PrunePlace,
  record: (entry: Entry) => { readonly durable: Promise<unknown> },
  vkey: string,
  order: PruneOrder,
): Promise<Pruning> {
  const segments = place.segments();
  const cutoff = new Date(order.nowMs - order.keptDays * DAY_MS).toISOString();
  const buried: number[] = [];
  let standing: Standing | null = null;
  for (const [at, { file, firstSeq }] of segments.entries()) {
    const following = segments[at + 1];
    const next = following && firstRecord(place, following.file);
    if (!next || next.at >= cutoff) break;
    standing ??= await standingOf(place, vkey);
    const known = {
      vkey,
      standing,
      begin: firstSeq === 0 ? null : begins(firstRecord(place, file), standing),
      next: begins(next, standing),
    };
    const burial = await bury(paced(only(file, place.read(file))), known);
    if (burial.newestAt >= cutoff) break; // the clock was set back when the next one began
    place.saveTombstone(firstSeq, burial.tombstone);
    standing = burial.standing;
    buried.push(firstSeq);
  }
  const through = segments[buried.length]?.firstSeq ?? 0;
  if (buried.length === 0) return { segments: 0, through };
  const { by, keptDays } = order;
  const data = { by: String(by), keptDays, segments: buried.length, through };
  await record({ kind: "log.pruned", data }).durable;
  await remove(place, buried);
  return { segments: buried.length, through };
}

/** One a turn of the loop: each is a synced change of the directory. */
async function remove(place: PrunePlace, buried: readonly number[]): Promise<void> {
  for (const firstSeq of buried) {
    place.removeSegment(firstSeq);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

async function* only(file: string, chunks: AsyncIterable<Chunk>): AsyncGenerator<Chunk> {
  for await (const chunk of chunks) {
    if (chunk.file !== file) return;
    yield chunk;
  }
}

function firstRecord(place: PrunePlace, file: string): LogRecord {
  const line = place.firstLine(file);
  const read = line === null ? null : readLine(line);
  if (!read?.ok) throw new BoundaryError("log-broken", `pruning: the first line of ${file} cannot be read`);
  return read.record;
}

function begins(record: LogRecord, { key }: Standing): Begin {
  const begin = beginOf(record, key.name);
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
