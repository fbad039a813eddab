import { constants } from "node:fs";
import { type FileHandle, open, readlink, realpath, stat } from "node:fs/promises";
import type { ExecHost } from "../ports.ts";
import { programDigest, programLookup } from "./exec-programs.ts";

/** Directories, programs and files as they are on this host. What cannot be looked at is not there. */
export function createExecHost(): ExecHost {
  return { directory, programs: programLookup, digest: programDigest, read };
}

async function directory(path: string): Promise<string | null> {
  try {
    const real = await realpath(path);
    return (await stat(real)).isDirectory() ? real : null;
  } catch {
    return null;
  }
}

/** Behind a handle that stands for the name alone: what it leads to is looked at before anything is opened. */
const O_PATH = 0o10000000;

async function read(
  path: string,
  { mostBytes, places }: Parameters<ExecHost["read"]>[1],
): ReturnType<ExecHost["read"]> {
  let handle: FileHandle;
  try {
    handle = await open(path, O_PATH);
  } catch {
    return { kind: "none" };
  }
  await using name = handle;
  const here = `/proc/self/fd/${name.fd}`;
  const [stats, real] = await Promise.all([name.stat(), readlink(here)]);
  if (!stats.isFile() || !(await isInOne(real, places))) return { kind: "none" };
  if (stats.size > mostBytes) return { kind: "large" };
  try {
    await using file = await open(here, constants.O_RDONLY | constants.O_NONBLOCK);
    // it may have grown: a byte more than is taken tells
    const bytes = Buffer.alloc(mostBytes + 1);
    let at = 0;
    for (;;) {
      const { bytesRead } = await file.read(bytes, at, bytes.length - at, at);
      at += bytesRead;
      if (at > mostBytes) return { kind: "large" };
      if (bytesRead === 0) return { kind: "bytes", bytes: bytes.subarray(0, at) };
    }
  } catch {
    return { kind: "unreadable" };
  }
}

async function isInOne(real: string, places: readonly string[]): Promise<boolean> {
  for (const place of places) {
    const root = await realpath(place).catch(() => null);
    if (root !== null && (real === root || real.startsWith(root.endsWith("/") ? root : `${root}/`)))
      return true;
  }
  return false;
}
