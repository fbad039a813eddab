import { cpus, release } from "node:os";
import { benchDaemon } from "./daemon.ts";
import { benchDecide } from "./decide.ts";
import { benchEnforce } from "./enforce.ts";
import { benchExec } from "./exec.ts";
import { benchIsolation } from "./isolation.ts";
import { benchAppend, benchVerify } from "./log.ts";
import { benchLength } from "./log-length.ts";
import { benchLogProof } from "./log-proof.ts";
import { benchPolicy } from "./policy.ts";
import type { BenchRow } from "./row.ts";
import { benchSignal } from "./signal.ts";
import { benchVault } from "./vault.ts";

/** `npm run bench`, or `npm run bench -- log enforce`: each measured claim, with its ratio and whether the aim is met. */
const SUITES: Readonly<Record<string, () => Promise<readonly BenchRow[]>>> = {
  log: async () => [...(await benchAppend()), ...(await benchVerify()), ...(await benchLength())],
  proof: benchLogProof,
  enforce: async () => [...(await benchEnforce()), ...(await benchSignal())],
  isolation: benchIsolation,
  daemon: benchDaemon,
  policy: benchPolicy,
  decide: benchDecide,
  vault: benchVault,
  exec: benchExec,
};

const asked = process.argv.slice(2).filter((arg) => !arg.startsWith("-"));
const unknown = asked.filter((name) => !(name in SUITES));
if (unknown.length > 0) {
  console.error(`there is no bench ${unknown.join(", ")}; there are ${Object.keys(SUITES).join(", ")}`);
  process.exit(2);
}
console.log(`${cpus().length} × ${cpus()[0]?.model ?? "?"}, Linux ${release()}, Node ${process.version}\n`);
for (const name of asked.length > 0 ? asked : Object.keys(SUITES)) {
  console.log(`${name}:`);
  for (const row of (await SUITES[name]?.()) ?? []) console.log(`  ${render(row)}`);
}

function render({ what, value, unit, rival, ratio, aim, met }: BenchRow): string {
  const against = ratio === null ? "" : `, ${ratio.toFixed(2)}× ${rival}`;
  const verdict = met === null ? "" : met ? "met" : "NOT met";
  return `${what}: ${value} ${unit}${against}${aim === "" ? "" : ` (aim ${aim}: ${verdict})`}`;
}
