import type { ChildProcess } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type DaemonHome, type DaemonProcess, startDaemon } from "../support/daemon-process.ts";
import type { Case } from "./cases.ts";
import { layDisk } from "./disks.ts";
import { examine } from "./examine.ts";
import { type Allowed, startLoad, statusOf, withClient } from "./load.ts";
import { within } from "./run.ts";
import { readJournal, shimEnv } from "./shim.ts";
import { attachStrace, straceArgs } from "./strace.ts";

type Found = { readonly outcome: string; readonly problems: readonly string[] };

/** A life with one fault in it, what it left on the disk, and the next start. */
export async function runCase(
  home: DaemonHome,
  each: Case,
  from: { shim: string; disk: string },
): Promise<Found> {
  layDisk(home, from.disk);
  const allowed: Allowed[] = [];
  const lived = await live(home, each, from.shim, allowed);
  const first = await examine(home, allowed);
  const after = await startAgain(home, allowed, first.verdict);
  const outcome = hasHit(home, each) ? lived.outcome : "not reached";
  return { outcome, problems: [...lived.problems, ...first.problems, ...after] };
}

/** One life of the daemon with the fault in it. Every wait has a deadline: a daemon that hangs is a problem too. */
async function live(home: DaemonHome, each: Case, shim: string, allowed: Allowed[]): Promise<Found> {
  const started = await start(home, each, shim).catch((error: unknown) => String(error));
  if (typeof started === "string") {
    const refused = /ended with [123]:/.test(started);
    return {
      outcome: "refused to start",
      problems: refused ? [] : [`it did not start: ${started.slice(0, 2_000)}`],
    };
  }
  let strace: ChildProcess | null = null;
  try {
    strace = await armFor("load", home, each, started);
    const load = startLoad(home, { clients: 3, calls: 12, name: "n" });
    const tighter = withClient(home, (client) => client.call("mode.set", { mode: "AIRGAP", reason: "test" }));
    await tighter.catch(() => undefined);
    const { allowed: seen, others } = await within(15_000, "the load", load.done);
    allowed.push(...seen);
    const status = await statusOf(home);
    const failed = status.log.state === "failed";
    const open =
      failed && status.mode.wanted !== "LOCKDOWN" ? [`the log failed in ${status.mode.wanted}`] : [];
    strace ??= await armFor("stop", home, each, started);
    const { code } = await within(10_000, "the stop", started.stop());
    const stop = code === 0 || code === 1 || code === 3 ? [] : [`it stopped with ${code}`];
    const outcome = failed ? "LOCKDOWN" : code === 0 ? "went on" : "failed to stop cleanly";
    return {
      outcome: others > 0 && !failed ? `${outcome}, some denied` : outcome,
      problems: [...open, ...stop],
    };
  } catch (error) {
    return { outcome: "stuck", problems: [String(error)] };
  } finally {
    await started.kill();
    strace?.kill("SIGKILL");
  }
}

async function start(home: DaemonHome, each: Case, shim: string): Promise<DaemonProcess> {
  const journal = join(home.path, "journal");
  if (each.by === "shim") {
    const files = each.phase === "start" ? { journal } : { journal, arm: join(home.path, "armed") };
    return await startDaemon(home, { env: shimEnv(shim, [home.logDir, home.stateDir], files, each) });
  }
  // -D: strace is the grandchild, so that our child is the daemon, and gets our signals
  const wrapper = each.phase === "start" ? ["strace", "-D", ...straceArgs(home, each)] : [];
  return await startDaemon(home, { wrapper });
}

async function armFor(
  phase: Case["phase"],
  home: DaemonHome,
  each: Case,
  daemon: DaemonProcess,
): Promise<ChildProcess | null> {
  if (each.phase !== phase) return null;
  if (each.by === "strace") return await within(5_000, "strace", attachStrace(daemon.pid, home, each));
  writeFileSync(join(home.path, "armed"), "");
  return null;
}

function hasHit(home: DaemonHome, { by }: Case): boolean {
  if (by === "shim") return readJournal(join(home.path, "journal")).some(({ what }) => what === "fault");
  const told = join(home.path, "strace.out");
  return existsSync(told) && readFileSync(told, "latin1").includes("(INJECTED)");
}

/** Without the fault it starts, in LOCKDOWN unless it stopped cleanly or for the first time, and has lost nothing. */
async function startAgain(
  home: DaemonHome,
  allowed: readonly Allowed[],
  verdict: Awaited<ReturnType<typeof examine>>["verdict"],
): Promise<readonly string[]> {
  // a first start that failed before its first batch is followed by a first start
  const first = verdict === null || verdict.bad?.code === "log-empty";
  const clean = verdict?.verdict === "sound" && verdict.state.stop === "clean";
  try {
    const mode = await modeOfNextStart(home);
    const open = !first && !clean && mode !== "LOCKDOWN" ? [`it started in ${mode}`] : [];
    const { problems } = await examine(home, allowed);
    return [...open, ...problems.map((problem) => `after the next start: ${problem}`)];
  } catch (error) {
    return [`the next start: ${String(error).slice(0, 2_000)}`];
  }
}

async function modeOfNextStart(home: DaemonHome): Promise<string> {
  const daemon = await startDaemon(home, { args: ["--mode", "open"] });
  try {
    return (await statusOf(home)).mode.wanted;
  } finally {
    await daemon.kill();
  }
}
