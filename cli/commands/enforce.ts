import type { ShadowReply } from "../../daemon/protocol/messages.ts";
import { askAndShow, dataOr, withDaemon } from "../ask.ts";
import { define } from "../command.ts";
import { usageError } from "../exit.ts";
import { askToKeep, parseConfirm, renderNotes, renderTrial } from "../keep-it.ts";
import { describeChange } from "../mode-text.ts";
import { plain, printJson, printLines } from "../output.ts";

/** `boundaryctl enforce`: from shadow, or released, to enforcing. */
export const command = define({
  usage: "enforce",
  describe: "Have the kernel hold the mode, after shadow or a release",
  examples: [
    ["boundaryctl enforce --dry-run", "what shadow would have refused"],
    ['boundaryctl enforce --confirm 120 --reason "looked at it"', "and back, unless it is confirmed"],
  ],
  options: (yargs) =>
    yargs
      .option("reason", { type: "string", requiresArg: true, describe: "Goes into the log" })
      .option("confirm", {
        type: "string",
        requiresArg: true,
        describe: "Back after these seconds (or 90s, 10m), unless confirmed",
      })
      .option("dry-run", {
        type: "boolean",
        default: false,
        describe: "Change nothing: list what shadow would have refused",
      }),
  run: (args) => {
    if (args.dryRun) {
      return askAndShow(args, { verb: "enforcement.shadow", params: {} }, { render: renderShadow });
    }
    const reason = args.reason?.trim() ?? "";
    if (reason === "") throw usageError("Missing required argument: reason");
    const confirmForMs = args.confirm === undefined ? undefined : parseConfirm(args.confirm);
    return withDaemon(args, async (client) => {
      const params = confirmForMs === undefined ? { reason } : { reason, confirmForMs };
      const found = dataOr(args, await client.call("enforcement.enforce", params));
      if ("code" in found) return found.code;
      const reply = found.data;
      if (args.json) printJson(reply);
      else
        printLines([
          reply.changed ? `recorded as ${plain(reply.seq)}` : "nothing to change",
          ...describeChange(reply),
          ...renderNotes(reply),
          ...(confirmForMs === undefined ? [] : renderTrial(reply, confirmForMs)),
        ]);
      if (reply.assurance === "failed") return 1;
      return confirmForMs === undefined || !reply.changed ? 0 : askToKeep(args, client, confirmForMs);
    });
  },
});

function renderShadow({ hold, blocked, more, notes }: ShadowReply): readonly string[] {
  if (hold !== "shadow") return [`the hold is ${plain(hold)}: only shadow counts what it would refuse`];
  return [
    blocked.length === 0 ? "shadow has seen nothing that it would have refused" : "would have been refused:",
    ...blocked.map(
      ({ direction, address, protocol, port }) =>
        `  ${plain(direction)} ${plain(address)} ${plain(protocol)}${port === null ? "" : ` ${port}`}`,
    ),
    ...(more > 0 ? [`  … and ${more} more`] : []),
    ...notes.map((note) => `note: ${plain(note)}`),
  ];
}
