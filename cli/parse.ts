import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import yargs, { type Argv } from "yargs";
import { BoundaryError } from "../daemon/core/errors.ts";
import type { Common, Settle } from "./command.ts";
import { ROWS } from "./commands.ts";
import { usageError } from "./exit.ts";

/** Parses the arguments in full and runs the command they name. Throws usage errors and whatever the command throws. */
export async function parseAndRun(argv: readonly string[], settle: Settle): Promise<void> {
  const parser = createParser(argv);
  const first = ROWS.find((row) => row.word === argv[0]);
  for (const row of ROWS) {
    // when an option comes first only yargs knows which word is the command: then all are needed
    if (first === undefined || row === first) (await row.load()).command.register(parser, settle);
    else parser.command(row.word, row.describe);
  }
  await parser.parseAsync();
}

function createParser(argv: readonly string[]): Argv<Common> {
  return yargs([...argv])
    .scriptName("boundaryctl")
    .usage("$0 <command> [options]")
    .option("json", {
      type: "boolean",
      default: false,
      describe: "One JSON document on stdout",
      global: true,
    })
    .option("runtime-dir", {
      type: "string",
      requiresArg: true,
      describe: "Where the daemon's sockets are",
      global: true,
    })
    .option("token-file", {
      type: "string",
      requiresArg: true,
      describe: "Ask as the holder of the token in this file; - for stdin (also BOUNDARY_TOKEN_FILE)",
      global: true,
    })
    .parserConfiguration({
      "duplicate-arguments-array": true, // a list goes on; of anything else the last counts: command.ts
      "dot-notation": false,
      "boolean-negation": false,
      "parse-numbers": false,
      "parse-positional-numbers": false,
      "strip-dashed": true,
    })
    .demandCommand(1, "name a command")
    .recommendCommands()
    .strict()
    .help("help", "Show this help")
    .version("version", "Show the version", version())
    .alias({ h: "help" })
    .example("boundaryctl status", "what is held now")
    .example('boundaryctl mode set airgap --reason "audit"', "close the network")
    .wrap(Math.min(110, process.stdout.columns ?? 110))
    .locale("en")
    .exitProcess(false)
    .fail((message, error) => {
      throw error instanceof BoundaryError ? error : usageError(message ?? error.message);
    }) as Argv<unknown> as Argv<Common>; // its types know "runtime-dir", not the runtimeDir that comes with it
}

function version(): string {
  // ../ from the sources, ../../ from dist/
  for (const up of ["../package.json", "../../package.json"]) {
    try {
      const text = readFileSync(fileURLToPath(new URL(up, import.meta.url)), "utf8");
      return String((JSON.parse(text) as { version?: unknown }).version);
    } catch {} // not here: look further up
  }
  return "unknown";
}
