import { type Client, connectControl, type Outcome, type Params, type Replies } from "../client/control.ts";
import { controlSocket } from "../client/places.ts";
import { BoundaryError } from "../daemon/core/errors.ts";
import { ASKED_OF_POLICY } from "../daemon/protocol/asked-of-policy.ts";
import type { Problem, Verb } from "../daemon/protocol/messages.ts";
import type { Common } from "./command.ts";
import { type ExitCode, exitCodeOf } from "./exit.ts";
import { printJson, printLines, printProblem } from "./output.ts";
import { readToken } from "./token-file.ts";

/** Connects, does the work, and disconnects whatever came of it. Throws as connectControl and the work do. */
export async function withDaemon<T>(common: Common, work: (client: Client) => Promise<T>): Promise<T> {
  const token = readToken(common.tokenFile ?? process.env["BOUNDARY_TOKEN_FILE"]);
  const client = await connectControl(controlSocket(common.runtimeDir), token);
  try {
    return await work(client);
  } finally {
    client.close();
  }
}

const POLICIES_FIRST: ReadonlySet<Verb> = new Set<Verb>(ASKED_OF_POLICY);
/** A daemon that has just started has to read its policies before it answers those: a second, or many on a slow host. */
const POLICY_MS = 60_000;

/** How long an answer to a verb is waited for; undefined: as long as the client says. */
export function patienceFor(verb: Verb): number | undefined {
  return POLICIES_FIRST.has(verb) ? POLICY_MS : undefined;
}

/** Asks one verb and shows the answer. `exitCode` says what an answer is worth; 0 without it. */
export async function askAndShow<V extends Verb>(
  common: Common,
  question: { readonly verb: V; readonly params: Params<V>; readonly deadlineMs?: number },
  show: {
    readonly render: (data: Replies[V]) => readonly string[];
    readonly exitCode?: (data: Replies[V]) => ExitCode;
  },
): Promise<ExitCode> {
  const { verb, params, deadlineMs = patienceFor(verb) } = question;
  const outcome = await withDaemon(common, (client) => client.call(verb, params, deadlineMs));
  if (!outcome.ok) return showRefusal(common, outcome.problem);
  if (common.json) printJson(outcome.data);
  else printLines(renderReply(question.verb, () => show.render(outcome.data)));
  return show.exitCode?.(outcome.data) ?? 0;
}

/** Shows why the daemon refused; the exit code for it. */
export function showRefusal(common: Common, problem: Problem): ExitCode {
  printProblem(problem, common.json ? "json" : "text");
  return exitCodeOf(problem.code);
}

/** The reply's data, or the refusal shown and null. */
export function dataOr<T>(common: Common, outcome: Outcome<T>): { data: T } | { code: ExitCode } {
  return outcome.ok ? { data: outcome.data } : { code: showRefusal(common, outcome.problem) };
}

// the daemon's replies are not checked field by field here: one that cannot be shown is not ours
function renderReply(verb: Verb, render: () => readonly string[]): readonly string[] {
  try {
    return render();
  } catch (cause) {
    throw new BoundaryError("reply-invalid", `showing the reply to ${verb}`, { cause });
  }
}
