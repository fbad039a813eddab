import { constants, type Stats } from "node:fs";
import { open, realpath, stat } from "node:fs/promises";
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

async function read(path: string, mostBytes: number): ReturnType<ExecHost["read"]> {
  let stats: Stats;
  try {
    stats = await stat(path);
  } catch {
    return { kind: "none" };
  }
  if (!stats.isFile()) return { kind: "none" };
  if (stats.size > mostBytes) return { kind: "large" };
  try {
    await using file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
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
