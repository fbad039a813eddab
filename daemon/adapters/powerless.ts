import { readFileSync, writeFileSync } from "node:fs";

/** Of util-linux, which every distribution has: nothing of it is loaded into us. */
const SETPRIV = "/usr/bin/setpriv";
/** A process that was started without these words ends with this, before it is asked anything. */
export const EXIT_WITH_RIGHTS = 77;

/**
 * How a helper process of ours is started: without the capabilities that our unit gives us (they are ambient, and a child would
 * have them too), unable to gain any, and killed by the kernel when we end, however we end. Where setpriv is missing, or
 * cannot do it, there is no process.
 */
export function powerless(command: string, args: readonly string[]): readonly [string, readonly string[]] {
  // root has all capabilities of the bounding set by being root
  const root = process.geteuid?.() === 0 ? ["--bounding-set=-all"] : [];
  const words = ["--ambient-caps=-all", "--inh-caps=-all", ...root, "--no-new-privs", "--pdeathsig=KILL"];
  return [SETPRIV, [...words, "--", command, ...args]];
}

/** The daemon is spared by the kernel where memory is short, and its children are as it is: this one is to go first. */
export function yieldMemory(pid: number | undefined): void {
  try {
    if (pid !== undefined) writeFileSync(`/proc/${pid}/oom_score_adj`, "1000");
  } catch {
    // it is gone already, or there is no such thing here
  }
}

/** For such a process, first thing: ends it where it has a right after all, or can gain one. */
export function requirePowerless(): void {
  if (!isPowerless(readFileSync("/proc/self/status", "utf8"))) process.exit(EXIT_WITH_RIGHTS);
}

/** Of /proc/PID/status. What is not said there is not so. */
export function isPowerless(status: string): boolean {
  const says = (line: RegExp) => line.test(status);
  const none = ["CapInh", "CapPrm", "CapEff", "CapAmb"].every((name) =>
    says(new RegExp(`^${name}:\\s+0+$`, "m")),
  );
  return none && says(/^NoNewPrivs:\s+1$/m);
}
