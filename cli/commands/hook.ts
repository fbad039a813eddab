import { renderErrorChain } from "../../daemon/core/errors.ts";
import { agentClient } from "../agent-client.ts";
import { type CliCommand, type Common, define } from "../command.ts";
import { parseDuration } from "../duration.ts";
import type { ExitCode } from "../exit.ts";
import { decide, deny, type HookOutput } from "../hook/decision.ts";
import { MAX_INPUT_BYTES } from "../hook/tool-call.ts";
import { plain, renderJson } from "../output.ts";

/** What blocks the tool where nothing could be printed. Any other code but 0 would let it go on. */
const BLOCKED = 2;

type Rules = {
  readonly deadline: string;
  readonly noPrompt: boolean;
  readonly denyOnly: boolean;
  readonly asUser: boolean;
  readonly tokenFile?: string | undefined;
};
const DEFAULTS: Rules = { deadline: "5s", noPrompt: false, denyOnly: false, asUser: false };

const withOptions = define({
  usage: "hook",
  describe: "Answer an agent's PreToolUse hook: allow, deny or ask, for the tool call on stdin",
  examples: [
    [
      "boundaryctl hook --token-file /etc/agent/token || exit 2",
      "as the command of the hook: whatever fails, blocks",
    ],
    ["boundaryctl hook --token-file /etc/agent/token --no-prompt || exit 2", "where nobody sits before it"],
  ],
  options: (yargs) =>
    yargs
      .option("deadline", {
        type: "string",
        default: DEFAULTS.deadline,
        requiresArg: true,
        describe: "Denied after this long; keep it below the hook's own timeout",
      })
      .option("no-prompt", {
        type: "boolean",
        default: DEFAULTS.noPrompt,
        describe: 'Where a person may decide otherwise, answer "deny" instead of "ask"',
      })
      .option("deny-only", {
        type: "boolean",
        default: DEFAULTS.denyOnly,
        describe: "Say nothing where it is allowed: the agent's own rules go on to decide",
      })
      .option("token-file", {
        type: "string",
        requiresArg: true,
        describe: "The agent's token (also BOUNDARY_TOKEN_FILE)",
      })
      .option("as-user", {
        type: "boolean",
        default: DEFAULTS.asUser,
        describe: "Without a token, ask as the user that runs this; otherwise that is denied",
      }),
  run: (args) => hook(args, args),
});

/**
 * `boundaryctl hook`: the PreToolUse hook of Claude Code. 0 with a decision on stdout, always; 2, which blocks, when
 * stdout cannot take it. It runs before every tool call, so without options it does without yargs.
 */
export const command: CliCommand = { ...withOptions, runBare: (common) => hook(common, DEFAULTS) };

async function hook(common: Common, rules: Rules): Promise<ExitCode> {
  process.on("uncaughtException", block);
  process.on("unhandledRejection", block);
  process.stdout.removeAllListeners("error").on("error", block);
  const output = await answer(common, rules);
  const silent = rules.denyOnly && output.hookSpecificOutput.permissionDecision === "allow";
  await print(silent ? "{}" : renderJson(output));
  return 0;
}

async function answer(common: Common, { deadline, noPrompt, tokenFile, asUser }: Rules): Promise<HookOutput> {
  try {
    const untilMs = performance.now() + parseDuration(deadline);
    const left = (): number => Math.max(1, untilMs - performance.now());
    const bytes = await readInput(left());
    if (bytes === null) return deny("stdin did not end in time");
    const client = agentClient(common, { deadlineMs: left(), tokenFile, asUser });
    try {
      return await decide(
        bytes,
        {
          check: (question) => client.check(question, { deadlineMs: left() }),
          judge: (line) => client.call("exec.check", line, { deadlineMs: left() }),
        },
        { prompt: !noPrompt },
      );
    } finally {
      client.close();
    }
  } catch (error) {
    return deny(renderErrorChain(error));
  }
}

/** All of stdin, or a byte more than is read at all; null when it does not end in time. */
async function readInput(withinMs: number): Promise<Buffer | null> {
  const { stdin } = process;
  const timer = setTimeout(() => stdin.destroy(new Error("late")), withinMs);
  const chunks: Buffer[] = [];
  let bytes = 0;
  try {
    for await (const chunk of stdin as AsyncIterable<Buffer>) {
      chunks.push(chunk);
      bytes += chunk.length;
      if (bytes > MAX_INPUT_BYTES) break;
    }
    return Buffer.concat(chunks).subarray(0, MAX_INPUT_BYTES + 1);
  } catch {
    return null;
  } finally {
    clearTimeout(timer);
  }
}

function print(line: string): Promise<void> {
  return new Promise((resolve) => {
    process.stdout.write(`${line}\n`, () => resolve());
  });
}

function block(error: unknown): never {
  process.stderr.write(`boundaryctl hook: denied: ${plain(renderErrorChain(error))}\n`);
  process.exit(BLOCKED);
}
