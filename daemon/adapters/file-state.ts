import { createHash, hash } from "node:crypto";
import { type BigIntStats, constants, lstatSync } from "node:fs";
import { type FileHandle, lstat, open, readdir, readlink } from "node:fs/promises";
import { setTimeout as after } from "node:timers/promises";
import type { FileReader, FullLook, Look } from "../core/file-look.ts";
import { missingState } from "../core/fingerprint.ts";

export type ReadLimits = {
  /** A longer file is fingerprinted by size, mtime, inode, first and last MiB ("partial:"). */
  readonly maxHashBytes: number;
  /** Files read at the same time. */
  readonly hashConcurrency: number;
};

const CHUNK_BYTES = 1_048_576;
const TRIES = 4;
const SETTLE_MS = 15;

/** Reads fingerprints from the disk. It reads only, and follows no link; inotify tells nobody of reads the way we watch. */
export function createFileReader(limits: ReadLimits): FileReader {
  const gate = createGate(limits.hashConcurrency);
  return {
    look: lookNow,
    read: (path) => gate(() => readSettled(path, limits.maxHashBytes)),
    names: (directory) => gate(() => readNames(directory)),
  };
}

function lookNow(path: string): Look {
  try {
    return toLook(path, lstatSync(path, { bigint: true }));
  } catch (error) {
    return failedLook(path, error);
  }
}

/** A file that changes while it is read gives a hash of no moment: read again, a few times, then take what there is. */
async function readSettled(path: string, maxHashBytes: number): Promise<FullLook> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      const before = toLook(path, await lstat(path, { bigint: true }));
      const sha256 = await hashOf(before, maxHashBytes);
      const later = toLook(path, await lstat(path, { bigint: true }));
      if (sameMoment(before, later) || attempt >= TRIES) return { ...later, sha256 };
    } catch (error) {
      const failed = failedLook(path, error);
      // the rest (ELOOP, ENXIO, ESTALE): it became something else between the two calls
      const final = failed.kind === "missing" || codeOf(error) === "EACCES" || codeOf(error) === "EPERM";
      if (final || attempt >= TRIES) return { ...failed, sha256: "" };
    }
    await after(SETTLE_MS, undefined, { ref: false });
  }
}

async function hashOf(look: Look, maxHashBytes: number): Promise<string> {
  switch (look.kind) {
    case "file":
      return await hashFile(look, maxHashBytes);
    case "link":
      return hash("sha256", await readlink(look.path, "buffer"), "hex");
    case "directory":
      return hash("sha256", (await readdir(look.path)).toSorted().join("\0"), "hex");
    case "missing":
    case "other":
    case "unreadable":
      return "";
  }
}

async function hashFile(look: Look, maxHashBytes: number): Promise<string> {
  // NOFOLLOW and NONBLOCK: what was a file a moment ago may be a link or a FIFO now
  const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
  const file = await open(look.path, flags);
  try {
    if (look.size > maxHashBytes) return await hashEnds(file, look);
    const digest = createHash("sha256");
    let at = 0;
    const chunk = Buffer.allocUnsafe(Math.min(CHUNK_BYTES, look.size + 1));
    while (at <= maxHashBytes) {
      const { bytesRead } = await file.read(chunk, 0, chunk.length, at);
      if (bytesRead === 0) break;
      digest.update(chunk.subarray(0, bytesRead));
      at += bytesRead;
    }
    return digest.digest("hex");
  } finally {
    await file.close();
  }
}

async function hashEnds(file: FileHandle, look: Look): Promise<string> {
  const digest = createHash("sha256").update(`${look.size} ${look.mtimeNs} ${look.inode}\n`);
  const chunk = Buffer.allocUnsafe(CHUNK_BYTES);
  for (const at of [0, Math.max(0, look.size - CHUNK_BYTES)]) {
    const { bytesRead } = await file.read(chunk, 0, chunk.length, at);
    digest.update(chunk.subarray(0, bytesRead));
  }
  return `partial:${digest.digest("hex")}`;
}

async function readNames(directory: string): Promise<{ names: readonly string[]; why: string }> {
  try {
    return { names: (await readdir(directory)).toSorted(), why: "" };
  } catch (error) {
    const failed = failedLook(directory, error);
    return { names: [], why: failed.why };
  }
}

function sameMoment(a: Look, b: Look): boolean {
  return a.inode === b.inode && a.kind === b.kind && a.mtimeNs === b.mtimeNs && a.ctimeNs === b.ctimeNs;
}

function toLook(path: string, stats: BigIntStats): Look {
  return {
    path,
    kind: kindOf(stats),
    size: stats.isFile() ? Number(stats.size) : 0,
    mode: Number(stats.mode & 0o7777n),
    uid: Number(stats.uid),
    gid: Number(stats.gid),
    inode: `${stats.dev}:${stats.ino}`,
    mtimeNs: stats.mtimeNs,
    ctimeNs: stats.ctimeNs,
    why: "",
  };
}

function kindOf(stats: BigIntStats): Look["kind"] {
  if (stats.isFile()) return "file";
  if (stats.isDirectory()) return "directory";
  return stats.isSymbolicLink() ? "link" : "other";
}

/** Not there is an answer; anything else that keeps us from looking is "unreadable", with the reason. */
function failedLook(path: string, error: unknown): Look {
  const code = codeOf(error);
  const nothing = { ...missingState(path), mtimeNs: 0n, ctimeNs: 0n };
  if (code === "ENOENT" || code === "ENOTDIR") return { ...nothing, why: "" };
  return { ...nothing, kind: "unreadable", why: `${path} cannot be read (${code})` };
}

function codeOf(error: unknown): string {
  return error instanceof Error && "code" in error ? String(error.code) : String(error);
}

/** Lets at most `most` tasks run at a time; the rest wait in order. */
function createGate(most: number): <T>(task: () => Promise<T>) => Promise<T> {
  const waiting: (() => void)[] = [];
  let running = 0;
  return async (task) => {
    if (running >= most) await new Promise<void>((resolve) => waiting.push(resolve));
    else running += 1;
    try {
      return await task();
    } finally {
      const next = waiting.shift();
      if (next) next();
      else running -= 1;
    }
  };
}
