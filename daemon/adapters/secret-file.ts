import { randomFillSync } from "node:crypto";
import * as fs from "node:fs";
import { join } from "node:path";
import { fileFault, type Look } from "../core/ownership.ts";
import { syncDirectory } from "./own-directory.ts";

/**
 * Files that hold a secret: read, made and erased here alone. Everything is synchronous and durable when it returns; a
 * failure is the system's error, or an Error that says what is wrong with the file. A secret is never a string: strings
 * cannot be wiped.
 *
 * To erase is to write over the bytes in place, before the name goes: what is only unlinked stays in the free blocks.
 * A file that is to be erased is renamed (or linked) to the directory's one DOOMED name first, so that a start after a
 * crash knows what to finish.
 */
const DOOMED = "log.key.erase";
const { O_CREAT, O_EXCL, O_NOFOLLOW, O_RDONLY, O_WRONLY } = fs.constants;

/** The bytes, for the caller to wipe; null when there is no file. Throws when it is not ours alone, or larger than that. */
export function readSecret(path: string, maxBytes: number): Buffer | null {
  const fd = openIfThere(path, O_RDONLY);
  if (fd === null) return null;
  try {
    const stat = fs.fstatSync(fd);
    requireOurs(stat);
    if (stat.size > maxBytes) throw new Error(`${stat.size} bytes are too many`);
    const bytes = Buffer.alloc(stat.size);
    if (fs.readSync(fd, bytes, 0, bytes.length, 0) === bytes.length) return bytes;
    bytes.fill(0);
    throw new Error("it was cut while it was read");
  } finally {
    fs.closeSync(fd);
  }
}

/** Writes a file beside (name + ".new") that can then take a name; what a crash left there is erased first. Returns its path. */
export function writeBeside(directory: string, name: string, bytes: Uint8Array): string {
  const beside = `${name}.new`;
  eraseSecret(directory, beside);
  const path = join(directory, beside);
  const fd = fs.openSync(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
  try {
    fs.writeFileSync(fd, bytes);
    fs.fsyncSync(fd);
  } finally {
    fs.closeSync(fd);
  }
  requireWritten(path, bytes);
  return path;
}

/** A disk that says it wrote and did not: a key that cannot be loaded again must not come into use. */
function requireWritten(path: string, bytes: Uint8Array): void {
  const there = readSecret(path, bytes.length);
  const same = there?.equals(bytes) ?? false;
  there?.fill(0);
  if (!same) throw new Error(`${path} does not hold what was written to it`);
}

/** Gives what `writeBeside` wrote its name; unlike a rename it never takes the place of a file. */
export function nameNew(directory: string, name: string): void {
  fs.linkSync(join(directory, `${name}.new`), join(directory, name));
  fs.unlinkSync(join(directory, `${name}.new`));
  syncDirectory(directory);
}

/** A crash between linking and unlinking leaves one file under both names, and a secret has one. */
export function forgetSecondName(directory: string, name: string): void {
  const [kept, second] = [name, `${name}.new`].map((each) =>
    fs.lstatSync(join(directory, each), { throwIfNoEntry: false, bigint: true }),
  );
  if (!kept || !second || kept.ino !== second.ino || kept.dev !== second.dev) return;
  fs.rmSync(join(directory, `${name}.new`), { force: true });
}

/** Erases a file by its name; nothing when there is none. */
export function eraseSecret(directory: string, name: string): void {
  finishErasing(directory);
  if (!fs.lstatSync(join(directory, name), { throwIfNoEntry: false })) return;
  fs.renameSync(join(directory, name), join(directory, DOOMED));
  syncDirectory(directory);
  finishErasing(directory);
}

/**
 * `from` takes the name `to`, and the file that had it is to be erased: `finishErasing` does it. Until the rename `to` is
 * the old file, from then on the new one.
 */
export function replaceAndDoom(directory: string, from: string, to: string): void {
  finishErasing(directory);
  fs.linkSync(join(directory, to), join(directory, DOOMED));
  syncDirectory(directory);
  fs.renameSync(join(directory, from), join(directory, to));
  syncDirectory(directory);
}

/** Erases what an interrupted erasing left. A second name of a file that lives on is only taken away. */
export function finishErasing(directory: string): void {
  const path = join(directory, DOOMED);
  const fd = openIfThere(path, O_WRONLY);
  if (fd === null) return;
  try {
    const stat = fs.fstatSync(fd);
    if (!stat.isFile()) throw new Error(`${path} is not a regular file`);
    // one name: this one, so it is nobody's key; nobody but us makes a second one
    if (stat.nlink === 1) overwrite(fd, stat.size);
    fs.unlinkSync(path);
  } finally {
    fs.closeSync(fd);
  }
  syncDirectory(directory);
}

/** Random bytes: zeros are what file systems and disks compress away. */
function overwrite(fd: number, size: number): void {
  const noise = randomFillSync(Buffer.alloc(size));
  for (let at = 0; at < size; ) at += fs.writeSync(fd, noise, at, size - at, at);
  fs.fsyncSync(fd);
}

function openIfThere(path: string, flags: number): number | null {
  try {
    return fs.openSync(path, flags | O_NOFOLLOW);
  } catch (cause) {
    if (cause instanceof Error && "code" in cause && cause.code === "ENOENT") return null;
    throw cause;
  }
}

function requireOurs(stat: fs.Stats): void {
  const kind: Look["kind"] = stat.isFile() ? "file" : stat.isDirectory() ? "directory" : "other";
  const look = { kind, uid: stat.uid, mode: stat.mode & 0o7777, links: stat.nlink };
  const fault = fileFault(look, process.geteuid?.() ?? -1, "secret");
  if (fault) throw new Error(`it ${fault}`);
}
