import { placeOf } from "../../client/places.ts";
import { BoundaryError } from "../../daemon/core/errors.ts";
import type { Status } from "../../daemon/protocol/messages.ts";
import { withDaemon } from "../ask.ts";
import { type Common, define } from "../command.ts";
import { usageError } from "../exit.ts";
import { knownLog } from "../log-arguments.ts";
import { segmentFiles } from "../log-files.ts";
import { type Colour, painter, plain, printJson, printLines, renderTable } from "../output.ts";
import { settled } from "../settled.ts";
import { verifyDirectory } from "../verify-directory.ts";
import { type Check, checkBaseline, checkLive, checkLog, checkPermissions } from "../whole-check.ts";

/** `boundaryctl verify --all`: 0 when all is well, 1 when something is bad or could not be looked at. */
export const command = define({
  usage: "verify",
  describe: "Look at everything of this host's boundary at once: log, head, permissions, baseline, rules",
  examples: [["boundaryctl verify --all", "as root, or as the daemon's own user"]],
  options: (yargs) =>
    yargs
      .option("all", { type: "boolean", default: false, describe: "Everything; there is no less" })
      .option("log-dir", { type: "string", requiresArg: true, describe: "The log" })
      .option("state-dir", { type: "string", requiresArg: true, describe: "Keys, head and baseline" }),
  run: async (args) => {
    if (!args.all) throw usageError("say --all; for the log alone there is verify-log");
    const directories = { log: placeOf("log", args.logDir), state: placeOf("state", args.stateDir) };
    const place = { ...args, dir: undefined, key: undefined };
    const { known } = knownLog(place);
    const verdict = await settled(() =>
      verifyDirectory(directories.log, known, { chunks: (all) => all, done: () => undefined }),
    );
    const files = (await segmentFiles(directories.log)).map(({ name }) => name);
    const checks = [
      ...checkLog(verdict, known.heads.length > 0),
      ...checkPermissions(directories, files),
      checkBaseline(directories.state, verdict),
      ...checkLive(await statusOrNull(args)),
    ];
    const good = checks.every(({ state }) => state === "ok" || state === "off");
    if (args.json) printJson({ ok: good, checks });
    else printLines(render(checks, painter(process.stdout).paint));
    return good ? 0 : 1;
  },
});

/** Null when no daemon runs here. */
async function statusOrNull(common: Common): Promise<Status | null> {
  try {
    const outcome = await withDaemon(common, (client) => client.call("status", {}));
    return outcome.ok ? outcome.data : null;
  } catch (error) {
    if (error instanceof BoundaryError && error.code === "no-daemon") return null;
    throw error;
  }
}

const COLOUR: Readonly<Record<Check["state"], Colour>> = {
  ok: "green",
  bad: "red",
  unknown: "yellow",
  off: "yellow",
};

function render(checks: readonly Check[], paint: ReturnType<typeof painter>["paint"]): readonly string[] {
  return renderTable(
    checks.map(({ name, state, detail }) => [
      paint(COLOUR[state], state.padEnd("unknown".length)),
      plain(name),
      plain(detail),
    ]),
  );
}
