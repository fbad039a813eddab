import { askAndShow } from "../ask.ts";
import { define } from "../command.ts";
import { usageError } from "../exit.ts";

const LEAST_DAYS = 90;

/** `boundaryctl log prune`: through the daemon, which keeps at least 90 days and verifies what it removes. */
export const prune = define({
  usage: "prune",
  describe: "Remove segments older than the retention (admin only)",
  examples: [["boundaryctl log prune --keep-days 365", "keep a year"]],
  options: (yargs) =>
    yargs.option("keep-days", {
      type: "number",
      requiresArg: true,
      default: LEAST_DAYS,
      describe: `How many days to keep, ${LEAST_DAYS} at least`,
    }),
  run: async (args) => {
    const keptDays = args.keepDays;
    if (!Number.isInteger(keptDays) || keptDays < LEAST_DAYS)
      throw usageError(`--keep-days takes a whole number of at least ${LEAST_DAYS}`);
    return askAndShow(
      args,
      { verb: "log.prune", params: { keptDays } },
      {
        render: ({ segments, through }) =>
          segments === 0
            ? [`nothing is older than ${keptDays} days`]
            : [`${segments} segments removed; the log is kept from record ${through} on`],
      },
    );
  },
});
