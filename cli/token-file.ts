import {
  closeSync,
  constants,
  fstatSync,
  fsyncSync,
  openSync,
  readSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { BoundaryError } from "../daemon/core/errors.ts";
import { usageError } from "./exit.ts";

/** Tokens come from a file or stdin and go into a file or onto a terminal: never an argument, which everybody on the host can read. */
const TEXT = /^bd_[A-Za-z0-9_-]{43}$/;
const MAX_BYTES = 4_096;
const STDIN = 0;

/** The token in a file, "-" for stdin; undefined without one. Throws a usage error for what is none, or readable by others. */
export function readToken(path: string | undefined): string | undefined {
  if (path === undefined || path === "") return undefined;
  const name = path === "-" ? "stdin" : path;
  const text = (path === "-" ? readAll(STDIN, name) : readPrivate(path)).trim();
  if (!TEXT.test(text)) throw usageError(`${name} holds no token`);
  return text;
}

function readPrivate(path: string): string {
  const fd = opened(path);
  try {
    const { mode, uid } = fstatSync(fd);
    const own = process.getuid?.();
    if (uid !== own && uid !== 0) throw usageError(`${path} belongs to uid ${uid}, not to us`);
    if ((mode & 0o077) !== 0)
      throw usageError(
        `${path} has mode 0${(mode & 0o777).toString(8)}: a token is for its owner alone (chmod 600)`,
      );
    return readAll(fd, path);
  } finally {
    closeSync(fd);
  }
}

function opened(path: string): number {
  try {
    return openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (cause) {
    throw new BoundaryError("argument-invalid", `reading the token in ${path}`, { cause });
  }
}

function readAll(fd: number, name: string): string {
  const bytes = Buffer.alloc(MAX_BYTES + 1);
  let used = 0;
  try {
    for (let read = 1; read > 0 && used < bytes.length; used += read)
      read = readSync(fd, bytes, used, bytes.length - used, null);
  } catch (cause) {
    throw new BoundaryError("argument-invalid", `reading the token from ${name}`, { cause });
  }
  if (used > MAX_BYTES) throw usageError(`${name} is longer than a token`);
  return bytes.toString("utf8", 0, used);
}

/** A new file for a token, made before the token is: what is given once must not be lost for want of a place. */
export type TokenPlace = {
  /** Durable when it returns. Throws BoundaryError("state-unwritable"). */
  put(text: string): void;
  /** Nothing came: the file goes again. */
  drop(): void;
};

/** Readable by us alone, from the beginning. Throws a usage error when there is such a file already, or none can be made. */
export function prepareTokenPlace(path: string): TokenPlace {
  let fd: number;
  try {
    fd = openSync(
      path,
      constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW,
      0o600,
    );
  } catch (cause) {
    throw new BoundaryError("argument-invalid", `making ${path}`, { cause });
  }
  return {
    put(text) {
      try {
        writeFileSync(fd, `${text}\n`);
        fsyncSync(fd);
        closeSync(fd);
      } catch (cause) {
        throw new BoundaryError("state-unwritable", `writing the token to ${path}; revoke it`, { cause });
      }
    },
    drop() {
      closeSync(fd);
      unlinkSync(path);
    },
  };
}
