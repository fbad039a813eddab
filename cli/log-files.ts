import { constants, type Dirent, promises as fs } from "node:fs";
import { basename, dirname, join } from "node:path";
import { MAX_RECORD_BYTES } from "../daemon/audit/record.ts";
import type { Chunk } from "../daemon/audit/split.ts";
import { BoundaryError } from "../daemon/core/errors.ts";

const SEGMENT = /^[0-9]{20}\.jsonl$/;
const TOMBSTONE = /^[0-9]{20}\.tombstone$/;
const READ_BYTES = 1_048_576;

/**
 * The bytes of a log: a directory's tombstones and segments in order, or one file, each as far as it went when it was opened (a
 * daemon may be writing). Yields nothing where there is none. `first`: the segment to begin with.
 * Throws BoundaryError("log-unsafe") when it cannot be read.
 */
export async function* readLogFiles(path: string, first = ""): AsyncGenerator<Chunk> {
  try {
    const found = await list(path);
    for (const file of found.files.filter((name) => name >= first)) yield* readSegment(found.directory, file);
  } catch (cause) {
    throw new BoundaryError("log-unsafe", `reading the log ${path}`, { cause });
  }
}

/** A directory's segments in order, with their sizes; none where it is no directory. */
export async function segmentFiles(
  path: string,
): Promise<readonly { readonly name: string; readonly bytes: number }[]> {
  const { directory, files } = await list(path);
  if (directory !== path) return [];
  return Promise.all(
    files
      .filter((name) => SEGMENT.test(name))
      .map(async (name) => ({ name, bytes: (await fs.lstat(join(directory, name))).size })),
  );
}

/** Whether segments are gone, or look as if they were. */
export async function hasTombstones(path: string): Promise<boolean> {
  const { directory, files } = await list(path);
  return directory === path && files.some((name) => TOMBSTONE.test(name));
}

/** A segment's first line, without its "\n"; null when it has none. */
export async function firstLineOf(file: string): Promise<string | null> {
  const handle = await fs.open(file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
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

async function list(path: string): Promise<{ directory: string; files: readonly string[] }> {
  let entries: readonly Dirent[];
  try {
    entries = await fs.readdir(path, { withFileTypes: true });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT") return { directory: path, files: [] };
    if (code === "ENOTDIR") return { directory: dirname(path), files: [basename(path)] };
    throw error;
  }
  const names = entries.map((entry) => entry.name);
  const segments = names.filter((name) => SEGMENT.test(name));
  const there = new Set(segments.map(numberOf));
  // a pruning that was broken off leaves both, and then the segment counts
  const tombstones = names.filter((name) => TOMBSTONE.test(name) && !there.has(numberOf(name)));
  return { directory: path, files: [...tombstones, ...segments].toSorted() };
}

function numberOf(name: string): string {
  return name.slice(0, 20);
}

async function* readSegment(directory: string, file: string): AsyncGenerator<Chunk> {
  const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
  const handle = await fs.open(join(directory, file), flags);
  try {
    const stat = await handle.stat();
    if (!stat.isFile()) throw new Error(`${file} is no regular file`);
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
