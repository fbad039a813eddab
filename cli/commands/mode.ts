import { MODES, parseMode } from "../../daemon/core/mode.ts";
import type { ModeReply } from "../../daemon/protocol/messages.ts";
import { askAndShow, dataOr, withDaemon } from "../ask.ts";
import { type Common, define, defineBare, group } from "../command.ts";
import { parseDuration } from "../duration.ts";
import { type ExitCode, usageError } from "../exit.ts";
import { describeChange, describeMode } from "../mode-text.ts";
import { plain, printJson, printLines } from "../output.ts";

async function show(common: Common): Promise<ExitCode> {
  const found = dataOr(common, await withDaemon(common, (client) => client.call("status", {})));
  if ("code" in found) return found.code;
  const { mode, assurance } = found.data;
  const held = { wanted: mode.wanted, applied: mode.applied, assurance };
  if (common.json) printJson({ ...held, cause: mode.cause, since: mode.since, until: mode.until });
  else printLines([...describeMode({ ...held, behind: found.data }), `cause      ${plain(mode.cause)}`]);
  return 0;
}

const get = defineBare({
  usage: "get",
  describe: "Show the mode: wanted, applied, and how sure that is",
  examples: [["boundaryctl mode get", "what is held now"]],
  run: show,
});

const set = define({
  usage: "set <mode>",
  describe: "Change the mode",
  examples: [
    ['boundaryctl mode set airgap --reason "audit of the network"', "close the network"],
    ['boundaryctl mode set restricted --reason "update" --for 10m', "and come back after ten minutes"],
  ],
  options: (yargs) =>
    yargs
      .positional("mode", { type: "string", demandOption: true, describe: MODES.join(" | ") })
      .option("reason", {
        type: "string",
        demandOption: true,
        requiresArg: true,
        describe: "Goes into the log",
      })
      .option("for", { type: "string", requiresArg: true, describe: "Come back after 90s, 10m, 2h" }),
  run: (args) => {
    const mode = parseMode(args.mode);
    if (mode === null) throw usageError(`${JSON.stringify(args.mode)} is no mode: ${MODES.join(", ")}`);
    if (args.reason.trim() === "") throw usageError("--reason is empty: say why");
    const forMs = args.for === undefined ? {} : { forMs: parseDuration(args.for) };
    return askAndShow(
      args,
      { verb: "mode.set", params: { mode, reason: args.reason, ...forMs } },
      { render: renderChange, exitCode: (reply) => (reply.assurance === "failed" ? 1 : 0) },
    );
  },
});

function renderChange(reply: ModeReply): readonly string[] {
  const done = reply.changed ? `recorded as ${plain(reply.seq)}` : "nothing to change";
  return [done, ...describeChange(reply)];
}

/** `boundaryctl mode [get|set]`. */
export const command = group({
  usage: "mode",
  describe: "Show or change the mode",
  examples: [
    ["boundaryctl mode", "show it"],
    ['boundaryctl mode set lockdown --reason "stolen laptop"', "change it"],
  ],
  children: [get, set],
  alone: show,
});
