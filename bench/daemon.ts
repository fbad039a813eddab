import { execFileSync, spawn } from "node:child_process";
import { closeSync, fdatasyncSync, openSync, readFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { connectControl } from "../client/control.ts";
import { renderFrame } from "../daemon/protocol/frame.ts";
import {
  createHome,
  type DaemonHome,
  type DaemonProcess,
  startDaemon,
} from "../tests/support/daemon-process.ts";
import { delay } from "../tests/support/packets.ts";
import type { BenchRow } from "./row.ts";
import { measureRoundTrips, type Round } from "./socket-echo.ts";

/** What is installed and measured is the built form. */
const ROOT = fileURLToPath(new URL("..", import.meta.url));
const MAIN = join(ROOT, "dist/daemon/main.js");
const CTL = join(ROOT, "dist/cli/main.js");
const ECHO = fileURLToPath(new URL("./socket-echo.ts", import.meta.url));
const CONFIG = { initialMode: "RESTRICTED", ceremony: { coolDownMs: 0, requireTerminal: false } };
const IDLE_MS = 60_000;
const STARTS = 7;

const question = {
  verb: "check",
  params: {
    action: { name: "recall" },
    resource: { type: "memory", id: "note-1", properties: { class: "CONFIDENTIAL" } },
  },
};
const renderAsk = (n: number): string => renderFrame("request", { id: String(n), ...question });

/** The whole daemon as a process, log-only: what a caller, an operator and the host's power bill see of it. */
export async function benchDaemon(): Promise<readonly BenchRow[]> {
  execFileSync("npm", ["run", "--silent", "build"], { cwd: ROOT, stdio: "inherit" });
  const home = createHome(CONFIG);
  try {
    const starts = await measureStarts(home);
    const daemon = await startDaemon(home, { main: MAIN });
    try {
      await leaveLockdown(home);
      return [
        ...starts,
        ...(await measureSocket(home)),
        await measureStatus(home),
        ...(await measureIdle(daemon)),
      ];
    } finally {
      await daemon.kill();
    }
  } finally {
    home.remove();
  }
}

async function measureStarts(home: DaemonHome): Promise<readonly BenchRow[]> {
  const ready: number[] = [];
  const exit: number[] = [];
  for (let i = 0; i < STARTS; i++) {
    const daemon = await startDaemon(home, { main: MAIN });
    ready.push(daemon.readyMs);
    exit.push((await daemon.stop()).ms);
  }
  const bare = await medianOf(STARTS, () => run(process.execPath, ["-e", "0"]));
  return [
    ratioRow(
      "start to ready (median)",
      median(ready),
      "ms",
      "a bare node process",
      bare,
      "≤ 300 ms",
      median(ready) <= 300,
    ),
    {
      what: "SIGTERM to exit (median)",
      value: round(median(exit)),
      unit: "ms",
      rival: "",
      ratio: null,
      aim: "≤ 200 ms",
      met: median(exit) <= 200,
    },
  ];
}

/** RESTRICTED again, whatever ended the daemon before. */
async function leaveLockdown(home: DaemonHome): Promise<void> {
  const client = await connectControl(join(home.runtimeDir, "control.sock"));
  const begun = await client.call("ceremony.begin", { reason: "bench" });
  if (begun.ok) await client.call("ceremony.confirm", { code: begun.data.code, acceptChanges: true });
  client.close();
}

async function measureSocket(home: DaemonHome): Promise<readonly BenchRow[]> {
  const path = join(home.runtimeDir, "control.sock");
  const echo = await startEcho();
  try {
    const one = { clients: 1, requests: 3_000, renderRequest: renderAsk };
    const fifty = { clients: 50, requests: 60_000, renderRequest: renderAsk };
    for (const place of [path, echo.path]) await measureRoundTrips(place, { ...fifty, requests: 10_000 });
    const ours = { one: await measureRoundTrips(path, one), fifty: await measureRoundTrips(path, fifty) };
    const bare = {
      one: await measureRoundTrips(echo.path, one),
      fifty: await measureRoundTrips(echo.path, fifty),
    };
    const syncMs = measureSync(home);
    return socketRows(ours, bare, syncMs);
  } finally {
    await echo.stop();
  }
}

type Rounds = { readonly one: Round; readonly fifty: Round };

function socketRows(ours: Rounds, bare: Rounds, syncMs: number): readonly BenchRow[] {
  const limitMs = Math.max(0.3, 2 * syncMs);
  const ratio50 = bare.fifty.perSecond / ours.fifty.perSecond;
  return [
    ratioRow(
      "decision, durable, 1 client: p50",
      ours.one.p50Ms,
      "ms",
      "a bare node-ipc echo",
      bare.one.p50Ms,
      "≤ 0.3 ms or 2 fdatasync",
      ours.one.p50Ms <= limitMs,
    ),
    ratioRow(
      "decision, durable, 1 client: p99",
      ours.one.p99Ms,
      "ms",
      "a bare node-ipc echo",
      bare.one.p99Ms,
      "",
      null,
    ),
    ratioRow(
      "decision, durable, 1 client: p50",
      ours.one.p50Ms,
      "ms",
      "one write and fdatasync on that disk",
      syncMs,
      "≤ 2×",
      ours.one.p50Ms <= limitMs,
    ),
    {
      what: "decisions, durable, 50 clients",
      value: Math.round(ours.fifty.perSecond),
      unit: "/s",
      rival: `a bare node-ipc echo (${Math.round(bare.fifty.perSecond)}/s)`,
      ratio: round(ratio50),
      aim: "≥ 15,000/s, ≤ 2.5×",
      met: ours.fifty.perSecond >= 15_000 && ratio50 <= 2.5,
    },
    ratioRow(
      "decisions, durable, 50 clients: p99",
      ours.fifty.p99Ms,
      "ms",
      "a bare node-ipc echo",
      bare.fifty.p99Ms,
      "",
      null,
    ),
  ];
}

async function startEcho(): Promise<{ path: string; stop(): Promise<void> }> {
  const child = spawn(process.execPath, [ECHO], { stdio: ["ignore", "pipe", "inherit"] });
  const path = await new Promise<string>((resolve) =>
    createInterface({ input: child.stdout }).once("line", resolve),
  );
  const gone = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  return {
    path,
    async stop() {
      child.kill("SIGTERM");
      await gone;
    },
  };
}

/** p50 of appending 700 bytes (a decision and its seal) and syncing them, on the disk the log is on. */
function measureSync(home: DaemonHome): number {
  const fd = openSync(join(home.path, "sync"), "a", 0o600);
  const bytes = Buffer.alloc(700, "x");
  const times = Array.from({ length: 500 }, () => {
    const startMs = performance.now();
    writeSync(fd, bytes);
    fdatasyncSync(fd);
    return performance.now() - startMs;
  });
  closeSync(fd);
  return median(times);
}

async function measureStatus(home: DaemonHome): Promise<BenchRow> {
  const ms = await medianOf(11, () =>
    run(process.execPath, [
      "--disallow-code-generation-from-strings",
      "--no-memory-protection-keys",
      CTL,
      "status",
      "--runtime-dir",
      home.runtimeDir,
    ]),
  );
  const bare = await medianOf(11, () => run(process.execPath, ["-e", "0"]));
  return ratioRow(
    "boundaryctl status, whole process (median)",
    ms,
    "ms",
    "a bare node process",
    bare,
    "≤ 120 ms",
    ms <= 120,
  );
}

async function measureIdle(daemon: DaemonProcess): Promise<readonly BenchRow[]> {
  await delay(2_000);
  const before = cpuTicks(daemon.pid);
  await delay(IDLE_MS);
  const percent = ((cpuTicks(daemon.pid) - before) / 100 / (IDLE_MS / 1_000)) * 100;
  const rssMb =
    Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${daemon.pid}/status`, "utf8"))?.[1] ?? 0) / 1_024;
  return [
    {
      what: `idle CPU over ${IDLE_MS / 1_000} s, with its children`,
      value: round(percent),
      unit: "% of a core",
      rival: "",
      ratio: null,
      aim: "≤ 0.3 %",
      met: percent <= 0.3,
    },
    {
      what: "resident memory after the load above",
      value: Math.round(rssMb),
      unit: "MB",
      rival: "",
      ratio: null,
      aim: "≤ 90 MB",
      met: rssMb <= 90,
    },
  ];
}

/** User and system time of a process and of its ended and living children, in ticks of 10 ms (proc(5)). */
function cpuTicks(pid: number): number {
  const own = statTicks(pid, [11, 12, 13, 14]);
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8")
    .trim()
    .split(" ")
    .filter(Boolean);
  return own + children.reduce((sum, child) => sum + statTicks(Number(child), [11, 12]), 0);
}

function statTicks(pid: number, fields: readonly number[]): number {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  const after = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return fields.reduce((sum, field) => sum + Number(after[field] ?? 0), 0);
}

function ratioRow(
  what: string,
  value: number,
  unit: string,
  rival: string,
  rivalValue: number,
  aim: string,
  met: boolean | null,
): BenchRow {
  return {
    what,
    value: round(value),
    unit,
    rival: `${rival} (${round(rivalValue)} ${unit})`,
    ratio: round(value / rivalValue),
    aim,
    met,
  };
}

function run(program: string, args: readonly string[]): Promise<void> {
  return new Promise((resolve) => spawn(program, args, { stdio: "ignore" }).on("close", () => resolve()));
}

async function medianOf(times: number, work: () => Promise<void>): Promise<number> {
  const took: number[] = [];
  for (let i = 0; i < times; i++) {
    const startMs = performance.now();
    await work();
    took.push(performance.now() - startMs);
  }
  return median(took);
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;
}

function round(value: number): number {
  return Number(value.toFixed(value < 10 ? 2 : 1));
}

if (import.meta.main) console.table(await benchDaemon());
