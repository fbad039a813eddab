import { dataOr, withDaemon } from "../ask.ts";
import { auditLines } from "../audit-lines.ts";
import { define } from "../command.ts";
import { openLogCopy } from "../log-copy.ts";
import { plain, printJson, printLines } from "../output.ts";

/** `boundaryctl audit fetch DIR`: the stream as files, to be verified with verify-log. Goes on where DIR ends. */
export const fetch = define({
  usage: "fetch <dir>",
  describe: "Copy the audit stream into a directory, or what came since the last time",
  examples: [
    ["boundaryctl audit fetch ./stream", "then: boundaryctl verify-log ./stream --key KEY"],
    ["boundaryctl audit head", "prints that key; write it down on the first day"],
  ],
  options: (yargs) =>
    yargs.positional("dir", {
      type: "string",
      demandOption: true,
      describe: "Where the copy is, or will be",
    }),
  run: async (args) =>
    withDaemon(args, async (client) => {
      const head = dataOr(args, await client.call("audit.head", {}));
      if ("code" in head) return head.code;
      const { vkey, size, note } = head.data;
      const copy = await openLogCopy(args.dir, vkey);
      try {
        const from = copy.next();
        for await (const outcome of auditLines(client, from, note === "" ? -1 : size)) {
          const lines = dataOr(args, outcome);
          if ("code" in lines) return lines.code;
          await copy.append(lines.data);
        }
        const told = { dir: args.dir, from, next: copy.next(), vkey };
        if (args.json) printJson(told);
        else
          printLines([
            told.next === from
              ? `nothing new; ${plain(args.dir)} holds ${from} records`
              : `records ${from} to ${told.next - 1} are in ${plain(args.dir)}`,
          ]);
        return 0;
      } finally {
        await copy.close();
      }
    }),
});
