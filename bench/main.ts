import { cpus, release } from "node:os";
import { parseArgs } from "node:util";
import { benchDaemon } from "./daemon.ts";
import { benchDecide } from "./decide.ts";
import { benchEgress } from "./egress.ts";
import { benchEnforce } from "./enforce.ts";
import { benchExec } from "./exec.ts";
import { benchExecText } from "./exec-text.ts";
import { benchIsolation } from "./isolation.ts";
import { benchAppend, benchVerify } from "./log.ts";
import { benchLength } from "./log-length.ts";
import { benchLogProof } from "./log-proof.ts";
import { benchPolicy } from "./policy.ts";
import type { BenchRow } from "./row.ts";
import { benchSignal } from "./signal.ts";
import { benchSoak } from "./soak.ts";
import { benchVault } from "./vault.ts";

/** `npm run bench`, or `npm run bench -- log enforce`: each measured claim, with its ratio and whether the aim is met. `npm run bench -- soak --seconds 60` for a short soak. */
const SUITES: Readonly<Record<string, () => Promise<readonly BenchRow[]>>> = {
  log: async () => [...(await benchAppend()), ...(await benchVerify()), ...(await benchLength())],
  proof: benchLogProof,
  enforce: async () => [...(await benchEnforce()), ...(await benchSignal())],
  isolation: benchIsolation,
  daemon: benchDaemon,
  policy: benchPolicy,
  decide: benchDecide,
  vault: benchVault,
  egress: benchEgress,
  exec: async () => [...(await benchExec()), ...benchExecText()],
  soak: () => benchSoak(seconds),
};
/** Takes ten minutes: when it is asked for by name. */
const ON_REQUEST = ["soak"];

const { values, positionals: asked } = parseArgs({
  allowPositionals: true,
  options: { seconds: { type: "string", default: "600" } },
});
const seconds = Number(values.seconds);
if (!Number.isInteger(seconds) || seconds < 3 || seconds > 86_400) {
  console.error("--seconds takes a number from 3 to 86400: how long the soak lasts");
  process.exit(2);
}
const unknown = asked.filter((name) => !(name in SUITES));
if (unknown.length > 0) {
  console.error(`there is no bench ${unknown.join(", ")}; there are ${Object.keys(SUITES).join(", ")}`);
  process.exit(2);
}
console.log(`${cpus().length} × ${cpus()[0]?.model ?? "?"}, Linux ${release()}, Node ${process.version}\n`);
const usual = Object.keys(SUITES).filter((name) => !ON_REQUEST.includes(name));
for (const name of asked.length > 0 ? asked : usual) {
  console.log(`${name}:`);
  for (const row of (await SUITES[name]?.()) ?? []) console.log(`  ${render(row)}`);
}

function render({ what, value, unit, rival, ratio, aim, met }: BenchRow): string {
  const against = ratio === null ? "" : `, ${ratio.toFixed(2)}× ${rival}`;
  const verdict = met === null ? "" : met ? "met" : "NOT met";
  return `${what}: ${value} ${unit}${against}${aim === "" ? "" : ` (aim ${aim}: ${verdict})`}`;
}
