import { closeSync, constants, fstatSync, openSync, readSync } from "node:fs";

/**
 * A small regular file, or null when there is none. Throws when it is longer than `mostBytes`, no regular file
 * (a pipe would make us wait), or may not be read.
 */
export function readSmallFile(path: string, mostBytes: number): Buffer | null {
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw error;
  }
  try {
    if (!fstatSync(fd).isFile()) throw new Error(`${path} is no regular file`);
    const bytes = Buffer.alloc(mostBytes + 1);
    const used = readSync(fd, bytes, 0, bytes.length, 0);
    if (used > mostBytes) throw new Error(`${path} is longer than ${mostBytes} bytes`);
    return bytes.subarray(0, used);
  } finally {
    closeSync(fd);
  }
}
