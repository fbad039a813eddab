import { dataOr, withDaemon } from "../ask.ts";
import { type Common, define } from "../command.ts";
import { dropFile } from "../drop-file.ts";
import { type ExitCode, usageError } from "../exit.ts";
import { headOfNote } from "../head.ts";
import { readKeyArgument } from "../key-argument.ts";
import { makeProof, NEWEST } from "../make-proof.ts";
import { printJson, printLines } from "../output.ts";

/** `boundaryctl log head [DIR]`. */
export const head = define({
  usage: "head [dir]",
  describe: "Print size and root, to be kept elsewhere: a cut end shows by them",
  examples: [
    ["boundaryctl log head | lpr", "for verify-log --head, on paper"],
    ["boundaryctl log head --drop /mnt/usb/boundary.note", "the signed note, as a file"],
    ["boundaryctl log head ./copy", "of a copy, without a daemon"],
  ],
  options: (yargs) =>
    yargs
      .positional("dir", { type: "string", describe: "A log's directory, instead of asking the daemon" })
      .option("drop", {
        type: "string",
        requiresArg: true,
        describe: "Write the signed note to this file too",
      })
      .option("key", { type: "string", requiresArg: true, describe: "With DIR: the genesis key, or @FILE" }),
  run: async (args) => {
    if (args.dir === undefined && args.key !== undefined) throw usageError("--key goes with a directory");
    if (args.dir === undefined) return askDaemon(args, (note, vkey) => show(args, note, { vkey }));
    const genesis = args.key === undefined ? null : readKeyArgument(args.key);
    const { proof } = await makeProof(args.dir, NEWEST, genesis);
    return show(args, proof.checkpoint, {});
  },
});

async function askDaemon(common: Common, then: (note: string, vkey: string) => ExitCode): Promise<ExitCode> {
  const found = dataOr(common, await withDaemon(common, (client) => client.call("key.show", {})));
  return "code" in found ? found.code : then(found.data.note, found.data.vkey);
}

function show(args: Common & { drop: string | undefined }, note: string, more: object): ExitCode {
  const { size, root } = headOfNote(note);
  if (args.drop !== undefined) dropFile(args.drop, note);
  if (args.json) printJson({ size, root, ...more, note });
  else printLines([`${size} ${root}`]);
  return 0;
}
