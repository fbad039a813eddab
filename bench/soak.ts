import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { soak, thirdsOf } from "../tests/support/soak.ts";
import type { BenchRow } from "./row.ts";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const MAIN = join(ROOT, "dist/daemon/main.js");
/** Of each socket, and of each client: some 320 questions a second in all. */
const LOAD = { clients: 8, askEveryMs: 50, modeEveryMs: 1_000, reloadEveryMs: 5_000, sampleEveryMs: 500 };
/** The last third's memory against the first's. */
const MOST_GROWTH = 1.1;

/**
 * The built daemon for `seconds` under a steady load on both sockets, with mode changes and policy reloads meanwhile
 * (tests/support/soak.ts). Sets the exit code to 1 for an answer that is lost or wrong, or a log that is not as it must be.
 */
export async function benchSoak(seconds: number): Promise<readonly BenchRow[]> {
  execFileSync("npm", ["run", "--silent", "build"], { cwd: ROOT, stdio: "inherit" });
  const report = await soak({ ...LOAD, seconds, main: MAIN });
  const faults = [
    ...report.lost.map((each) => `lost: ${each}`),
    ...report.wrong.map((each) => `wrong: ${each}`),
    ...report.log.map((each) => `log: ${each}`),
  ];
  for (const fault of faults) console.log(`  ${fault}`);
  if (faults.length > 0) process.exitCode = 1;
  const plain = (what: string, value: number, unit = ""): BenchRow => ({
    what,
    value,
    unit,
    rival: "",
    ratio: null,
    aim: "",
    met: null,
  });
  return [
    plain(`answers in ${seconds} s`, report.asked),
    plain("of them allowed, each with its record in the log", report.allowed),
    plain("of them lapsed, the mode having changed meanwhile", report.lapsed),
    plain("mode changes", report.modeChanges),
    plain("policy reloads", report.reloads),
    plain("policy reloads that had to be refused", report.refusedReloads),
    none("lost answers", report.lost.length),
    none("wrong answers", report.wrong.length),
    none("faults of the log", report.log.length),
    grown(
      "resident memory, the daemon",
      report.memory.map(({ own }) => own),
    ),
    grown(
      "resident memory, with its children",
      report.memory.map(({ tree }) => tree),
    ),
  ];
}

function none(what: string, count: number): BenchRow {
  return { what, value: count, unit: "", rival: "", ratio: null, aim: "0", met: count === 0 };
}

function grown(what: string, samples: readonly number[]): BenchRow {
  const { first, last } = thirdsOf(samples);
  const ratio = last / first;
  return {
    what: `${what}: median of the last third`,
    value: Math.round(last),
    unit: "MiB",
    rival: `the first third's (${Math.round(first)} MiB; ${samples.length} samples)`,
    ratio,
    aim: `≤ ${MOST_GROWTH}×`,
    met: ratio <= MOST_GROWTH,
  };
}
