import * as fs from "node:fs";
import { basename, dirname, join } from "node:path";
import { BoundaryError } from "../daemon/core/errors.ts";

/**
 * Puts a file in place whole or not at all: written and synced beside it, renamed, the directory synced. What was there
 * before is replaced; a symbolic link is replaced, not followed. Readable by everybody: notes and proofs are public.
 * Throws BoundaryError("state-unwritable").
 */
export function dropFile(path: string, text: string): void {
  const directory = dirname(path);
  const beside = join(directory, `.${basename(path)}.${process.pid}.new`);
  try {
    writeSynced(beside, text);
    fs.renameSync(beside, path);
    syncDirectory(directory);
  } catch (cause) {
    fs.rmSync(beside, { force: true });
    throw new BoundaryError("state-unwritable", `writing ${path}`, { cause });
  }
}

function writeSynced(path: string, text: string): void {
  fs.rmSync(path, { force: true }); // of a run with our pid that was killed
  const fd = fs.openSync(path, "wx", 0o644);
  try {
    fs.writeFileSync(fd, text); // writeSync may write a part
    fs.fsyncSync(fd);
  } finally {
    fs.closeSync(fd);
  }
}

function syncDirectory(path: string): void {
  const fd = fs.openSync(path, "r");
  try {
    fs.fsyncSync(fd);
  } finally {
    fs.closeSync(fd);
  }
}
