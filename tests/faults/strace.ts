import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { join } from "node:path";
import { segmentName } from "../../daemon/adapters/log-file.ts";
import type { DaemonHome } from "../support/daemon-process.ts";
import type { Fault } from "./shim.ts";

/** strace's names of a fault's call, on any machine it knows ("?": where there is one). */
const CALLS: Readonly<Record<Fault["call"], string>> = {
  write: "write,pwrite64,?writev",
  open: "?open,openat",
  fsync: "fsync,fdatasync",
  rename: "?rename,?renameat,?renameat2",
  link: "?link,?linkat",
  unlink: "?unlink,?unlinkat",
  ftruncate: "ftruncate",
  mkdir: "?mkdir,?mkdirat",
  ioctl: "ioctl",
};

/**
 * strace's arguments for a fault that happens "instead", on the files of the log and the state directory alone. It
 * counts for each thread by itself: the n-th call of any of them.
 */
export function straceArgs(home: DaemonHome, fault: Fault): readonly string[] {
  const paths = pathsOf(home).flatMap((path) => ["-P", path]);
  const calls = CALLS[fault.call];
  const inject = `inject=${calls}:error=${fault.errno}:when=${fault.n}`;
  return ["-f", "-qq", "-o", join(home.path, "strace.out"), ...paths, "-e", `trace=${calls}`, "-e", inject];
}

/** strace is told paths beforehand, and a later segment's name is known when it begins: one of these. */
const FIRST_SEQS = 120;

function pathsOf({ logDir, stateDir }: DaemonHome): readonly string[] {
  const keys = ["log.key", "log.key.next", "log.vkey"].flatMap((name) => [name, `${name}.new`]);
  const state = [...keys, "log.key.erase", "log.head", "baseline.json", "baseline.json.new"];
  return [
    logDir,
    stateDir,
    join(logDir, "lock"),
    ...Array.from({ length: FIRST_SEQS }, (_, seq) => join(logDir, segmentName(seq))),
    ...state.map((name) => join(stateDir, name)),
  ];
}

export function hasStrace(): boolean {
  return spawnSync("strace", ["-V"], { timeout: 5_000 }).status === 0;
}

/** Puts strace under a running process, and resolves once it holds all its threads. It ends when the process does. */
export async function attachStrace(pid: number, home: DaemonHome, fault: Fault): Promise<ChildProcess> {
  const args = straceArgs(home, fault).filter((arg) => arg !== "-qq");
  const child = spawn("strace", [...args, "-p", String(pid)], { stdio: ["ignore", "ignore", "pipe"] });
  await new Promise<void>((resolve, reject) => {
    child.stderr?.on("data", (text: Buffer) => text.includes("attached") && resolve());
    child.once("exit", () => reject(new Error("strace did not attach")));
  });
  child.stderr?.resume();
  return child;
}
