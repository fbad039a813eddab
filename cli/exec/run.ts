import { realpathSync } from "node:fs";
import { BoundaryError } from "../../daemon/core/errors.ts";
import { MAX_STDIN_BYTES } from "../../daemon/protocol/exec.ts";
import { define } from "../command.ts";
import { parseDuration } from "../duration.ts";
import { usageError } from "../exit.ts";
import { keepStdin, readStdin } from "../secret-input.ts";
import { runGuarded } from "./guarded.ts";
import { GUARDED_OPTIONS, parseSecretName } from "./options.ts";

/** `boundaryctl exec run -- COMMAND…`: has the daemon decide, and its worker run it. */
export const run = define({
  usage: "run [command..]",
  describe:
    "Run a command under guard: judged, decided, recorded, and run by the worker in its sandbox; its exit code, or 124 timed out, 125 could not run, 126 denied",
  examples: [
    ["boundaryctl exec run --profile developer -- npm test", "in the workspace that we are in"],
    ["boundaryctl exec run --secret build/deploy-token -- ./deploy", "with a secret on its stdin"],
  ],
  options: (yargs) =>
    yargs
      .positional("command", { type: "string", array: true, describe: "The command, after --" })
      .options(GUARDED_OPTIONS)
      .option("stdin", {
        type: "boolean",
        default: false,
        describe: "Pass our stdin on, 32,768 bytes at most",
      })
      .option("secret", {
        type: "string",
        requiresArg: true,
        describe: "WORKSPACE/NAME of a sealed secret that it gets on its stdin",
      }),
  run: async (args) => {
    const argv = (args._ ?? []).slice(2).map(String);
    if ((args.command ?? []).length > 0 || argv.length === 0) throw usageError("give the command after --");
    if (args.stdin && args.secret !== undefined) throw usageError("give either --stdin or --secret");
    if (args.stdin) keepStdin(args);
    const stdin = args.stdin ? await readStdin(MAX_STDIN_BYTES) : null;
    if (args.stdin && stdin === null) throw usageError(`stdin has more than ${MAX_STDIN_BYTES} bytes`);
    return runGuarded(args, {
      ...wishOf(args),
      argv,
      stdin,
      secret: args.secret === undefined ? null : parseSecretName(args.secret),
    });
  },
});

type Guarded = {
  readonly profile: string;
  readonly cwd: string;
  readonly workspace?: string | undefined;
  readonly env?: readonly string[] | undefined;
  readonly timeout?: string | undefined;
  readonly grace?: string | undefined;
  readonly outputBytes?: number | undefined;
  readonly network: boolean;
  readonly host?: readonly string[] | undefined;
  readonly raw: boolean;
};

/** What the options say of a guarded command. Throws usage errors. */
export function wishOf(args: Guarded) {
  if (args.host !== undefined && !args.network) throw usageError("--host goes with --network");
  return {
    profile: args.profile,
    cwd: placeOf(args.cwd),
    workspace: args.workspace === undefined ? null : placeOf(args.workspace),
    environment: Object.fromEntries((args.env ?? []).map(variableOf)),
    timeoutMs: args.timeout === undefined ? null : parseDuration(args.timeout),
    graceMs: args.grace === undefined ? null : parseDuration(args.grace),
    outputBytes: bytesOf(args.outputBytes),
    network: args.network,
    hosts: args.host ?? null,
    raw: args.raw,
  };
}

function bytesOf(given: number | undefined): number | null {
  if (given !== undefined && !(Number.isSafeInteger(given) && given >= 0))
    throw usageError("--output-bytes takes a whole number");
  return given ?? null;
}

function variableOf(text: string): readonly [string, string] {
  const at = text.indexOf("=");
  if (at < 1) throw usageError("--env takes NAME=VALUE");
  return [text.slice(0, at), text.slice(at + 1)];
}

function placeOf(path: string): string {
  try {
    return realpathSync(path);
  } catch (cause) {
    throw new BoundaryError("argument-invalid", `there is no directory ${path}`, { cause });
  }
}
