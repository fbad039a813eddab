import { createHash } from "node:crypto";
import {
  accessSync,
  closeSync,
  constants,
  fstatSync,
  openSync,
  readSync,
  realpathSync,
  statSync,
} from "node:fs";
import { open } from "node:fs/promises";
import { resolve } from "node:path";
import type { ProgramFile } from "../exec/judging.ts";
import type { Profile } from "../exec/profile.ts";

/**
 * Looks programs up as whoever runs a command will: by the profile's searchPath, never by ours. A file is hashed only
 * where the profile lists it with a digest. What cannot be read is not there.
 */
export function programLookup(profile: Profile): (name: string, cwd: string) => ProgramFile | null {
  return (name, cwd) => {
    const places = name.includes("/")
      ? [resolve(cwd, name)]
      : profile.searchPath.map((directory) => `${directory}/${name}`);
    for (const found of places) {
      const file = programAt(found, profile);
      if (file !== null) return file;
    }
    return null;
  };
}

function programAt(found: string, profile: Profile): ProgramFile | null {
  try {
    if (!statSync(found).isFile()) return null;
    accessSync(found, constants.X_OK);
    const real = realpathSync(found);
    const listed = [found, real].flatMap((path) => profile.programs.get(path) ?? []);
    const isHashed = listed.some(({ sha256 }) => sha256 !== null);
    return { found, real, sha256: isHashed ? digestOf(real) : null };
  } catch {
    return null;
  }
}

/** Digests of files as they were found, by what changes with their bytes. Whoever runs one hashes it again. */
const digests = new Map<string, string>();
const MAX_DIGESTS = 64;
/** A file that was changed so short a time ago may be changed again, and look the same. */
const SETTLED_NS = 2_000_000_000n;

/** Nobody else is served while a file is read: of a large one that is long, so the same one is read once. */
function digestOf(path: string): string {
  const hash = createHash("sha256");
  const part = Buffer.alloc(1 << 16);
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const { dev, ino, size, mtimeNs, ctimeNs } = fstatSync(fd, { bigint: true });
    const key = [dev, ino, size, mtimeNs, ctimeNs].join(" ");
    const before = digests.get(key);
    if (before !== undefined) return before;
    const isSettled = BigInt(Date.now()) * 1_000_000n - ctimeNs > SETTLED_NS;
    for (let used = readSync(fd, part); used > 0; used = readSync(fd, part))
      hash.update(part.subarray(0, used));
    const digest = hash.digest("hex");
    if (digests.size >= MAX_DIGESTS) digests.clear();
    if (isSettled) digests.set(key, digest);
    return digest;
  } finally {
    closeSync(fd);
  }
}

/** SHA-256 of a program's file, hex, without holding anybody up; null when it cannot be read. */
export async function programDigest(path: string): Promise<string | null> {
  const hash = createHash("sha256");
  const part = Buffer.alloc(1 << 18);
  try {
    await using file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    if (!(await file.stat()).isFile()) return null;
    for (;;) {
      const { bytesRead } = await file.read(part);
      if (bytesRead === 0) return hash.digest("hex");
      hash.update(part.subarray(0, bytesRead));
    }
  } catch {
    return null;
  }
}
