import { execFileSync, spawn, spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { createClock } from "../daemon/adapters/clock.ts";
import { openHeadFile } from "../daemon/adapters/head-file.ts";
import { loadKeyRing } from "../daemon/adapters/keys.ts";
import { createSegment, openSegment, readLog } from "../daemon/adapters/log-file.ts";
import { openLog } from "../daemon/audit/log.ts";
import { recoverLog } from "../daemon/audit/recover.ts";
import { createHome, type DaemonHome, startDaemon } from "../tests/support/daemon-process.ts";
import type { BenchRow } from "./row.ts";

/** What a long log costs: a start, a whole verification on all cores, and the memory of both. */
const ROOT = fileURLToPath(new URL("..", import.meta.url));
const MAIN = join(ROOT, "dist/daemon/main.js");
const CTL = join(ROOT, "dist/cli/main.js");
const LENGTHS = [1_000, 10_000, 100_000, 1_000_000];
const IN_FLIGHT = 1_000;
const STARTS = 5;
const JOURNAL_REMOTE = "/usr/lib/systemd/systemd-journal-remote";
const JOURNAL_RECORDS = 100_000;

export async function benchLength(): Promise<readonly BenchRow[]> {
  execFileSync("npm", ["run", "--silent", "build"], { cwd: ROOT, stdio: "inherit" });
  const rows: BenchRow[] = [];
  const empty = await inHome(async (home) => startsOf(home));
  for (const records of LENGTHS) {
    const found = await inHome(async (home) => {
      await lengthen(home, records);
      return [await startRow(home, records, empty), ...(await verifyRows(home, records))];
    });
    rows.push(...found);
  }
  return [...rows, ...journalRows()];
}

async function startRow(home: DaemonHome, records: number, emptyMs: number): Promise<BenchRow> {
  const ms = await startsOf(home);
  return {
    what: `start to ready behind ${records.toLocaleString("en")} records (median)`,
    value: Math.round(ms * 10) / 10,
    unit: "ms",
    rival: `behind none (${emptyMs.toFixed(1)} ms)`,
    ratio: ms / emptyMs,
    aim: "≤ 300 ms more than behind none",
    met: ms - emptyMs <= 300,
  };
}

async function startsOf(home: DaemonHome): Promise<number> {
  const times: number[] = [];
  for (let i = 0; i < STARTS; i++) {
    const daemon = await startDaemon(home, { main: MAIN });
    times.push(daemon.readyMs);
    await daemon.stop();
  }
  return times.toSorted((a, b) => a - b)[Math.floor(STARTS / 2)] ?? 0;
}

async function verifyRows(home: DaemonHome, records: number): Promise<readonly BenchRow[]> {
  const key = readFileSync(join(home.stateDir, "log.vkey"), "utf8").trim();
  const { ms, peakMiB } = await run([CTL, "verify-log", home.logDir, "--key", key]);
  const files = readdirSync(home.logDir)
    .filter((name) => name.endsWith(".jsonl"))
    .map((name) => join(home.logDir, name));
  const start = performance.now();
  execFileSync("sha256sum", files);
  const sumMs = performance.now() - start;
  return [
    {
      what: `boundaryctl verify-log of ${records.toLocaleString("en")} records in ${files.length} segments, whole process, ${peakMiB} MiB at most`,
      value: Math.round((records / ms) * 1000),
      unit: "records/s",
      rival: "sha256sum of the files",
      ratio: ms / sumMs,
      aim: records < 1_000_000 ? "" : "≥ 150,000/s",
      met: records < 1_000_000 ? null : (records / ms) * 1000 >= 150_000,
    },
  ];
}

/** Runs it, and looks at its peak memory while it runs. */
function run(args: readonly string[]): Promise<{ readonly ms: number; readonly peakMiB: number }> {
  return new Promise((resolve, reject) => {
    const start = performance.now();
    const child = spawn(process.execPath, args, { stdio: ["ignore", "ignore", "inherit"] });
    let peakKiB = 0;
    const looking = setInterval(() => {
      if (!existsSync(`/proc/${child.pid}/status`)) return;
      const found = /VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${child.pid}/status`, "utf8"));
      peakKiB = Math.max(peakKiB, Number(found?.[1] ?? 0));
    }, 10);
    child.on("close", (code) => {
      clearInterval(looking);
      if (code !== 0) reject(new Error(`${args.join(" ")} ended with ${code}`));
      else resolve({ ms: performance.now() - start, peakMiB: Math.round(peakKiB / 1024) });
    });
  });
}

/** The journal's own verification of as many entries of the same text, unsealed: it has no key to seal with here. */
function journalRows(): readonly BenchRow[] {
  if (!existsSync(JOURNAL_REMOTE)) return [];
  return inHomeSync((home) => {
    const file = join(home.path, "bench.journal");
    const line = `MESSAGE=${"a decision of some three hundred bytes ".repeat(8)}`;
    const entries = Array.from(
      { length: JOURNAL_RECORDS },
      (_, n) =>
        `__REALTIME_TIMESTAMP=${1_700_000_000_000_000 + n}\n__MONOTONIC_TIMESTAMP=${n}\n_BOOT_ID=${"a".repeat(32)}\n${line}${n}\n\n`,
    ).join("");
    const made = spawnSync(JOURNAL_REMOTE, ["-o", file, "-"], {
      input: entries,
      stdio: ["pipe", "ignore", "ignore"],
    });
    if (made.status !== 0) return [];
    const start = performance.now();
    const verified = spawnSync("journalctl", ["--verify", "--file", file], { stdio: "ignore" });
    const ms = performance.now() - start;
    if (verified.status !== 0) return [];
    return [
      {
        what: `journalctl --verify of ${JOURNAL_RECORDS.toLocaleString("en")} entries, for comparison`,
        value: Math.round((JOURNAL_RECORDS / ms) * 1000),
        unit: "entries/s",
        rival: "",
        ratio: null,
        aim: "",
        met: null,
      },
    ];
  });
}

/** Appends so many decisions to a stopped daemon's log, with its own keys, and stops it again in the log's words. */
async function lengthen(home: DaemonHome, records: number): Promise<void> {
  const daemon = await startDaemon(home, { main: MAIN });
  await daemon.stop();
  const found = loadKeyRing(home.stateDir);
  if (found.kind !== "loaded") throw new Error(`the key is ${found.kind}`);
  const { ring } = found;
  const recovery = await recoverLog({
    read: () => readLog(home.logDir),
    cut: () => "",
    vkey: ring.genesis,
    head: null,
  });
  if (recovery.kind !== "sound") throw new Error(`the log is ${recovery.kind}`);
  const head = openHeadFile(home.stateDir);
  const log = openLog({
    store: openSegment(home.logDir, recovery.file, recovery.endByte),
    signer: ring.current(),
    origin: ring.origin,
    head,
    clock: createClock(),
    tail: recovery.tail,
    successor: {
      key: () => ring.prepareNext(),
      store: (firstSeq) => createSegment(home.logDir, firstSeq),
      took: () => ring.promote(),
    },
    onFailed: (cause) => {
      throw cause;
    },
  });
  let left = records;
  const caller = async () => {
    while (left-- > 0) {
      await log.append({
        kind: "decision",
        data: { action: "recall", class: "SECRET", decision: "deny", mode: "RESTRICTED", uid: left },
      }).durable;
      if (log.segment().bytes > 67_108_864) await log.rotate();
    }
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, caller));
  const { wanted, epoch } = recovery.fold;
  await log.append({
    kind: "daemon.stopped",
    data: { wanted: wanted ?? "LOCKDOWN", epoch, why: "bench", frozen: "" },
  }).durable;
  await log.close();
  head.close();
}

async function inHome<T>(work: (home: DaemonHome) => Promise<T>): Promise<T> {
  const home = createHome({ initialMode: "RESTRICTED" });
  try {
    return await work(home);
  } finally {
    home.remove();
  }
}

function inHomeSync<T>(work: (home: DaemonHome) => T): T {
  const home = createHome({ initialMode: "RESTRICTED" });
  try {
    return work(home);
  } finally {
    home.remove();
  }
}
