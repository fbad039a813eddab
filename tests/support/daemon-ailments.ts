import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { DaemonProcess } from "./daemon-process.ts";

/** How a daemon can cease to renew. */
export const AILMENTS = ["SIGKILL", "SIGSTOP", "blocked event loop", "out-of-memory kill"] as const;
export type Ailment = (typeof AILMENTS)[number];

const MEMORY = "/sys/fs/cgroup/memory";
const LIMIT_BYTES = 192 * 1024 * 1024;

/** Why memory cannot be limited here, or "". Goes into the name of what is skipped. */
export const NO_MEMORY_LIMIT = existsSync(`${MEMORY}/memory.limit_in_bytes`)
  ? ""
  : "needs cgroup v1's memory";

/** The environment of a daemon that is to fall ill. */
export function ailingEnvironment(ailment: Ailment): Readonly<Record<string, string>> {
  const ail = fileURLToPath(new URL("./ail.ts", import.meta.url));
  return {
    NODE_OPTIONS: `--import=${ail}`,
    BOUNDARY_TEST_AIL: ailment === "out-of-memory kill" ? "eats-memory" : "blocks",
  };
}

/** Has it fall ill: resolves when its loop is blocked, or the kernel has killed it for want of memory. */
export async function ail(daemon: DaemonProcess, ailment: Ailment): Promise<void> {
  switch (ailment) {
    case "SIGKILL":
    case "SIGSTOP":
      return daemon.signal(ailment);
    case "blocked event loop":
      daemon.signal("SIGUSR2");
      return fallenIll(daemon);
    case "out-of-memory kill":
      return killForMemory(daemon);
  }
}

/** A signal waits for its loop's turn, which renews until then. */
async function fallenIll({ lines }: DaemonProcess): Promise<void> {
  for (let tries = 0; tries < 1_000; tries++) {
    if (lines.includes("falling ill")) return;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  throw new Error("it did not fall ill");
}

async function killForMemory(daemon: DaemonProcess): Promise<void> {
  const group = `${MEMORY}/bd-test-${daemon.pid}`;
  mkdirSync(group);
  try {
    writeFileSync(`${group}/memory.limit_in_bytes`, String(LIMIT_BYTES));
    writeFileSync(`${group}/cgroup.procs`, String(daemon.pid));
    daemon.signal("SIGUSR2");
    await daemon.exited;
    const killed = /^oom_kill (\d+)$/m.exec(readFileSync(`${group}/memory.oom_control`, "utf8"))?.[1];
    if (Number(killed ?? 0) === 0) throw new Error("it ended, and not for want of memory");
  } finally {
    if (daemon.pid > 0) await removed(group);
  }
}

/** A group is free some time after its last process. */
async function removed(group: string): Promise<void> {
  for (let tries = 0; tries < 50; tries++) {
    try {
      return rmdirSync(group);
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
}
