import type { Client, Params } from "../../client/control.ts";
import { isStricter, MODES, parseMode } from "../../daemon/core/mode.ts";
import type { ModeReply } from "../../daemon/protocol/messages.ts";
import { askAndShow, dataOr, patienceFor, withDaemon } from "../ask.ts";
import { type Common, define, defineBare, group } from "../command.ts";
import { parseDuration } from "../duration.ts";
import { type ExitCode, usageError } from "../exit.ts";
import { askToKeep, parseConfirm, renderNotes, renderTrial } from "../keep-it.ts";
import { describeChange, describeMode } from "../mode-text.ts";
import { plain, printJson, printLines } from "../output.ts";
import { renderPreflight } from "../preflight-text.ts";
import { sshSession } from "../ssh-session.ts";
import { isInteractive } from "../terminal.ts";

async function show(common: Common): Promise<ExitCode> {
  const found = dataOr(common, await withDaemon(common, (client) => client.call("status", {})));
  if ("code" in found) return found.code;
  const { mode, assurance } = found.data;
  const held = { wanted: mode.wanted, applied: mode.applied, assurance };
  const { cause, since, until, hold, keep } = mode;
  if (common.json) printJson({ ...held, cause, since, until, hold, keep });
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
    ['boundaryctl mode set airgap --reason "try" --confirm 60', "and come back, unless it is confirmed"],
    ["boundaryctl mode set airgap --dry-run", "what it would cut"],
  ],
  options: (yargs) =>
    yargs
      .positional("mode", { type: "string", demandOption: true, describe: MODES.join(" | ") })
      .option("reason", { type: "string", requiresArg: true, describe: "Goes into the log" })
      .option("for", { type: "string", requiresArg: true, describe: "Come back after 90s, 10m, 2h" })
      .option("confirm", {
        type: "string",
        requiresArg: true,
        describe: "Come back after these seconds (or 90s, 10m), unless confirmed",
      })
      .option("keep-session", {
        type: "boolean",
        default: false,
        describe: "Let this SSH session, and nothing else, pass all the same",
      })
      .option("dry-run", {
        type: "boolean",
        default: false,
        describe: "Change nothing: say what it would cut",
      }),
  run: (args) => {
    const mode = parseMode(args.mode);
    if (mode === null) throw usageError(`${JSON.stringify(args.mode)} is no mode: ${MODES.join(", ")}`);
    const session = sshSession(process.env["SSH_CONNECTION"]);
    if (args.keepSession && session === null)
      throw usageError("--keep-session: this is no SSH session (SSH_CONNECTION is not set)");
    const look: Look = { mode, keep: args.keepSession, ...(session === null ? {} : { session }) };
    if (args.dryRun)
      return askAndShow(args, { verb: "mode.preflight", params: look }, { render: renderPreflight });
    if (args.reason === undefined) throw usageError("Missing required argument: reason");
    if (args.reason.trim() === "") throw usageError("--reason is empty: say why");
    if (args.for !== undefined && args.confirm !== undefined)
      throw usageError("--for and --confirm: one of them");
    const confirmForMs = args.confirm === undefined ? null : parseConfirm(args.confirm);
    const change: Params<"mode.set"> = {
      mode,
      reason: args.reason,
      ...(args.for === undefined ? {} : { forMs: parseDuration(args.for) }),
      ...(confirmForMs === null ? {} : { confirmForMs }),
      ...(args.keepSession && session !== null ? { keep: session } : {}),
    };
    return withDaemon(args, (client) => setMode(args, client, change, look));
  },
});

type Look = Params<"mode.preflight">;

async function setMode(
  common: Common,
  client: Client,
  change: Params<"mode.set">,
  look: Look,
): Promise<ExitCode> {
  const { confirmForMs } = change;
  if (confirmForMs !== undefined && !common.json && isInteractive()) await foretell(client, look);
  // what can only tighten waits for no policy, and whoever asks for it is not to wait for a daemon that hangs
  const patience = change.mode === "LOCKDOWN" ? undefined : patienceFor("mode.set");
  const found = dataOr(common, await client.call("mode.set", change, patience));
  if ("code" in found) return found.code;
  const reply = found.data;
  if (common.json) printJson(reply);
  else printLines([...renderChange(reply), ...(confirmForMs ? renderTrial(reply, confirmForMs) : [])]);
  if (reply.assurance === "failed") return 1;
  return confirmForMs !== undefined && reply.changed ? askToKeep(common, client, confirmForMs) : 0;
}

/** What a tightening will cut, while there is a terminal to read it on. A look that fails holds nothing up. */
async function foretell(client: Client, look: Look): Promise<void> {
  const outcome = await client.call("mode.preflight", look);
  if (outcome.ok && isStricter(outcome.data.mode, outcome.data.wanted))
    printLines(renderPreflight(outcome.data));
}

function renderChange(reply: ModeReply): readonly string[] {
  const done = reply.changed ? `recorded as ${plain(reply.seq)}` : "nothing to change";
  return [done, ...describeChange(reply), ...renderNotes(reply)];
}

const confirm = defineBare({
  usage: "confirm",
  describe: "Keep what would go back by itself: a mode set with --confirm, or `enforce --confirm`",
  examples: [["boundaryctl mode confirm", "it stays"]],
  run: (common) =>
    askAndShow(
      common,
      { verb: "mode.confirm", params: {} },
      {
        render: (reply) => ["confirmed: it stays", ...describeChange(reply), ...renderNotes(reply)],
        exitCode: (reply) => (reply.assurance === "failed" ? 1 : 0),
      },
    ),
});

/** `boundaryctl mode [get|set|confirm]`. */
export const command = group({
  usage: "mode",
  describe: "Show or change the mode",
  examples: [
    ["boundaryctl mode", "show it"],
    ['boundaryctl mode set lockdown --reason "stolen laptop"', "change it"],
  ],
  children: [get, set, confirm],
  alone: show,
});
