import { constants, promises as fs } from "node:fs";
import { dirname } from "node:path";
import { BoundaryError } from "../../daemon/core/errors.ts";
import { syncDirectory } from "./replace-file.ts";
import type { ProvenLine, Sink } from "./sink.ts";

const NEWLINE = 0x0a;
const LOOK_BACK_BYTES = 131_072;

/** Appends the lines to a file (0600, no link), one a line; `confirm` syncs it. */
export function createFileSink(path: string): Sink {
  let open: fs.FileHandle | null = null;

  async function write(lines: readonly ProvenLine[]): Promise<void> {
    open ??= await openForAppending(path);
    await open.appendFile(lines.map((line) => `${line.text}\n`).join(""));
  }

  /** A file that was moved away or removed meanwhile keeps what it has; that is written again, to a new one. */
  async function confirm(): Promise<void> {
    if (open === null) return;
    await open.datasync();
    const [ours, named] = [await open.stat(), await fs.lstat(path)];
    if (ours.ino !== named.ino || ours.dev !== named.dev) throw new Error("it was moved away or replaced");
  }

  async function close(): Promise<void> {
    const handle = open;
    open = null;
    await handle?.close().catch(() => undefined);
  }

  async function attempt(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (cause) {
      await close();
      throw new BoundaryError("ship-failed", `writing ${path}`, { cause });
    }
  }

  return {
    name: `file:${path}`,
    write: (lines) => attempt(() => write(lines)),
    confirm: () => attempt(confirm),
    close,
  };
}

async function openForAppending(path: string): Promise<fs.FileHandle> {
  const flags =
    constants.O_RDWR | constants.O_APPEND | constants.O_CREAT | constants.O_NOFOLLOW | constants.O_NONBLOCK;
  const handle = await fs.open(path, flags, 0o600);
  try {
    const stat = await handle.stat();
    if (!stat.isFile()) throw new Error("it is no regular file");
    await cutPiece(handle, stat.size);
    syncDirectory(dirname(path));
    return handle;
  } catch (error) {
    await handle.close();
    throw error;
  }
}

/** A piece of a line at the end is what a crash of ours left. It was never confirmed, and comes again whole. */
async function cutPiece(handle: fs.FileHandle, size: number): Promise<void> {
  const from = Math.max(0, size - LOOK_BACK_BYTES);
  const { buffer, bytesRead } = await handle.read(Buffer.alloc(size - from), 0, size - from, from);
  const end = buffer.subarray(0, bytesRead).lastIndexOf(NEWLINE) + 1;
  if (end === bytesRead) return;
  if (end === 0 && from > 0) throw new Error("it ends in something that is no line of a log");
  await handle.truncate(from + end);
}
