import { constants, promises as fs } from "node:fs";
import { join } from "node:path";
import type { Chunk } from "../../daemon/audit/split.ts";
import { BoundaryError } from "../../daemon/core/errors.ts";

const SEGMENT = /^[0-9]{20}\.jsonl$/;
const TOMBSTONE = /^[0-9]{20}\.tombstone$/;
const READ_BYTES = 262_144;
const MAX_TOMBSTONE_BYTES = 262_144;

/** A log's files, each in the order of their names. A tombstone beside its segment does not count. */
export type LogNames = { readonly tombstones: readonly string[]; readonly segments: readonly string[] };

/** Reads a log's files as they grow. */
export type Tail = {
  /** The next bytes; "end": there are none now; "changed": what was read is no longer there as it was. */
  next(): Promise<Chunk | "end" | "changed">;
  close(): Promise<void>;
};

/** The names in a log directory; none where there is no directory. Throws BoundaryError("log-unsafe"). */
export async function listLog(directory: string): Promise<LogNames> {
  const names = await reading(directory, async () => {
    try {
      return await fs.readdir(directory);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
      throw error;
    }
  });
  const segments = names.filter((name) => SEGMENT.test(name)).toSorted();
  const kept = new Set(segments.map((name) => name.slice(0, 20)));
  const tombstones = names.filter((name) => TOMBSTONE.test(name) && !kept.has(name.slice(0, 20)));
  return { tombstones: tombstones.toSorted(), segments };
}

/** A tombstone's bytes. Throws BoundaryError("log-unsafe"). */
export function readTombstone(directory: string, name: string): Promise<Buffer> {
  return reading(directory, async () => {
    const handle = await openFile(directory, name);
    try {
      const { size } = await handle.stat();
      if (size > MAX_TOMBSTONE_BYTES) throw new Error(`${name} is too long`);
      return await handle.readFile();
    } finally {
      await handle.close();
    }
  });
}

/** Reads from a byte of a file on, and all files after it. `file` "" is the first there is. Throws BoundaryError("log-unsafe"). */
export function openTail(directory: string, from: { readonly file: string; readonly byte: number }): Tail {
  let { file, byte } = from;
  let open: fs.FileHandle | null = null;

  async function next(): Promise<Chunk | "end" | "changed"> {
    if (file === "") {
      const [first] = (await listLog(directory)).segments;
      if (first === undefined) return "end";
      file = first;
    }
    open ??= await openOrNull(file);
    if (open === null) return "changed";
    return (await read(open)) ?? (await atEnd(open));
  }

  /** Nothing more in this file: it may be over. */
  async function atEnd(handle: fs.FileHandle): Promise<Chunk | "end" | "changed"> {
    const { segments } = await listLog(directory);
    const later = segments.find((name) => name > file);
    if (await isOther(handle)) return "changed";
    if (later === undefined) return "end";
    // it may have grown before the later one was made
    const more = await read(handle);
    if (more !== null) return more;
    await close();
    [file, byte] = [later, 0];
    return next();
  }

  async function read(handle: fs.FileHandle): Promise<Chunk | null> {
    const bytes = Buffer.allocUnsafe(READ_BYTES);
    const { bytesRead } = await handle.read(bytes, 0, bytes.length, byte);
    if (bytesRead === 0) return null;
    const chunk = { file, bytes: bytes.subarray(0, bytesRead), at: byte };
    byte += bytesRead;
    return chunk;
  }

  /** Cut shorter than what we have read, or another file under the name. */
  async function isOther(handle: fs.FileHandle): Promise<boolean> {
    const ours = await handle.stat();
    if (ours.size < byte) return true;
    const named = await fs.lstat(join(directory, file)).catch(() => null);
    return named === null || named.ino !== ours.ino || named.dev !== ours.dev;
  }

  async function openOrNull(name: string): Promise<fs.FileHandle | null> {
    try {
      return await openFile(directory, name);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
      throw error;
    }
  }

  async function close(): Promise<void> {
    const handle = open;
    open = null;
    await handle?.close();
  }

  return { next: () => reading(directory, next), close };
}

async function openFile(directory: string, name: string): Promise<fs.FileHandle> {
  const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
  const handle = await fs.open(join(directory, name), flags);
  if ((await handle.stat()).isFile()) return handle;
  await handle.close();
  throw new Error(`${name} is no regular file`);
}

async function reading<T>(directory: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    throw cause instanceof BoundaryError
      ? cause
      : new BoundaryError("log-unsafe", `reading the log ${directory}`, { cause });
  }
}
