import { closeSync, constants, openSync } from "node:fs";
import { join } from "node:path";
import koffi from "koffi";
import { BoundaryError } from "../core/errors.ts";

const LOCK_EX = 2;
const LOCK_NB = 4;

const flock = koffi.load(null).func("int flock(int fd, int operation)") as (
  fd: number,
  operation: number,
) => number;

/**
 * Takes the log directory for this process: one appender, also across processes. The kernel lets go when the process
 * ends, however it ends. Throws BoundaryError: "log-locked" when another has it, "log-unavailable" when the lock
 * cannot be made.
 */
export function lockLogDirectory(directory: string): { release(): void } {
  const flags = constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW;
  let fd: number;
  try {
    fd = openSync(join(directory, "lock"), flags, 0o600);
  } catch (cause) {
    throw new BoundaryError("log-unavailable", `opening the lock of ${directory}`, { cause });
  }
  if (flock(fd, LOCK_EX | LOCK_NB) === 0) return { release: () => closeSync(fd) };
  const errno = koffi.errno();
  closeSync(fd);
  if (errno === koffi.os.errno["EWOULDBLOCK"] || errno === koffi.os.errno["EAGAIN"]) {
    throw new BoundaryError("log-locked", `locking ${directory}`);
  }
  throw new BoundaryError("log-unavailable", `locking ${directory}: error ${errno}`);
}
