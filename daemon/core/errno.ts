import { BoundaryError, ERRORS, type ErrorCode } from "./errors.ts";

/** What the operating system says, in our words. What is not here is "internal": nobody has thought about it. */
const MEANING: Readonly<Record<string, ErrorCode>> = {
  EINTR: "interrupted",
  EAGAIN: "busy",
  EWOULDBLOCK: "busy",
  EBUSY: "busy",
  ETXTBSY: "busy",
  ENOSPC: "disk-full",
  EDQUOT: "disk-full",
  EIO: "disk-failing",
  EROFS: "read-only",
  EACCES: "not-permitted",
  EPERM: "not-permitted",
  ENOENT: "not-found",
  ENOTDIR: "not-found",
  EEXIST: "already-exists",
  EMFILE: "out-of-resources",
  ENFILE: "out-of-resources",
  ENOMEM: "out-of-resources",
  ENOBUFS: "out-of-resources",
  EPIPE: "peer-gone",
  ECONNRESET: "peer-gone",
  ECONNREFUSED: "peer-gone",
  ETIMEDOUT: "deadline",
};

/** The code of anything thrown: our own errors keep theirs, the system's are translated, the rest is "internal". */
export function codeOf(error: unknown): ErrorCode {
  if (error instanceof BoundaryError) return error.code;
  const errno: unknown = error instanceof Error && "code" in error ? error.code : null;
  return typeof errno === "string" && Object.hasOwn(MEANING, errno)
    ? (MEANING[errno] ?? "internal")
    : "internal";
}

/** Whether the same may succeed a little later. */
export function isTransient(error: unknown): boolean {
  return ERRORS[codeOf(error)].lasts === "transient";
}
