import type { promises as fs } from "node:fs";
import { lstat } from "node:fs/promises";
import { join } from "node:path";
import type { Chunk } from "../../daemon/audit/split.ts";
import { listLog, openLogFile, readingLog } from "../log-files.ts";

const READ_BYTES = 262_144;

/** Reads a log's files as they grow. */
export type Tail = {
  /** The next bytes; "end": there are none now; "changed": what was read is no longer there as it was. */
  next(): Promise<Chunk | "end" | "changed">;
  close(): Promise<void>;
};

/**
 * Reads from a byte of a file on, and all files after it. `file` "" is the first there is: tombstones come before
 * segments. Throws BoundaryError("log-unsafe").
 */
export function openTail(directory: string, from: { readonly file: string; readonly byte: number }): Tail {
  let { file, byte } = from;
  let open: fs.FileHandle | null = null;

  async function next(): Promise<Chunk | "end" | "changed"> {
    if (file === "") {
      const [first] = (await listLog(directory)).files;
      if (first === undefined) return "end";
      file = first;
    }
    open ??= await openOrNull(file);
    if (open === null) return "changed";
    return (await read(open)) ?? (await atEnd(open));
  }

  /** Nothing more in this file: it may be over. */
  async function atEnd(handle: fs.FileHandle): Promise<Chunk | "end" | "changed"> {
    const { files } = await listLog(directory);
    const later = files.find((name) => name > file);
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
    const named = await lstat(join(directory, file)).catch(() => null);
    return named === null || named.ino !== ours.ino || named.dev !== ours.dev;
  }

  async function openOrNull(name: string): Promise<fs.FileHandle | null> {
    try {
      return await openLogFile(directory, name);
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

  return { next: () => readingLog(directory, next), close };
}
