import { createInterface } from "node:readline";
import { peerOf } from "../../daemon/adapters/peer.ts";
import { createEgressHost } from "../../daemon/compose/egress.ts";
import { ConfigSchema } from "../../daemon/core/config.ts";
import type { RunScope } from "../../daemon/egress/settings.ts";

/**
 * Runs in a namespace that reaches the world: what main.ts composes of egress, for one run.
 * `node egress-host-process.ts RUNTIME_DIR CONFIG SCOPE`. Says "ready", then each record as a line; a line on stdin ends
 * the run's network, with that line as the reason.
 */
const [runtimeDir = "", config = "{}", scope = "{}"] = process.argv.slice(2);
let seq = 0;
const say = (fields: object): void => console.log(JSON.stringify(fields));
const host = createEgressHost({
  config: ConfigSchema.parse({ egress: JSON.parse(config) as object }).egress,
  runtimeDir,
  worker: null,
  peerOf,
  record: ({ kind, data }) => {
    seq += 1;
    say({ kind, ...data, seq });
    return { seq, durable: Promise.resolve() };
  },
  opLog: { info: say, warn: say, error: say },
});
await host.open({
  id: "0123456789abcdef0123456789abcdef",
  scope: { project: null, blueprint: null, session: null, ...(JSON.parse(scope) as Partial<RunScope>) },
  policy: async (name) => ({ allow: !name.startsWith("forbidden."), why: "the test's policy", seq: 1 }),
});
console.log("ready");
createInterface({ input: process.stdin })
  .on("line", (why) => void host.endAll(why).then(() => console.log("ended")))
  .on("close", () => process.exit(0));
