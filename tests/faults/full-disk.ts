import { type ChildProcess, spawn } from "node:child_process";
import { mkdirSync, readdirSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { createHome, type DaemonHome, startDaemon } from "../support/daemon-process.ts";
import { CONFIG } from "./config.ts";
import { examine } from "./examine.ts";
import { type Allowed, startLoad, statusOf, withClient } from "./load.ts";
import { count, type Outcome, type Run, within } from "./run.ts";

const SIZES_KB = [96, 128, 200, 256, 400, 512, 800, 1_024] as const;

/** Log and state directory on a small disk of their own, filled by decisions until nothing is allowed any more. */
export async function runFullDisks(run: Run): Promise<Outcome> {
  const none = { rounds: 0, seen: new Map<string, number>(), problems: [] };
  if (process.getuid?.() !== 0) return { ...none, short: "it needs root, for a mount of its own" };
  const seen = new Map<string, number>();
  const problems: string[] = [];
  let rounds = 0;
  for (; rounds < run.rounds && performance.now() < run.untilMs; rounds++) {
    const sizeKb = run.random.pick(SIZES_KB) + 4 * run.random.below(8);
    const found = await fillOne(sizeKb, run.random.below(200), seen).catch((error: unknown) => [
      String(error),
    ]);
    problems.push(...found.map((problem) => `${sizeKb} KiB: ${problem}`));
    for (const problem of found) run.tell(`  ${sizeKb} KiB: ${problem}`);
  }
  return { rounds, seen, problems, short: "" };
}

async function fillOne(
  sizeKb: number,
  padding: number,
  seen: Map<string, number>,
): Promise<readonly string[]> {
  const home = createHome(CONFIG);
  const disk = await mountDisk(join(home.path, "disk"), sizeKb);
  const at: DaemonHome = {
    ...home,
    logDir: join(home.path, "disk/log"),
    stateDir: join(home.path, "disk/state"),
  };
  // the same directories, seen through the namespace of whoever holds the mount
  const outside = { logDir: disk.seen(at.logDir), stateDir: disk.seen(at.stateDir) };
  try {
    const lived = await fill(at, disk.enter, padding, seen);
    const first = await examine(outside, lived.allowed);
    const again = await startFull(at, disk.enter, seen);
    const second = await examine(outside, lived.allowed);
    for (const name of readdirSync(outside.logDir)) removeSpare(join(outside.logDir, name));
    return [...lived.problems, ...first.problems, ...again, ...second.problems];
  } finally {
    disk.unmount();
    home.remove();
  }
}

function removeSpare(path: string): void {
  if (path.endsWith(".bin") && statSync(path).isFile()) rmSync(path);
}

async function fill(
  home: DaemonHome,
  enter: readonly string[],
  padding: number,
  seen: Map<string, number>,
): Promise<{ readonly allowed: readonly Allowed[]; readonly problems: readonly string[] }> {
  const daemon = await startDaemon(home, { wrapper: enter });
  const allowed: Allowed[] = [];
  try {
    for (let round = 0; round < 200; round++) {
      const load = startLoad(home, { clients: 4, calls: 25, name: `f${round}`, padding });
      const { allowed: got } = await within(20_000, "the load", load.done);
      allowed.push(...got);
      if (got.length === 0) break;
    }
    const { mode, log } = await statusOf(home);
    count(seen, `full: ${mode.wanted}, log ${log.state}`);
    const after = await startLoad(home, { clients: 1, calls: 3, name: "after" }).done;
    const open = after.allowed.length > 0 ? ["something was allowed when the disk was full"] : [];
    const stuck = mode.wanted === "LOCKDOWN" ? [] : await tightened(home);
    return { allowed, problems: [...open, ...stuck] };
  } finally {
    await daemon.kill();
  }
}

/** Where a full disk alone does not close the host, tightening has to go on. */
async function tightened(home: DaemonHome): Promise<readonly string[]> {
  const outcome = await withClient(home, (client) =>
    client.call("mode.set", { mode: "LOCKDOWN", reason: "the disk is full" }),
  );
  const { mode } = await statusOf(home);
  return mode.wanted === "LOCKDOWN" ? [] : [`on a full disk it does not tighten: ${JSON.stringify(outcome)}`];
}

/** A start on the full disk is refused, or is LOCKDOWN. */
async function startFull(
  home: DaemonHome,
  enter: readonly string[],
  seen: Map<string, number>,
): Promise<readonly string[]> {
  const daemon = await startDaemon(home, { wrapper: enter, args: ["--mode", "open"] }).catch(String);
  if (typeof daemon === "string") {
    count(seen, "next start: refused");
    return /ended with [123]:/.test(daemon) ? [] : [`the next start: ${daemon.slice(0, 2_000)}`];
  }
  try {
    const { mode } = await statusOf(home);
    count(seen, `next start: ${mode.wanted}`);
    return mode.wanted === "LOCKDOWN" ? [] : [`the next start is ${mode.wanted}`];
  } finally {
    await daemon.kill();
  }
}

type Disk = {
  /** What runs a program where the disk is mounted. */
  readonly enter: readonly string[];
  /** A path there, as seen from here. */
  seen(path: string): string;
  unmount(): void;
};

/** A tmpfs in a mount namespace that lives as long as a process of ours: nothing is left when that is gone. */
async function mountDisk(at: string, sizeKb: number): Promise<Disk> {
  mkdirSync(at);
  const script = `mount -t tmpfs -o size=${sizeKb}k,mode=700 tmpfs "$1" && echo ready && exec sleep 300`;
  const holder: ChildProcess = spawn(
    "unshare",
    ["--mount", "--propagation", "private", "sh", "-c", script, "sh", at],
    { stdio: ["ignore", "pipe", "inherit"] },
  );
  process.once("exit", () => holder.kill("SIGKILL"));
  await new Promise<void>((resolve, reject) => {
    holder.stdout?.once("data", () => resolve());
    holder.once("exit", () => reject(new Error("the small disk could not be mounted")));
  });
  return {
    enter: ["nsenter", "--target", String(holder.pid), "--mount", "--"],
    seen: (path) => `/proc/${holder.pid}/root${path}`,
    unmount: () => void holder.kill("SIGKILL"),
  };
}
