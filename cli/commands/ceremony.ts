import { setTimeout as sleep } from "node:timers/promises";
import type { Client } from "../../client/control.ts";
import type { CeremonyPurpose } from "../../daemon/core/state.ts";
import type { CeremonyReply } from "../../daemon/protocol/messages.ts";
import { askAndShow, dataOr, withDaemon } from "../ask.ts";
import { type CliCommand, type Common, define, defineBare, group } from "../command.ts";
import { type ExitCode, usageError } from "../exit.ts";
import { describeChange } from "../mode-text.ts";
import { plain, printJson, printLines } from "../output.ts";
import { askLine, isInteractive } from "../terminal.ts";

/** One kind of ceremony, as the command line names it. */
type Kind = {
  readonly purpose: CeremonyPurpose;
  /** The command's word. */
  readonly word: string;
  /** What it comes to: "type the code to …". */
  readonly to: string;
  readonly isDefault: boolean;
};

const LEAVE: Kind = { purpose: "leave-lockdown", word: "ceremony", to: "leave LOCKDOWN", isDefault: false };

/** begin, confirm and cancel, for one kind of ceremony. There is one ceremony at a time, of whatever kind. */
export function ceremonyChildren(kind: Kind): readonly CliCommand[] {
  return [beginCommand(kind), confirmCommand(kind), cancelCommand(kind)];
}

function beginCommand(kind: Kind): CliCommand {
  return define({
    usage: "begin",
    describe: "Begin it; on a terminal, wait for the cool-down and confirm",
    examples: [[`boundaryctl ${kind.word} begin --reason "looked at the cable: it was me"`, kind.to]],
    isDefault: kind.isDefault,
    options: (yargs) =>
      yargs.option("reason", {
        type: "string",
        demandOption: true,
        requiresArg: true,
        describe: "Goes into the log",
      }),
    run: (args) => {
      if (args.reason.trim() === "") throw usageError("--reason is empty: say why");
      return withDaemon(args, (client) => hold(args, client, args.reason, kind));
    },
  });
}

/** The daemon looks at every watched file first, its own program among them: on a slow host that takes its time. */
const LOOK_MS = 60_000;

async function hold(common: Common, client: Client, reason: string, kind: Kind): Promise<ExitCode> {
  const asked = { reason, purpose: kind.purpose };
  const found = dataOr(common, await client.call("ceremony.begin", asked, LOOK_MS));
  if ("code" in found) return found.code;
  const ceremony = found.data;
  if (common.json) printJson(ceremony);
  else printLines(renderCeremony(ceremony, kind.word));
  if (common.json || !isInteractive() || ceremony.people > 1) return 0;
  await countDown(ceremony.coolDownMs);
  const code = await askLine(`type the code to ${kind.to}, or press Ctrl-C: `);
  if (code === null) return 1;
  const acceptChanges =
    ceremony.changes.length > 0 && (await askLine('type "accept" to accept the changes: ')) === "accept";
  const outcome = dataOr(common, await client.call("ceremony.confirm", { code, acceptChanges }, LOOK_MS));
  if ("code" in outcome) return outcome.code;
  printLines(describeChange(outcome.data));
  return outcome.data.assurance === "failed" ? 1 : 0;
}

/** What `ceremony begin` shows, safe for a terminal. */
export function renderCeremony(ceremony: CeremonyReply, word = LEAVE.word): readonly string[] {
  const coolDownS = Math.ceil(ceremony.coolDownMs / 1_000);
  const lifeS = Math.floor(ceremony.lifeMs / 1_000);
  const accept = ceremony.changes.length > 0 ? " --accept-changes" : "";
  const code = plain(ceremony.code);
  return [
    `ceremony   ${plain(ceremony.id)}`,
    `code       ${code}   (once, good for ${lifeS} s after a cool-down of ${coolDownS} s)`,
    ...(ceremony.people > 1 ? ["people     another person has to confirm"] : []),
    ...ceremony.changes.map((change) => `changed    ${plain(change)}`),
    ...(ceremony.moreChanges > 0 ? [`changed    … and ${ceremony.moreChanges} more`] : []),
    ...(ceremony.changes.length > 0
      ? ["           restore these, or confirm that they are right"]
      : ["changed    nothing"]),
    `confirm    boundaryctl ${word} confirm ${code}${accept}`,
  ];
}

async function countDown(ms: number): Promise<void> {
  const endMs = performance.now() + ms;
  for (let leftMs = ms; leftMs > 0; leftMs = endMs - performance.now()) {
    process.stdout.write(`\rcool-down: ${Math.ceil(leftMs / 1_000)} s   `);
    await sleep(Math.min(leftMs, 1_000));
  }
  process.stdout.write("\rcool-down: over \n");
}

function confirmCommand(kind: Kind): CliCommand {
  return define({
    usage: "confirm <code>",
    describe: "Confirm a ceremony after its cool-down (a second person, or a script)",
    examples: [[`boundaryctl ${kind.word} confirm 123-456-789`, kind.to]],
    options: (yargs) =>
      yargs
        .positional("code", { type: "string", demandOption: true, describe: "What `begin` printed" })
        .option("accept-changes", {
          type: "boolean",
          default: false,
          describe: "The changed files are right as they are",
        }),
    run: (args) =>
      askAndShow(
        args,
        {
          verb: "ceremony.confirm",
          params: { code: args.code, acceptChanges: args.acceptChanges },
          deadlineMs: LOOK_MS,
        },
        { render: describeChange, exitCode: (reply) => (reply.assurance === "failed" ? 1 : 0) },
      ),
  });
}

function cancelCommand(kind: Kind): CliCommand {
  return defineBare({
    usage: "cancel",
    describe: "Give up the ceremony under way",
    examples: [[`boundaryctl ${kind.word} cancel`, "all stays as it is"]],
    run: (args) =>
      askAndShow(
        args,
        { verb: "ceremony.cancel", params: {} },
        { render: () => ["the ceremony is cancelled"] },
      ),
  });
}

/** `boundaryctl ceremony begin|confirm|cancel`. */
export const command = group({
  usage: "ceremony",
  describe: "Leave LOCKDOWN",
  examples: [['boundaryctl ceremony begin --reason "false alarm"', "begin"]],
  children: ceremonyChildren(LEAVE),
  alone: null,
});
