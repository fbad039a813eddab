import { codeOf } from "../daemon/core/errno.ts";
import { renderErrorChain } from "../daemon/core/errors.ts";
import { problem } from "../daemon/protocol/problem.ts";
import { type CliCommand, type Common, wordOf } from "./command.ts";
import { ROWS } from "./commands.ts";
import { type ExitCode, exitCodeOf } from "./exit.ts";
import { printProblem } from "./output.ts";

/** Runs boundaryctl with these arguments. Never rejects: what goes wrong is on stderr, and in the exit code. */
export async function run(argv: readonly string[]): Promise<ExitCode> {
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    // `boundaryctl events | head` is no failure
    process.exit(error.code === "EPIPE" ? 0 : 1);
  });
  try {
    const bare = await findBare(argv);
    return await (bare === null ? parsed(argv) : bare());
  } catch (error) {
    const code = codeOf(error);
    printProblem(problem(code, renderErrorChain(error)), argv.includes("--json") ? "json" : "text");
    return exitCodeOf(code);
  }
}

async function parsed(argv: readonly string[]): Promise<ExitCode> {
  const { parseAndRun } = await import("./parse.ts");
  let code: ExitCode = 0;
  await parseAndRun(argv, async (work) => {
    code = await work();
  });
  return code;
}

/**
 * The common calls (`status`, `mode get`, `tripwire list`) take nothing but --json and --runtime-dir. They run
 * without loading yargs, which costs more time than the answer. Anything else at all goes through yargs.
 */
async function findBare(argv: readonly string[]): Promise<(() => Promise<ExitCode>) | null> {
  const firstFlag = argv.findIndex((word) => word.startsWith("-"));
  const words = firstFlag === -1 ? argv : argv.slice(0, firstFlag);
  const common = parseCommon(argv.slice(words.length));
  const row = ROWS.find((candidate) => candidate.word === words[0]);
  if (common === null || row === undefined) return null;
  const { command } = await row.load();
  const runBare = commandAt(command, words.slice(1))?.runBare ?? null;
  return runBare === null ? null : () => runBare(common);
}

function commandAt(command: CliCommand, words: readonly string[]): CliCommand | undefined {
  if (words.length === 0) return command;
  const child = command.children.find((candidate) => wordOf(candidate) === words[0]);
  return child === undefined ? undefined : commandAt(child, words.slice(1));
}

function parseCommon(flags: readonly string[]): Common | null {
  let common: Common = { json: false, runtimeDir: undefined };
  for (let at = 0; at < flags.length; at++) {
    const value = flags[at + 1];
    if (flags[at] === "--json") {
      common = { ...common, json: true };
    } else if (flags[at] === "--runtime-dir" && value !== undefined && /^[^-]/.test(value)) {
      common = { ...common, runtimeDir: value };
      at++;
    } else {
      return null;
    }
  }
  return common;
}
