import * as fs from "node:fs";
import koffi from "koffi";
import type { Protection } from "../ports.ts";

/** linux/fs.h. The request numbers are those of 64-bit systems; the value is an int whatever the macro says. */
const FS_IOC_GETFLAGS = 0x8008_6601;
const FS_IOC_SETFLAGS = 0x4008_6602;
const FS_IMMUTABLE_FL = 0x10;
const FS_APPEND_FL = 0x20;

const ioctl = koffi.load(null).func("int ioctl(int fd, unsigned long request, _Inout_ uint32_t *value)");

/** What holds now, as read back from the file system; "none" says why not, as far as we know. Never throws. */
export function readProtection(fd: number): Protection {
  const flags = readFlags(fd);
  if (typeof flags === "string") return { kind: "none", why: flags };
  if ((flags & FS_IMMUTABLE_FL) !== 0) return { kind: "immutable" };
  return (flags & FS_APPEND_FL) !== 0 ? { kind: "append-only" } : { kind: "none", why: "not set" };
}

/** Sets one of the two and takes the other away, and says what holds then. Never throws. `fd`: open for reading or writing. */
export function protect(fd: number, kind: "append-only" | "immutable"): Protection {
  const why = setFlags(fd, kind === "immutable" ? FS_IMMUTABLE_FL : FS_APPEND_FL);
  const now = readProtection(fd);
  return now.kind === kind || why === "" ? now : { kind: "none", why };
}

/** Takes both away, for what we have to do with the file ourselves. Throws an Error when one holds and cannot be taken away. */
export function unprotect(fd: number): void {
  const before = readProtection(fd);
  if (before.kind === "none") return;
  const why = setFlags(fd, 0);
  if (readProtection(fd).kind !== "none") throw new Error(`it is ${before.kind}: ${why}`);
}

/** `unprotect` by path; nothing when there is no file. Throws the system's error too. */
export function unprotectFile(path: string): void {
  let fd: number;
  try {
    // O_NONBLOCK: whatever stands there, opening it must not wait
    fd = fs.openSync(path, fs.constants.O_RDONLY | fs.constants.O_NOFOLLOW | fs.constants.O_NONBLOCK);
  } catch (cause) {
    if (cause instanceof Error && "code" in cause && cause.code === "ENOENT") return;
    throw cause;
  }
  try {
    unprotect(fd);
  } finally {
    fs.closeSync(fd);
  }
}

/** "" when done. */
function setFlags(fd: number, wanted: number): string {
  const flags = readFlags(fd);
  if (typeof flags === "string") return flags;
  const next = ((flags & ~(FS_IMMUTABLE_FL | FS_APPEND_FL)) | wanted) >>> 0;
  if (next === flags) return "";
  return ioctl(fd, FS_IOC_SETFLAGS, [next]) === 0 ? "" : whyNot(koffi.errno());
}

function readFlags(fd: number): number | string {
  const value = [0];
  if (ioctl(fd, FS_IOC_GETFLAGS, value) !== 0) return whyNot(koffi.errno());
  return value[0] ?? 0;
}

function whyNot(errno: number): string {
  const { EPERM, EACCES, ENOTTY, EOPNOTSUPP, EROFS, EINVAL } = koffi.os.errno;
  if (errno === EPERM || errno === EACCES) return "no CAP_LINUX_IMMUTABLE, or the file is somebody else's";
  if (errno === ENOTTY || errno === EOPNOTSUPP || errno === EINVAL)
    return "the file system does not support it";
  return errno === EROFS ? "the file system is read-only" : `error ${errno}`;
}
