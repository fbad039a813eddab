import { realpathSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { programLookup } from "../../daemon/adapters/exec-programs.ts";
import { renderProblems } from "../../daemon/core/config-parse.ts";
import { BoundaryError } from "../../daemon/core/errors.ts";
import { MODES } from "../../daemon/core/mode.ts";
import { type Profile, parseExecProfiles } from "../../daemon/exec/profile.ts";
import { MAX_LINE } from "../../daemon/exec/shell.ts";
import { type Judgement, judge } from "../../daemon/exec/verdict.ts";
import { define } from "../command.ts";
import { type ExitCode, usageError } from "../exit.ts";
import { type Paint, painter, plain, printJson, printLines } from "../output.ts";
import { readSmallFile } from "../read-file.ts";

const MAX_PROFILES_BYTES = 1_048_576;
/** A person has to be asked: neither yes nor no. */
const EXIT: Readonly<Record<Judgement["verdict"], ExitCode>> = { allow: 0, deny: 1, ask: 3 };

/** `boundaryctl exec check -- COMMAND…`: judges by the profile alone, and runs nothing. */
export const check = define({
  usage: "check [command..]",
  describe:
    "Judge a command by a profile, without a daemon and without running it; exit code 0 allow, 1 deny, 3 ask",
  examples: [
    ["boundaryctl exec check --profile developer -- git status", "a command as words"],
    ["echo 'npm test | tail' | boundaryctl exec check --profile developer --stdin", "a line for a shell"],
  ],
  options: (yargs) =>
    yargs
      .positional("command", { type: "string", array: true, describe: "The command, after --" })
      .option("stdin", { type: "boolean", default: false, describe: "Read a shell line from stdin instead" })
      .option("profile", { type: "string", default: "default", requiresArg: true, describe: "Its name" })
      .option("profiles", {
        type: "string",
        requiresArg: true,
        describe: "The file of profiles; the shipped one without it",
      })
      .option("mode", {
        choices: MODES,
        default: "OPEN" as const,
        requiresArg: true,
        describe: "As if in it",
      })
      .option("workspace", {
        type: "string",
        requiresArg: true,
        describe: "Where it may work; else where we are",
      })
      .option("environment", {
        type: "string",
        default: "",
        requiresArg: true,
        describe: "Names it would get, with commas between them",
      }),
  run: async (args) => {
    // what stands after -- is no argument of ours, and is where yargs leaves it: behind the words that led here
    const words = (args._ ?? []).slice(2).map(String);
    if ((args.command ?? []).length > 0) throw usageError("give the command after --");
    if (args.stdin === words.length > 0) throw usageError("give a command after --, or a line with --stdin");
    const profile = readProfile(args.profiles, args.profile);
    const cwd = realpathSync(".");
    const workspace = placeOf(args.workspace ?? ".");
    const judgement = judge(
      {
        ...(args.stdin ? { line: await readLine() } : { argv: words }),
        cwd,
        environmentNames: args.environment.split(",").filter((name) => name !== ""),
        profile,
      },
      { mode: args.mode, workspace, resolveProgram: programLookup(profile) },
    );
    const by = { profile: profile.name, mode: args.mode, daemon: "not asked" };
    if (args.json) printJson({ ...judgement, ...by });
    else printLines(render(judgement, by, painter(process.stdout).paint));
    return EXIT[judgement.verdict];
  },
});

function placeOf(path: string): string {
  try {
    return realpathSync(path);
  } catch (cause) {
    throw new BoundaryError("argument-invalid", `there is no directory ${path}`, { cause });
  }
}

function readProfile(file: string | undefined, name: string): Profile {
  const path = file ?? shippedProfiles();
  const bytes = readSmallFile(path, MAX_PROFILES_BYTES);
  if (bytes === null) throw usageError(`there is no file ${path}`);
  const parsed = parseExecProfiles(bytes.toString("utf8"));
  if (!parsed.ok) throw new BoundaryError("config-invalid", renderProblems(path, parsed.problems));
  const profile = parsed.value.get(name);
  if (profile === undefined)
    throw usageError(`there is no profile ${name}; name one of: ${[...parsed.value.keys()].join(", ")}`);
  return profile;
}

function shippedProfiles(): string {
  return fileURLToPath(new URL("../../policies/exec.yaml", import.meta.url));
}

/** All of stdin. One line end at its end is none of the line's. */
async function readLine(): Promise<string> {
  const parts: Buffer[] = [];
  let bytes = 0;
  for await (const part of process.stdin as AsyncIterable<Buffer>) {
    parts.push(part);
    bytes += part.length;
    if (bytes > 4 * MAX_LINE) throw usageError("what came in by stdin is too long for a line");
  }
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })
      .decode(Buffer.concat(parts))
      .replace(/\n$/, "");
  } catch (cause) {
    throw new BoundaryError("argument-invalid", "what came in by stdin is not UTF-8", { cause });
  }
}

const COLOURS = { allow: "green", ask: "yellow", deny: "red" } as const;

function render(
  { verdict, rule, reason, layers }: Judgement,
  by: { readonly profile: string; readonly mode: string },
  paint: Paint,
): readonly string[] {
  return [
    paint(COLOURS[verdict], verdict),
    `rule     ${plain(rule)}: ${plain(reason)}`,
    `by       the profile ${plain(by.profile)} alone, as if in ${by.mode}: no daemon was asked, and nothing was run`,
    ...layers.map(
      (layer) =>
        `${"  ".repeat(layer.depth)}${layer.verdict.padEnd(5)}  ${layer.what}  ${plain(layer.text)}  ${plain(layer.rule)}: ${plain(layer.reason)}`,
    ),
  ];
}
