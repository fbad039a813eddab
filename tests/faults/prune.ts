import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { readOwnVkey } from "../../cli/own-state.ts";
import { readLog } from "../../daemon/adapters/log-file.ts";
import { verifyLog } from "../../daemon/audit/verify.ts";
import { createHome, type DaemonHome, startDaemon } from "../support/daemon-process.ts";
import { oldLog } from "../support/old-log.ts";
import { CONFIG } from "./config.ts";
import { examine } from "./examine.ts";
import { withClient } from "./load.ts";
import { count, type Outcome, type Run, within } from "./run.ts";

const OLD_SEGMENTS = 3;
const KEEP_DAYS = 90;

/** Old segments are pruned, and the daemon is killed within it; the next one prunes again, and only what was to go is gone. */
export async function runPrunes(run: Run): Promise<Outcome> {
  const seen = new Map<string, number>();
  const problems: string[] = [];
  let rounds = 0;
  for (; rounds < run.rounds && performance.now() < run.untilMs; rounds++) {
    const home = createHome(CONFIG);
    try {
      const found = await pruneOnce(home, run.random.below(30), seen).catch((error) => [String(error)]);
      problems.push(...found.map((problem) => `round ${rounds + 1}: ${problem}`));
      for (const problem of found) run.tell(`  round ${rounds + 1}: ${problem}`);
    } finally {
      home.remove();
    }
  }
  return { rounds, seen, problems, short: rounds < run.rounds ? `${rounds} of ${run.rounds} rounds` : "" };
}

async function pruneOnce(home: DaemonHome, killAfterMs: number, seen: Map<string, number>) {
  await oldLog(home, KEEP_DAYS + 10);
  const before = await recordsIn(home);
  await killWhilePruning(home, killAfterMs);
  count(seen, `killed with ${gone(home)} of ${OLD_SEGMENTS} segments gone, ${tombstones(home)} tombstones`);
  const killed = await examine(home, []);
  const again = await pruneAgain(home);
  const { verdict, problems } = await examine(home, []);
  const kept = await recordsIn(home);
  const lost = [...before.keys()].filter(
    (seq) => seq >= (verdict?.pruned.records ?? 0) && kept.get(seq) !== before.get(seq),
  );
  return [
    ...killed.problems.map((problem) => `after the kill: ${problem}`),
    ...problems,
    ...(again.ok ? [] : [`pruning again: ${JSON.stringify(again)}`]),
    ...(verdict?.pruned.segments === OLD_SEGMENTS ? [] : [`${verdict?.pruned.segments} segments are pruned`]),
    ...(lost.length > 0 ? [`records ${lost.join(", ")} are not what they were`] : []),
  ];
}

async function pruneAgain(home: DaemonHome) {
  const daemon = await startDaemon(home);
  try {
    return await prune(home);
  } finally {
    await daemon.stop();
  }
}

async function killWhilePruning(home: DaemonHome, afterMs: number): Promise<void> {
  const daemon = await startDaemon(home);
  const pruning = prune(home).catch(() => undefined);
  await sleep(afterMs);
  await daemon.kill();
  await within(5_000, "the client of a killed daemon", pruning);
}

function prune(home: DaemonHome) {
  return withClient(home, (client) => client.call("log.prune", { keptDays: KEEP_DAYS }));
}

/** Number and hash of the record before, which stands for all that is in them. */
async function recordsIn(home: DaemonHome): Promise<ReadonlyMap<number, string>> {
  const records = new Map<number, string>();
  const vkey = readOwnVkey(home.stateDir) ?? "";
  await verifyLog(readLog(home.logDir), { vkey, onRecord: ({ seq, prev }) => records.set(seq, prev) });
  return records;
}

function gone(home: DaemonHome): number {
  const stones = readdirSync(home.logDir).filter((name) => name.endsWith(".tombstone"));
  return stones.filter((name) => !existsSync(join(home.logDir, name.replace(".tombstone", ".jsonl")))).length;
}

function tombstones(home: DaemonHome): number {
  return readdirSync(home.logDir).filter((name) => name.endsWith(".tombstone")).length;
}
