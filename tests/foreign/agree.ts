import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { NO_PYTHON, PYTHON, VERIFY_PY } from "../support/foreign.ts";

/**
 * `npm run test:foreign`: every log that the tests of the audit log make, good and bad, given to verify.py as well: it has
 * to say sound, torn or broken where we do. `--counts=FILE` gets "passed failed skipped" for .ci/run.
 */
type Log = {
  readonly log: string;
  readonly key: string;
  readonly heads: readonly string[];
  readonly verdict: string;
  readonly test: string;
};

const { values } = parseArgs({ options: { counts: { type: "string" } } });
const directory = mkdtempSync(join(tmpdir(), "boundary-foreign-"));
process.once("exit", () => rmSync(directory, { recursive: true, force: true }));
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => process.exit(1));

const [passed, failed, skipped] = PYTHON === null ? [0, 0, 1] : compare();
if (skipped > 0) console.log(`skipped: ${NO_PYTHON}`);
if (values.counts) writeFileSync(values.counts, `${passed} ${failed} ${skipped}\n`);
process.exitCode = failed > 0 ? 1 : 0;

function compare(): readonly [number, number, number] {
  const tests = recordLogs();
  const logs = readdirSync(directory)
    .filter((name) => name.endsWith(".json"))
    .map((name) => JSON.parse(readFileSync(join(directory, name), "utf8")) as Log);
  const theirs = verdictsOf(logs);
  const apart = logs.filter(({ verdict }, at) => theirs[at]?.split(":")[0] !== verdict);
  for (const each of apart) {
    const said = theirs[logs.indexOf(each)] ?? "nothing";
    console.log(`DIFFERS  ${each.test}\n         ours ${each.verdict}, verify.py ${said}`);
  }
  const each = (verdict: string) => logs.filter((log) => log.verdict === verdict).length;
  const kinds = ["sound", "torn", "broken"].map((verdict) => `${each(verdict)} ${verdict}`);
  console.log(`${logs.length} logs (${kinds.join(", ")}): ${apart.length} that the verifiers differ about`);
  const enough = tests && ["sound", "torn", "broken"].every((verdict) => each(verdict) > 0);
  return enough && apart.length === 0 ? [1, 0, 0] : [0, 1, 0];
}

/** Whether the tests passed, each log of theirs written down. */
function recordLogs(): boolean {
  const vitest = join(import.meta.dirname, "../../node_modules/vitest/vitest.mjs");
  const args = [vitest, "run", "tests/audit/", "--testTimeout=60000", "--reporter=dot"];
  const env = { ...process.env, BOUNDARY_FOREIGN: directory, NO_COLOR: "1" };
  const { status, stdout } = spawnSync(process.execPath, args, { env, encoding: "utf8", timeout: 300_000 });
  if (status !== 0) console.log(stdout.slice(stdout.indexOf("Failed Tests")));
  return status === 0;
}

/** One process for all. */
function verdictsOf(logs: readonly Log[]): readonly string[] {
  const input = logs.map((log) => `${JSON.stringify(log)}\n`).join("");
  const options = { input, encoding: "utf8", timeout: 300_000, maxBuffer: 2 ** 28 } as const;
  const { stdout, stderr } = spawnSync(PYTHON ?? "", ["-B", VERIFY_PY, "--batch"], options);
  if (stderr !== "") console.log(stderr);
  return stdout.trim().split("\n");
}
