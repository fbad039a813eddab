import koffi from "koffi";

const PR_SET_DUMPABLE = 4;
const PR_GET_DUMPABLE = 3;
const RLIMIT_CORE = 4;
/** The same number on x86_64 and aarch64. */
const SYS_CLOSE_RANGE = 436;
const CLOSE_RANGE_CLOEXEC = 4;
const LAST_DESCRIPTOR = 0xffff_ffff;
/** Two 64-bit numbers, soft and hard: none. */
const NO_CORE = Buffer.alloc(16);

/**
 * What this process holds in memory goes into no core dump (also not one that a program takes in through a pipe), and no
 * other process of its user may attach to it or read its memory. root still may. Gives what could not be done.
 */
export function guardMemory(): readonly string[] {
  const libc = koffi.load(null);
  const prctl = libc.func(
    "int prctl(int option, unsigned long two, unsigned long three, unsigned long four, unsigned long five)",
  );
  const setrlimit = libc.func("int setrlimit(int resource, const uint8_t *limits)");
  const undumpable = prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) === 0 && prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) === 0;
  // under our unit the system call is refused, and LimitCORE=0 says the same
  setrlimit(RLIMIT_CORE, NO_CORE);
  return undumpable ? [] : ["PR_SET_DUMPABLE"];
}

/**
 * What this process was started with reaches no program that it starts: Node closes its own descriptors to them, and of
 * inherited ones only those up to the first gap. Gives what could not be done.
 */
export function guardDescriptors(): readonly string[] {
  const call = koffi
    .load(null)
    .func("long syscall(long number, unsigned int first, unsigned int last, unsigned int flags)");
  const done = Number(call(SYS_CLOSE_RANGE, 3, LAST_DESCRIPTOR, CLOSE_RANGE_CLOEXEC)) === 0;
  return done ? [] : ["close_range"];
}
