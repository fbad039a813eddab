import { availableParallelism } from "node:os";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { readHead, readKey } from "../daemon/audit/known.ts";
import { joinParts, type Part } from "../daemon/audit/parts.ts";
import type { Chunk } from "../daemon/audit/split.ts";
import type { Verdict } from "../daemon/audit/verdict.ts";
import { type Begin, type Head, verifyLog } from "../daemon/audit/verify.ts";
import { hasTombstones, readLogFiles, segmentFiles } from "./log-files.ts";
import { secondOpinion } from "./second-opinion.ts";
import { beginIn, segmentOf } from "./segment-begin.ts";
import type { SegmentTask } from "./verify-worker.ts";

/** Under this a thread costs more than it saves. */
const WORTH_BYTES = 16 * 1024 * 1024;
const MAX_THREADS = 8;
/** The same file beside this one: .ts in development, .js when built. */
const WORKER = new URL(`./verify-worker${import.meta.url.slice(-3)}`, import.meta.url);

export type Watching = {
  /** Sees all that is read in order. */
  readonly chunks: (chunks: AsyncIterable<Chunk>) => AsyncIterable<Chunk>;
  /** Sees the bytes of each segment that is done, where they are verified side by side. */
  readonly done: (bytes: number) => void;
};

export type Known = {
  readonly vkey: string;
  readonly heads: readonly (Head | string)[];
  /** A checkpoint that is trusted: what is before its segment is not read. */
  readonly from: Head | string | null;
};

/**
 * Verifies a log's directory, or one file: in order, or segment by segment on all cores where that is worth it. Comes to
 * the same verdict: whatever is not sound in parts is read again in order. Throws as verifyLog does.
 */
export async function verifyDirectory(path: string, known: Known, watching: Watching): Promise<Verdict> {
  if (known.from !== null) return verifyFrom(path, known.from, known, watching);
  const inParts = await verifyInParts(path, known, watching);
  if (inParts) return inParts;
  const { vkey, heads } = known;
  return verifyLog(watching.chunks(readLogFiles(path)), {
    vkey,
    head: heads,
    secondOpinion,
    nowMs: Date.now(),
  });
}

/**
 * From the segment that the checkpoint stands in. What that segment's first record says of the time before it, and of
 * its own key, is as true as the checkpoint: its line is a leaf of that tree.
 */
async function verifyFrom(
  path: string,
  from: Head | string,
  { vkey, heads }: Known,
  watching: Watching,
): Promise<Verdict> {
  const verifier = readKey(vkey);
  const { size } = readHead(from, verifier);
  const segment = await segmentOf(path, size, verifier.name);
  const chunks = watching.chunks(readLogFiles(path, segment?.file));
  return verifyLog(chunks, { vkey, head: [...heads, from], begin: segment?.begin, secondOpinion });
}

type Task = SegmentTask & { readonly bytes: number };

async function verifyInParts(path: string, known: Known, watching: Watching): Promise<Verdict | null> {
  const tasks = await tasksFor(path, known);
  if (tasks === null) return null;
  const parts: Part[] = [];
  let next = 0;
  let sound = true;
  const work = async () => {
    for (let at = next++; at < tasks.length && sound; at = next++) {
      const task = tasks[at] as Task;
      const verdict = await inThread(task);
      sound &&= verdict.bad === null;
      parts[at] = { begin: task.begin, verdict };
      watching.done(task.bytes);
    }
  };
  try {
    await Promise.all(Array.from({ length: Math.min(MAX_THREADS, availableParallelism()) }, work));
  } catch {
    return null; // one reading in order says what is wrong
  }
  return sound ? joinParts(parts) : null;
}

/** Null where one reading in order is as good: one core, little to read, or beginnings that say too little. */
async function tasksFor(path: string, { vkey, heads }: Known): Promise<readonly Task[] | null> {
  const files = await segmentFiles(path);
  if (await hasTombstones(path)) return null;
  const bytes = files.reduce((sum, file) => sum + file.bytes, 0);
  if (files.length < 2 || bytes < WORTH_BYTES || availableParallelism() < 2) return null;
  const verifier = readKey(vkey);
  const begins: (Begin | null)[] = [];
  for (const file of files) begins.push(await beginIn(join(path, file.name), verifier.name));
  if (begins.some((begin, at) => (begin === null) !== (at === 0))) return null;
  const holders = heads.map((head) => holderOf(readHead(head, verifier).size, begins));
  return files.map((file, at) => ({
    path: join(path, file.name),
    vkey,
    begin: begins[at] ?? null,
    heads: heads.filter((_head, each) => holders[each] === at),
    bytes: file.bytes,
  }));
}

/** Which segment a tree of that size ends in. */
function holderOf(size: number, begins: readonly (Begin | null)[]): number {
  return begins.findLastIndex((begin) => (begin?.frontier.size ?? 0) <= size);
}

function inThread(task: SegmentTask): Promise<Verdict> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(WORKER, { workerData: task, execArgv: [] });
    worker.once("message", resolve);
    worker.once("error", reject);
    worker.once("exit", () => reject(new Error("the verifying thread ended without a verdict")));
  });
}
