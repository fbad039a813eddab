import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openHistory } from "../../daemon/open-log.ts";
import { createHome, type DaemonHome, startDaemon } from "../support/daemon-process.ts";
import { logPlaceAt } from "../support/log-place.ts";
import { CONFIG } from "./config.ts";
import { diskAfterCut, layImage, type Tearing } from "./disk-model.ts";
import { unprotect } from "./disks.ts";
import { examine } from "./examine.ts";
import { type Allowed, leaveLockdown, startLoad, withClient } from "./load.ts";
import { count, type Outcome, type Run, within } from "./run.ts";
import { type DiskOp, readJournal, shimEnv } from "./shim.ts";

const WRITES_BEFORE_DEATH = 161;

/** Records what a real run does to its disk, and looks at disks as a power cut at any point may leave them. */
export async function runPowerCuts(run: Run): Promise<Outcome> {
  if (!run.shim) return { rounds: 0, seen: new Map(), problems: [], short: "no C compiler" };
  const home = createHome(CONFIG);
  const seen = new Map<string, number>();
  const problems: string[] = [];
  let rounds = 0;
  try {
    const { ops, allowed } = await record(home, run.shim);
    seen.set("operations recorded", ops.length);
    seen.set(
      "segments made",
      ops.filter(({ what, path }) => what === "create" && path.endsWith(".jsonl")).length,
    );
    seen.set("allowed", allowed.length);
    for (; rounds < run.rounds && performance.now() < run.untilMs; rounds++) {
      const at = run.random.below(ops.length + 1);
      const tearing = run.random.pick(["prefix", "holes"] as const);
      const found = await cutAt(home.path, { ops, allowed, at, tearing }, run, seen);
      problems.push(...found.map((problem) => `cut at operation ${at} (${tearing}): ${problem}`));
      for (const problem of found) run.tell(`  cut at operation ${at} (${tearing}): ${problem}`);
    }
  } finally {
    home.remove();
  }
  return { rounds, seen, problems, short: rounds < run.rounds ? `${rounds} of ${run.rounds} cuts` : "" };
}

type Recorded = { readonly ops: readonly DiskOp[]; readonly allowed: readonly Allowed[] };

/** A first start, load, kill -9, a start in LOCKDOWN, a ceremony, load, a tightening, a clean stop, and one more start. */
async function record(home: DaemonHome, shim: string): Promise<Recorded> {
  const journal = join(home.path, "journal");
  const dying = { call: "write", how: "die", errno: "EIO", n: WRITES_BEFORE_DEATH } as const;
  const dirs = [home.logDir, home.stateDir];
  const env = shimEnv(shim, dirs, { journal });
  const first = await startDaemon(home, { env: shimEnv(shim, dirs, { journal }, dying) });
  const underKill = startLoad(home, { clients: 3, calls: 10_000, name: "first" });
  // killed by the shim: from outside, a write could be done and not be in the journal
  await within(20_000, "the first life", first.exited);
  const second = await startDaemon(home, { env });
  await leaveLockdown(home);
  const load = startLoad(home, { clients: 3, calls: 15, name: "zweiter Lauf, äöü 🔑", padding: 700 });
  await withClient(home, (client) => client.call("mode.set", { mode: "TRUSTED", reason: "test" }));
  const all = [await underKill.done, await load.done];
  await second.stop();
  await (await startDaemon(home, { env })).stop();
  return { ops: readJournal(journal), allowed: all.flatMap(({ allowed }) => allowed) };
}

type Cut = Recorded & { readonly at: number; readonly tearing: Tearing };

/** The disk after one cut: what the verifier says of it, and what a start makes of it. */
async function cutAt(
  from: string,
  cut: Cut,
  run: Run,
  seen: Map<string, number>,
): Promise<readonly string[]> {
  const { ops, at, tearing } = cut;
  const endedNs = ops[at]?.endedNs;
  const allowed = cut.allowed.filter(({ atNs }) => endedNs === undefined || atNs < endedNs);
  const base = mkdtempSync(join(tmpdir(), "boundary-cut-"));
  const places = { logDir: join(base, "log"), stateDir: join(base, "state") };
  try {
    layImage(diskAfterCut(ops, at, tearing, run.random), from, base);
    const { verdict, problems } = await examine(places, allowed);
    const code = verdict?.bad ? ` (${verdict.bad.code})` : "";
    count(seen, `${tearing}: ${verdict?.verdict ?? "no key"}${code}`);
    const opened = await openOn(places);
    count(seen, `${tearing}: a start finds ${opened.kind}`);
    const lost = opened.kind === "broken" ? [`a start finds it broken: ${opened.why}`] : [];
    const kept = opened.kind === "broken" ? [] : (await examine(places, allowed)).problems;
    return [...problems, ...lost, ...kept];
  } finally {
    unprotect(base);
    rmSync(base, { recursive: true, force: true });
  }
}

async function openOn(places: { logDir: string; stateDir: string }) {
  const opened = await openHistory(logPlaceAt(places));
  opened.store.close();
  const { history } = opened;
  return { kind: history.kind, why: "why" in history ? history.why : "" };
}
