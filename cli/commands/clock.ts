import { askAndShow } from "../ask.ts";
import { define, group } from "../command.ts";
import { usageError } from "../exit.ts";

const clear = define({
  usage: "clear",
  describe: "Let the mode be loosened again after the clock was found to jump or drift",
  examples: [
    ['boundaryctl clock clear --reason "NTP was off, checked by hand"', "after looking at the clock"],
  ],
  options: (yargs) =>
    yargs.option("reason", {
      type: "string",
      demandOption: true,
      requiresArg: true,
      describe: "Goes into the log",
    }),
  run: (args) => {
    if (args.reason.trim() === "") throw usageError("--reason is empty: say why");
    return askAndShow(
      args,
      { verb: "clock.clear", params: { reason: args.reason } },
      { render: () => ["the clock is trusted again"] },
    );
  },
});

/** `boundaryctl clock clear`. */
export const command = group({
  usage: "clock",
  describe: "Deal with a clock that moved",
  examples: [['boundaryctl clock clear --reason "checked"', "trust the clock again"]],
  children: [clear],
  alone: null,
});
