import { define } from "../command.ts";
import { printJson, printLines } from "../output.ts";
import { renderUnshipped } from "../ship/ship-text.ts";
import { unship as takeOut } from "../ship/unship.ts";

/** `boundaryctl log unship FILE… --out FILE`: 0 nothing odd, 1 missing, double or unreadable records. */
export const unship = define({
  usage: "unship <files..>",
  describe: "Make a log again of what the server wrote; exit code 1: look closer",
  examples: [
    ["boundaryctl log unship boundary.log.1 boundary.log --out log.jsonl", "on the log server"],
    ["boundaryctl verify-log log.jsonl --key @boundary.vkey", "and then"],
  ],
  options: (yargs) =>
    yargs
      .positional("files", {
        type: "string",
        array: true,
        demandOption: true,
        describe: "What the server wrote",
      })
      .option("out", {
        type: "string",
        demandOption: true,
        requiresArg: true,
        describe: "A file to be made",
      }),
  run: async (args) => {
    const found = await takeOut(args.files, args.out);
    if (args.json) printJson(found);
    else printLines(renderUnshipped(found));
    const odd = found.missing.length + found.conflicts.length + found.unreadable.length;
    return odd === 0 && found.records > 0 ? 0 : 1;
  },
});
