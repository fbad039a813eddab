import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { unprotect } from "./disks.ts";
import { runFullDisks } from "./full-disk.ts";
import { runKills } from "./kill.ts";
import { runPowerCuts } from "./power.ts";
import { runPrunes } from "./prune.ts";
import { createRandom } from "./random.ts";
import type { Outcome, Run } from "./run.ts";
import { buildShim } from "./shim.ts";
import { runSyscalls } from "./syscalls.ts";

/**
 * `npm run test:faults`: the real daemon on disks that fail. Without arguments: two minutes, seed 1, as in CI.
 *
 *   --rounds N    as many rounds of each part, however long they take
 *   --seed N      which faults, and when; printed, so that a run can be repeated (kill -9 also depends on the clock)
 *   --only PART   syscalls, kill, prune, power or disk
 *   --counts=FILE gets "passed failed skipped", a part each, for .ci/run
 */
const PARTS = {
  syscalls: { title: "one system call fails", run: runSyscalls, seconds: 45, rounds: 100_000 },
  kill: { title: "kill -9", run: runKills, seconds: 30, rounds: 200 },
  prune: { title: "kill -9 while it prunes", run: runPrunes, seconds: 12, rounds: 60 },
  power: { title: "power cuts", run: runPowerCuts, seconds: 14, rounds: 400 },
  disk: { title: "full disks", run: runFullDisks, seconds: 12, rounds: 4 },
} as const;

const { values } = parseArgs({
  options: {
    rounds: { type: "string" },
    seed: { type: "string", default: "1" },
    only: { type: "string" },
    counts: { type: "string" },
  },
});

const directory = mkdtempSync(join(tmpdir(), "boundary-faults-"));
process.once("exit", () => {
  unprotect(directory);
  rmSync(directory, { recursive: true, force: true });
});
process.env["TMPDIR"] = directory; // the homes too: nothing is left, also when the run is ended
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => process.exit(1));

const tally = { passed: 0, failed: 0, skipped: 0 };
const shim = buildShim(directory);
console.log(`faults: seed ${values.seed}, ${new Date().toISOString()}`);
for (const [name, part] of Object.entries(PARTS)) {
  if (values.only !== undefined && values.only !== name) continue;
  const begunMs = performance.now();
  const run: Run = {
    random: createRandom(Number(values.seed)),
    rounds: values.rounds === undefined ? part.rounds : Number(values.rounds),
    untilMs: values.rounds === undefined ? begunMs + part.seconds * 1_000 : Number.POSITIVE_INFINITY,
    shim,
    tell: (line) => console.log(line),
  };
  const outcome = await part.run(run);
  show(part.title, outcome, (performance.now() - begunMs) / 1_000);
}
if (values.counts) writeFileSync(values.counts, `${tally.passed} ${tally.failed} ${tally.skipped}\n`);
process.exitCode = tally.failed > 0 || tally.passed === 0 ? 1 : 0;

function show(title: string, { rounds, seen, problems, short }: Outcome, seconds: number): void {
  const verdict = problems.length > 0 ? "failed" : rounds === 0 ? "skipped" : "passed";
  tally[verdict] += 1;
  const cut = short === "" ? "" : ` (${short})`;
  console.log(
    `${verdict}  ${title}: ${rounds} rounds in ${seconds.toFixed(0)} s, ${problems.length} problems${cut}`,
  );
  for (const [what, times] of seen) console.log(`        ${what}: ${times}`);
}
