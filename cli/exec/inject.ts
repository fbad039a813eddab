import { define } from "../command.ts";
import { usageError } from "../exit.ts";
import { runGuarded } from "./guarded.ts";
import { GUARDED_OPTIONS, parseSecretName } from "./options.ts";
import { wishOf } from "./run.ts";

/** `boundaryctl secret inject W/N -- COMMAND…`: a sealed secret on the stdin of a guarded command, and nowhere else. */
export const inject = define({
  usage: "inject <name> [command..]",
  describe: "Run a command under guard with a secret on its stdin; exit codes as `exec run`",
  examples: [
    ["boundaryctl secret inject build/deploy-token --profile developer -- ./deploy", "nobody sees its value"],
  ],
  options: (yargs) =>
    yargs
      .positional("name", { type: "string", demandOption: true, describe: "WORKSPACE/NAME" })
      .positional("command", { type: "string", array: true, describe: "The command, after --" })
      .options(GUARDED_OPTIONS),
  run: async (args) => {
    const argv = (args._ ?? []).slice(2).map(String);
    if ((args.command ?? []).length > 0 || argv.length === 0) throw usageError("give the command after --");
    return runGuarded(args, {
      ...wishOf(args),
      argv,
      stdin: null,
      secret: parseSecretName(args.name),
    });
  },
});
