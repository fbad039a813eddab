import { createInterface } from "node:readline";
import { peerOf } from "../../daemon/adapters/peer.ts";
import { prepareRuntimeDir } from "../../daemon/adapters/socket-path.ts";
import { ConfigSchema } from "../../daemon/core/config.ts";
import { listsFor, type RunScope, settingsIn } from "../../daemon/egress/settings.ts";
import { createProxies } from "../../daemon/egress-service/proxies.ts";

/**
 * Runs in a namespace that reaches the world: the proxy of one run, without the daemon.
 * `node egress-host-process.ts RUNTIME_DIR CONFIG SCOPE`. Says "ready", then each record as a line; a line on stdin ends
 * the run's network, with that line as the reason.
 */
const [runtimeDir = "", text = "{}", scope = "{}"] = process.argv.slice(2);
let seq = 0;
const say = (fields: object): void => console.log(JSON.stringify(fields));
const config = ConfigSchema.parse({ egress: JSON.parse(text) as object }).egress;
const directory = `${runtimeDir}/egress`;
prepareRuntimeDir(directory, 0o700);
const host = createProxies({
  settings: settingsIn(config),
  directory,
  admits: (fd) => peerOf(fd)?.uid === process.geteuid?.(),
  opLog: { info: say, warn: say, error: say },
});
await host.open({
  id: "0123456789abcdef0123456789abcdef",
  lists: listsFor(config, {
    project: null,
    blueprint: null,
    session: null,
    ...(JSON.parse(scope) as Partial<RunScope>),
  }),
  policy: async (name) => ({ allow: !name.startsWith("forbidden."), why: "the test's policy", seq: 1 }),
  record: ({ kind, data }) => {
    seq += 1;
    say({ kind, ...data, seq });
    return { seq, durable: Promise.resolve() };
  },
});
console.log("ready");
createInterface({ input: process.stdin })
  .on("line", (why) => void host.endAll(why).then(() => console.log("ended")))
  .on("close", () => process.exit(0));
