import { setTimeout as sleep } from "node:timers/promises";
import { createHome, type DaemonHome, startDaemon } from "../support/daemon-process.ts";
import { CONFIG } from "./config.ts";
import { examine } from "./examine.ts";
import { type Allowed, leaveLockdown, startLoad, statusOf } from "./load.ts";
import { count, type Outcome, type Run } from "./run.ts";

/** A log grows with every round, and is read as a whole three times in each. */
const ROUNDS_PER_HOME = 25;
const CLIENTS = 4;

/**
 * kill -9 under load, 5 to 150 ms into it; in one of five rounds while it starts. Then everything that was allowed is
 * in the log, in all rounds before too, and the next start is LOCKDOWN.
 */
export async function runKills(run: Run): Promise<Outcome> {
  const seen = new Map<string, number>();
  const problems: string[] = [];
  let rounds = 0;
  while (rounds < run.rounds && performance.now() < run.untilMs) {
    const home = createHome(CONFIG);
    const allowed: Allowed[] = [];
    try {
      for (let i = 0; i < ROUNDS_PER_HOME && rounds < run.rounds && performance.now() < run.untilMs; i++) {
        rounds += 1;
        const found = await killOnce(home, run, { rounds, first: i === 0 }, allowed, seen);
        problems.push(...found.map((problem) => `round ${rounds}: ${problem}`));
        for (const problem of found) run.tell(`  round ${rounds}: ${problem}`);
      }
    } finally {
      home.remove();
    }
  }
  return { rounds, seen, problems, short: rounds < run.rounds ? `${rounds} of ${run.rounds} rounds` : "" };
}

async function killOnce(
  home: DaemonHome,
  { random }: Run,
  at: { readonly rounds: number; readonly first: boolean },
  allowed: Allowed[],
  seen: Map<string, number>,
): Promise<readonly string[]> {
  const problems: string[] = [];
  if (random.below(5) === 0 && !at.first) {
    await killWhileStarting(home, 5 + random.below(350));
    count(seen, "killed while it starts");
  } else {
    const daemon = await startDaemon(home);
    try {
      const { mode } = await statusOf(home);
      if (!at.first && mode.wanted !== "LOCKDOWN")
        problems.push(`it started in ${mode.wanted} after a crash`);
      if (mode.wanted === "LOCKDOWN" && !(await leaveLockdown(home)))
        problems.push("the ceremony was refused");
      const load = startLoad(home, { clients: CLIENTS, calls: 100_000, name: `r${at.rounds}` });
      await sleep(5 + random.below(146));
      await daemon.kill();
      const { allowed: got } = await load.done;
      allowed.push(...got);
      count(seen, got.length > 0 ? "killed under load" : "killed before anything was allowed");
      for (const _ of got) count(seen, "allowed");
    } finally {
      await daemon.kill();
    }
  }
  const { verdict, problems: found } = await examine(home, allowed);
  if (verdict) count(seen, `log ${verdict.verdict}`);
  return [...problems, ...found];
}

async function killWhileStarting(home: DaemonHome, afterMs: number): Promise<void> {
  // the shell becomes the daemon: $$ is its pid, also in the subshell that kills it
  const script = `(sleep ${afterMs / 1_000}; kill -9 $$) >/dev/null 2>&1 & exec "$@"`;
  const starting = startDaemon(home, { wrapper: ["/bin/sh", "-c", script, "sh"] });
  const daemon = await starting.catch(() => null); // it ended before it was ready, as it should
  await daemon?.exited;
}
