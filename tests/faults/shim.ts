import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";

/** The n-th call of a kind on the daemon's files, and what becomes of it; shim.c says what each `how` does. */
export type Fault = {
  readonly call: "write" | "open" | "fsync" | "rename" | "link" | "unlink" | "ftruncate" | "mkdir" | "ioctl";
  readonly how: "instead" | "after" | "short" | "lie" | "from" | "die";
  readonly errno: keyof typeof ERRNO;
  readonly n: number;
};

const ERRNO = { ENOSPC: 28, EIO: 5, EINTR: 4, EDQUOT: 122 } as const;

/** Something that was done to the disk, and when (CLOCK_MONOTONIC, nanoseconds, as process.hrtime has it). */
export type DiskOp = {
  readonly begunNs: bigint;
  readonly endedNs: bigint;
  readonly what:
    | "create"
    | "write"
    | "write-synced"
    | "sync"
    | "truncate"
    | "rename"
    | "link"
    | "unlink"
    | "mkdir"
    | "open"
    | "ioctl"
    | "fault";
  readonly path: string;
  /** write: the offset. truncate: the size. */
  readonly at: number;
  /** rename, link: the new name. */
  readonly to: string;
  readonly data: Buffer;
};

/** Compiles the shim into a directory and returns its path; null where there is no C compiler. */
export function buildShim(directory: string): string | null {
  const shim = join(directory, "shim.so");
  const source = join(import.meta.dirname, "shim.c");
  const args = ["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o", shim, source, "-lpthread"];
  const built = spawnSync("cc", args, { encoding: "utf8", timeout: 60_000 });
  if (built.error) return null;
  if (built.status !== 0) throw new Error(`the shim does not compile:\n${built.stderr}`);
  return shim;
}

/** The environment that puts the shim under a daemon. `arm`: the file from whose making on calls count. */
export function shimEnv(
  shim: string,
  dirs: readonly string[],
  files: { readonly journal: string; readonly arm?: string },
  fault?: Fault,
): Readonly<Record<string, string>> {
  return {
    LD_PRELOAD: shim,
    FAULT_DIRS: dirs.join(":"),
    FAULT_JOURNAL: files.journal,
    ...(files.arm ? { FAULT_ARM: files.arm } : {}),
    ...(fault ? { FAULT_SPEC: `${fault.call}:${fault.n}:${fault.how}:${ERRNO[fault.errno]}` } : {}),
  };
}

export function readJournal(path: string): readonly DiskOp[] {
  if (!existsSync(path)) return [];
  return readFileSync(path, "latin1").split("\n").slice(0, -1).map(parseOp);
}

function parseOp(line: string): DiskOp {
  const [begun = "", ended = "", what = "", path = "", at = "", , to = "", data = ""] = line.split(" ");
  return {
    begunNs: BigInt(begun),
    endedNs: BigInt(ended),
    what: what as DiskOp["what"],
    path,
    at: Number(at),
    to: to === "-" ? "" : to,
    data: Buffer.from(data, "hex"),
  };
}
