import { closeSync, constants, readlinkSync, writeSync } from "node:fs";
import koffi from "koffi";
import { BoundaryError } from "../core/errors.ts";

/** System calls that Node has not. The numbers are the same on x86_64 and aarch64. */
const SYS_PIDFD_SEND_SIGNAL = 424;
const SYS_PIDFD_OPEN = 434;
const SYS_CLOSE_RANGE = 436;
const SYS_OPENAT2 = 437;

const CLOSE_RANGE_CLOEXEC = 4;
const MFD_CLOEXEC = 1;
const PR_SET_DUMPABLE = 4;
const PR_SET_NO_NEW_PRIVS = 38;
const ESRCH = 3;
const POLLIN = 1;
// asm-generic/fcntl.h, which both architectures have these two of; Node has neither
const O_CLOEXEC = 0o2_000_000;
const O_PATH = 0o10_000_000;

/** openat2(2), how to resolve. */
const RESOLVE = { noMagicLinks: 0x02, noLinks: 0x04, beneath: 0x08 } as const;

const libc = koffi.load(null);
const openat2 = libc.func(
  "long syscall(long number, long directory, const char *path, void *how, long size)",
);
const onNumbers = libc.func("long syscall(long number, long one, long two, long three, long four)");
const poll = libc.func("int poll(void *descriptors, unsigned long count, int timeoutMs)");
const pipe2 = libc.func("int pipe2(void *ends, int flags)");
const memfd = libc.func("int memfd_create(const char *name, unsigned int flags)");
const prctl = libc.func(
  "int prctl(int option, unsigned long two, unsigned long three, unsigned long four, unsigned long five)",
);

/** How a path may be followed: no link at all, or links that stay below the directory it is opened in. */
export type Following = "no-links" | "beneath";

/** A path, opened; close it. `readable`: to read the file; otherwise it only stands for the place (O_PATH). */
export function openPlace(
  directory: number | null,
  path: string,
  how: { readonly following: Following; readonly kind: "directory" | "any" | "readable" },
): number | { readonly errno: string } {
  const kinds = { directory: O_PATH | constants.O_DIRECTORY, any: O_PATH, readable: constants.O_RDONLY };
  const flags = kinds[how.kind] | O_CLOEXEC | (how.kind === "readable" ? constants.O_NONBLOCK : 0);
  const resolve = RESOLVE.noMagicLinks | (how.following === "beneath" ? RESOLVE.beneath : RESOLVE.noLinks);
  const words = new BigUint64Array([BigInt(flags), 0n, BigInt(resolve)]); // struct open_how
  const fd = Number(openat2(SYS_OPENAT2, directory ?? -100, path, words, words.byteLength));
  return fd >= 0 ? fd : { errno: errnoName() };
}

/** Where an open descriptor is, by the kernel's word; null when it cannot say (removed, in another place). */
export function placeOf(fd: number): string | null {
  const path = readlinkSync(`/proc/self/fd/${fd}`);
  return path.startsWith("/") && !path.endsWith(" (deleted)") ? path : null;
}

/** A file in memory with these bytes, to be read from its beginning by a child. Close it. */
export function memoryFile(name: string, bytes: Uint8Array): number {
  const fd = Number(memfd(name, MFD_CLOEXEC));
  if (fd < 0) throw new BoundaryError("internal", `making a file in memory: ${errnoName()}`);
  try {
    for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at, bytes.length - at, at);
    return fd;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/** A pipe: what is written to the second comes out of the first. Close both. (Node's own for children are sockets, which programs cannot open again as /dev/stdout.) */
export function makePipe(): readonly [readFd: number, writeFd: number] {
  const ends = Buffer.alloc(8);
  if (pipe2(ends, O_CLOEXEC) !== 0) throw new BoundaryError("internal", `making a pipe: ${errnoName()}`);
  return [ends.readInt32LE(0), ends.readInt32LE(4)];
}

/** A process that cannot be mistaken for another, however numbers are used again. Close it. Null when it has gone. */
export function openProcess(pid: number): number | null {
  const fd = Number(onNumbers(SYS_PIDFD_OPEN, pid, 0, 0, 0));
  return fd >= 0 ? fd : null;
}

/** Whether a process has ended. Of the first of a pid namespace: whether every process in it has. */
export function hasEnded(processFd: number): boolean {
  const asked = Buffer.alloc(8); // struct pollfd: fd, events, revents
  asked.writeInt32LE(processFd, 0);
  asked.writeInt16LE(POLLIN, 4);
  // interrupted or refused is not ended
  return poll(asked, 1, 0) === 1 && (asked.readInt16LE(6) & POLLIN) !== 0;
}

/** Sends a signal; false when there is no such process any more. */
export function signalProcess(processFd: number, signal: number): boolean {
  if (Number(onNumbers(SYS_PIDFD_SEND_SIGNAL, processFd, signal, 0, 0)) === 0) return true;
  return koffi.errno() !== ESRCH;
}

/**
 * Makes this process one that hands nothing on and gains nothing: no descriptor that it was started with reaches a child,
 * no program that is started can gain rights, and no other process of its user may look into it. Gives what it could not do.
 */
export function guardProcess(): readonly string[] {
  const failed: string[] = [];
  const last = 0xffff_ffff; // as an unsigned int
  if (Number(onNumbers(SYS_CLOSE_RANGE, 3, last, CLOSE_RANGE_CLOEXEC, 0)) !== 0) failed.push("close_range");
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) !== 0) failed.push("PR_SET_NO_NEW_PRIVS");
  if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) !== 0) failed.push("PR_SET_DUMPABLE");
  return failed;
}

function errnoName(): string {
  const number = koffi.errno();
  return Object.entries(koffi.os.errno).find(([, value]) => value === number)?.[0] ?? `errno ${number}`;
}
