import { askAndShow } from "../ask.ts";
import { define } from "../command.ts";
import { renderEvent } from "../event-text.ts";
import { usageError } from "../exit.ts";

const MOST = 200;

/** `boundaryctl events [--limit N]`. */
export const command = define({
  usage: "events",
  describe: "Show the newest records, oldest first",
  examples: [["boundaryctl events --limit 20", "the last twenty"]],
  options: (yargs) =>
    yargs.option("limit", {
      type: "number",
      default: 50,
      requiresArg: true,
      describe: `How many, 1 to ${MOST}`,
    }),
  run: (args) => {
    if (!Number.isInteger(args.limit) || args.limit < 1 || args.limit > MOST) {
      throw usageError(`--limit takes a whole number from 1 to ${MOST}`);
    }
    return askAndShow(
      args,
      { verb: "events.list", params: { limit: args.limit } },
      { render: ({ events }) => events.map(renderEvent) },
    );
  },
});
