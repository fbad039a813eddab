import { constants } from "node:os";
import type { Client } from "../../client/control.ts";
import { codeOf } from "../../daemon/core/errno.ts";
import { type ErrorCode, renderErrorChain } from "../../daemon/core/errors.ts";
import { escapeControls } from "../../daemon/core/shown-text.ts";
import type { ExecEnd, ExecRunReply } from "../../daemon/protocol/exec.ts";
import { problem } from "../../daemon/protocol/problem.ts";
import { withDaemon } from "../ask.ts";
import type { Common } from "../command.ts";
import { type CommandExit, commandExit } from "../exit.ts";
import { painter, plain, printJson, printProblem } from "../output.ts";

/** What a guarded command is to be. `null`: as the daemon has it. */
export type GuardedWish = {
  readonly argv: readonly string[];
  readonly profile: string;
  readonly cwd: string;
  readonly workspace: string | null;
  readonly environment: Readonly<Record<string, string>>;
  readonly stdin: Buffer | null;
  readonly secret: { readonly workspace: string; readonly name: string } | null;
  readonly timeoutMs: number | null;
  readonly graceMs: number | null;
  readonly outputBytes: number | null;
  readonly network: boolean;
  readonly hosts: readonly string[] | null;
  /** Output goes to a terminal as it is. */
  readonly raw: boolean;
};

/** As timeout(1) and env(1) have them; anything else is the command's own. */
export const EXIT_TIMED_OUT = 124;
export const EXIT_NOT_RUN = 125;
export const EXIT_DENIED = 126;
const EXIT_INTERRUPTED = 130;

/** It may have to hash a large program, and to look at many files. */
const START_DEADLINE_MS = 30_000;
const WAIT_MS = 30_000;
const SLACK_MS = 5_000;
/** Nobody decided: it could not be. */
const NOT_RUN: ReadonlySet<ErrorCode | "allowed"> = new Set([
  "exec-unavailable",
  "exec-isolation",
  "exec-spawn",
  "exec-order",
  "exec-invalid",
  "exec-cwd",
  "log-unavailable",
  "policy-unavailable",
  "vault-locked",
  "stopping",
  "internal",
]);

/** Has a command run, passes its output on as it comes, and gives what it ended with. Never rejects. */
export async function runGuarded(common: Common, wish: GuardedWish): Promise<CommandExit> {
  try {
    return commandExit(await withDaemon(common, (client) => follow(client, common, wish)));
  } catch (error) {
    // 3 would be the command's
    printProblem(problem(codeOf(error), renderErrorChain(error)), common.json ? "json" : "text");
    return commandExit(EXIT_NOT_RUN);
  }
}

async function follow(client: Client, common: Common, wish: GuardedWish): Promise<number> {
  const interrupt = interruptible(client);
  try {
    const outcome = await client.call("exec.run", paramsOf(wish), START_DEADLINE_MS);
    if (!outcome.ok) {
      printProblem(outcome.problem, common.json ? "json" : "text");
      return EXIT_NOT_RUN;
    }
    const reply = outcome.data;
    if (!reply.decision) return refused(reply, common);
    interrupt.isRun(reply.id);
    const { out, end } = await outputOf(client, reply.id, common, wish);
    if (common.json) printJson({ ...reply, ...out, end });
    else tellEnd(end);
    return interrupt.wasTwice() ? EXIT_INTERRUPTED : exitOf(end);
  } finally {
    interrupt.off();
  }
}

function paramsOf(wish: GuardedWish) {
  const { argv, profile, cwd, workspace, environment, stdin, secret, network, hosts } = wish;
  const { timeoutMs, graceMs, outputBytes } = wish;
  return {
    argv: [...argv],
    profile,
    cwd,
    environment,
    network,
    ...(hosts === null ? {} : { hosts: [...hosts] }),
    ...(workspace === null ? {} : { workspace }),
    ...(stdin === null ? {} : { stdin: stdin.toString("base64") }),
    ...(secret === null ? {} : { secret }),
    ...(timeoutMs === null ? {} : { timeoutMs }),
    ...(graceMs === null ? {} : { graceMs }),
    ...(outputBytes === null ? {} : { outputBytes }),
  };
}

/** Ctrl-C ends the command, and we wait for its end; a second one does not wait. So does whoever reads our output no more. */
function interruptible(client: Client) {
  let id: string | null = null;
  let count = 0;
  const end = (): void => {
    if (id !== null) client.call("exec.end", { id }).catch(() => undefined); // its end tells
  };
  const heard = (): void => {
    count += 1;
    if (count > 1) process.exit(EXIT_INTERRUPTED);
    end();
  };
  let isUnread = false;
  const unread = (): void => {
    if (!isUnread) end();
    isUnread = true;
  };
  // not as everywhere else (run.ts), where that is no failure: here something goes on behind our back
  const others = process.stdout.listeners("error") as ((error: Error) => void)[];
  process.stdout.removeAllListeners("error").on("error", unread);
  process.on("SIGINT", heard);
  process.on("SIGTERM", heard);
  return {
    isRun(run: string): void {
      id = run;
      if (count > 0 || isUnread) end();
    },
    wasTwice: () => count > 1,
    off(): void {
      if (!isUnread) process.stdout.removeAllListeners("error");
      if (!isUnread) for (const other of others) process.stdout.on("error", other);
      process.off("SIGINT", heard);
      process.off("SIGTERM", heard);
    },
  };
}

async function outputOf(client: Client, id: string, { json }: Common, { raw }: GuardedWish) {
  const show = { stdout: shower(process.stdout, raw), stderr: shower(process.stderr, raw) };
  const kept: { stdout: Buffer[]; stderr: Buffer[] } = { stdout: [], stderr: [] };
  for (let after = 0; ; ) {
    const outcome = await client.call("exec.wait", { id, after, forMs: WAIT_MS }, WAIT_MS + SLACK_MS);
    if (!outcome.ok) throw new Error(`${outcome.problem.code}: ${outcome.problem.detail}`);
    const { output, next, end } = outcome.data;
    for (const { stream, data } of output) {
      const bytes = Buffer.from(data, "base64");
      if (json) kept[stream].push(bytes);
      else show[stream](bytes);
    }
    after = next;
    if (end === null) continue;
    const text = (parts: readonly Buffer[]) => Buffer.concat(parts).toString("utf8");
    return { out: { stdout: text(kept.stdout), stderr: text(kept.stderr) }, end };
  }
}

/** What a command puts out is nobody's we trust: on a terminal it cannot steer it. */
function shower(stream: NodeJS.WriteStream, raw: boolean): (bytes: Buffer) => void {
  if (raw || !stream.isTTY) return (bytes) => void stream.write(bytes);
  const decoder = new TextDecoder("utf-8");
  return (bytes) => {
    const text = decoder.decode(bytes, { stream: true });
    stream.write(text.replace(/[^\n\t\r]+/g, escapeControls));
  };
}

function tellEnd(end: ExecEnd): void {
  if (end.codes.length === 0 && end.redacted === 0) return;
  const lost = end.truncated.stdout + end.truncated.stderr;
  const said = [
    ...(end.timedOut ? ["it was ended: its time was over"] : []),
    ...(end.cancelled || end.codes.includes("exec-unavailable") ? [`it was ended: ${end.why}`] : []),
    ...(lost > 0 ? [`${lost} bytes of output were over the limit, and are lost`] : []),
    ...(end.redacted > 0
      ? [`${end.redacted === 1 ? "one secret was" : `${end.redacted} secrets were`} taken out of its output`]
      : []),
    ...(end.codes.includes("exec-redaction") ? ["some output could not be searched, and is not shown"] : []),
  ];
  const { paint } = painter(process.stderr);
  for (const one of said) process.stderr.write(`boundaryctl: ${paint("yellow", plain(one))}\n`);
}

function refused(reply: ExecRunReply, { json }: Common): number {
  if (json) printJson(reply);
  const { paint } = painter(process.stderr);
  const asks =
    reply.approval === ""
      ? []
      : [
          `ask: boundaryctl approvals approve ${plain(reply.approval)}, by another person; then the same again`,
        ];
  const instead = reply.wouldAllow === "" ? [] : [`would be allowed: ${plain(reply.wouldAllow)}`];
  process.stderr.write(
    [
      `boundaryctl: ${paint("red", `not run (${plain(reply.code)})`)}: ${plain(reply.why)}`,
      ...instead.map((line) => `  ${line}`),
      ...asks.map((line) => `  ${line}`),
      "",
    ].join("\n"),
  );
  return NOT_RUN.has(reply.code) ? EXIT_NOT_RUN : EXIT_DENIED;
}

function exitOf(end: ExecEnd): number {
  if (end.timedOut) return EXIT_TIMED_OUT;
  if (end.exitCode !== null) return end.exitCode;
  const signals: Readonly<Record<string, number>> = constants.signals;
  const number = end.signal === null ? undefined : signals[end.signal];
  return number === undefined ? EXIT_NOT_RUN : 128 + number;
}
