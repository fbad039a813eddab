import { constants, promises as fs } from "node:fs";
import { basename, dirname, join } from "node:path";
import { MAX_RECORD_BYTES } from "../daemon/audit/record.ts";
import type { Chunk } from "../daemon/audit/split.ts";
import { BoundaryError } from "../daemon/core/errors.ts";

const SEGMENT = /^[0-9]{20}\.jsonl$/;
const TOMBSTONE = /^[0-9]{20}\.tombstone$/;
const BROKEN = /^broken-[0-9]{8}T[0-9]{6}\.[0-9]{3}Z/;
const READ_BYTES = 1_048_576;

/**
 * The bytes of a log: a directory's tombstones and segments in order, or one file, each as far as it went when it was opened (a
 * daemon may be writing). Yields nothing where there is none. `first`: the segment to begin with.
 * Throws BoundaryError("log-unsafe") when it cannot be read.
 */
export async function* readLogFiles(path: string, first = ""): AsyncGenerator<Chunk> {
  try {
    const found = await listLog(path);
    for (const file of found.files.filter((name) => name >= first)) yield* readSegment(found.directory, file);
  } catch (cause) {
    throw asUnsafe(path, cause);
  }
}

/** Does what reads the log there; whatever fails is BoundaryError("log-unsafe"). */
export async function readingLog<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    throw asUnsafe(path, cause);
  }
}

function asUnsafe(path: string, cause: unknown): BoundaryError {
  return cause instanceof BoundaryError
    ? cause
    : new BoundaryError("log-unsafe", `reading the log ${path}`, { cause });
}

/** A directory's segments in order, with their sizes; none where it is no directory. */
export async function segmentFiles(
  path: string,
): Promise<readonly { readonly name: string; readonly bytes: number }[]> {
  const { directory, files } = await listLog(path);
  if (directory !== path) return [];
  return Promise.all(
    files
      .filter((name) => SEGMENT.test(name))
      .map(async (name) => ({ name, bytes: (await fs.lstat(join(directory, name))).size })),
  );
}

/** Whether segments are gone, or look as if they were. */
export async function hasTombstones(path: string): Promise<boolean> {
  const { directory, files } = await listLog(path);
  return directory === path && files.some((name) => TOMBSTONE.test(name));
}

/** Where the daemon has put a log that it found broken, the newest one; null where there is none. */
export async function movedAside(directory: string): Promise<string | null> {
  const names = await readingLog(directory, () => namesIn(directory));
  return (
    names
      .filter((name) => BROKEN.test(name))
      .toSorted()
      .at(-1) ?? null
  );
}

/** A segment's first line, without its "\n"; null when it has none. */
export async function firstLineOf(file: string): Promise<string | null> {
  const handle = await openLogFile(dirname(file), basename(file));
  try {
    const { buffer, bytesRead } = await handle.read(
      Buffer.alloc(MAX_RECORD_BYTES + 1),
      0,
      MAX_RECORD_BYTES + 1,
      0,
    );
    const end = buffer.subarray(0, bytesRead).indexOf("\n");
    return end === -1 ? null : buffer.toString("utf8", 0, end);
  } finally {
    await handle.close();
  }
}

/** Where a log's files are, and their names in the order in which they are read. */
export type LogNames = { readonly directory: string; readonly files: readonly string[] };

/** The files of a log: a directory's, none where there is nothing, or `path` itself. Throws BoundaryError("log-unsafe"). */
export function listLog(path: string): Promise<LogNames> {
  return readingLog(path, async () => {
    try {
      return { directory: path, files: inOrder(await namesIn(path)) };
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOTDIR") throw error;
      return { directory: dirname(path), files: [basename(path)] };
    }
  });
}

async function namesIn(directory: string): Promise<readonly string[]> {
  try {
    return await fs.readdir(directory);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw error;
  }
}

function inOrder(names: readonly string[]): readonly string[] {
  const segments = names.filter((name) => SEGMENT.test(name));
  const there = new Set(segments.map(numberOf));
  // a pruning that was broken off leaves both, and then the segment counts
  const tombstones = names.filter((name) => TOMBSTONE.test(name) && !there.has(numberOf(name)));
  return [...tombstones, ...segments].toSorted();
}

function numberOf(name: string): string {
  return name.slice(0, 20);
}

/** Opens a file of the log for reading; no link, nothing but a regular file. */
export async function openLogFile(directory: string, file: string): Promise<fs.FileHandle> {
  const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
  const handle = await fs.open(join(directory, file), flags);
  if ((await handle.stat()).isFile()) return handle;
  await handle.close();
  throw new Error(`${file} is no regular file`);
}

async function* readSegment(directory: string, file: string): AsyncGenerator<Chunk> {
  const handle = await openLogFile(directory, file);
  try {
    const stat = await handle.stat();
    for (let at = 0; at < stat.size; ) {
      // a buffer for each chunk: the verifier may keep one while the next is read
      const buffer = Buffer.allocUnsafe(Math.min(READ_BYTES, stat.size - at));
      const { bytesRead } = await handle.read(buffer, 0, buffer.length, at);
      if (bytesRead === 0) return; // cut while we read: the verdict says what is missing
      at += bytesRead;
      yield { file, bytes: buffer.subarray(0, bytesRead) };
    }
  } finally {
    await handle.close();
  }
}
