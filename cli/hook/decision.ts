import type { Answer, Question } from "../../client/client.ts";
import type { ExecCheckReply } from "../../daemon/protocol/exec.ts";
import { plain } from "../output.ts";
import { mapToolCall } from "./mapping.ts";
import { readToolCall } from "./tool-call.ts";

/** What the agent is told: the output of a PreToolUse hook. */
export type HookOutput = {
  readonly hookSpecificOutput: {
    readonly hookEventName: "PreToolUse";
    readonly permissionDecision: "allow" | "deny" | "ask";
    readonly permissionDecisionReason: string;
  };
};

export type HookRules = {
  /** What waits for a person's approval is put to the one before the agent ("ask"); otherwise that is a denial too. */
  readonly prompt: boolean;
};

const MAX_REASON = 2_000;
const MAX_PART = 500;

/** What the daemon is asked. */
export type Asking = {
  check(question: Question): Promise<Answer>;
  /** Judges a line by the profile that is configured for hooks; rejects where it could not be asked. */
  judge(line: { readonly line: string; readonly cwd: string }): Promise<ExecCheckReply>;
};

/** The whole way from the bytes on stdin to the output. Rejects where the daemon could not judge a line. */
export async function decide(bytes: Uint8Array, asking: Asking, rules: HookRules): Promise<HookOutput> {
  const read = readToolCall(bytes);
  if (!read.ok) return deny(read.why);
  const mapped = mapToolCall(read.call);
  if (!mapped.ok) return deny(mapped.why);
  const judged = mapped.line === undefined ? null : await asking.judge(mapped.line);
  const verdict = judged?.configured === true ? judged : null;
  // "allow" and "ask" alone go on: whatever else comes is a denial
  if (verdict !== null && verdict.verdict !== "allow" && verdict.verdict !== "ask")
    return output("deny", ["denied (exec-denied)", ...wordsOf(verdict)]);
  // the profile can only refuse: what policy says of a shell counts as it did
  const said = outputOf(await asking.check(mapped.question), rules);
  if (verdict?.verdict !== "ask" || said.hookSpecificOutput.permissionDecision !== "allow") return said;
  return output(rules.prompt ? "ask" : "deny", ["a person has to allow it", ...wordsOf(verdict)]);
}

function wordsOf({ rule, why, profile, mode, correlationId }: ExecCheckReply): readonly string[] {
  return [
    `by ${rule}: ${why}`,
    `profile ${profile}, mode ${mode}`,
    ...(correlationId === "" ? [] : [`record ${correlationId}`]),
  ];
}

/** A denial of our own. */
export function deny(why: string): HookOutput {
  return output("deny", ["denied", `nothing was asked: ${why}`]);
}

/** The daemon's answer as the agent is told it. Nothing but a decision of true is an allow. */
export function outputOf(answer: Answer, { prompt }: HookRules): HookOutput {
  const where = answer.mode === null ? [] : [`mode ${answer.mode}, ${answer.assurance}`];
  const by = answer.reason.length === 0 ? [] : [`by ${answer.reason.join(", ")}`];
  const record = answer.correlationId === "" ? [] : [`record ${answer.correlationId}`];
  if (answer.decision) return output("allow", ["allowed", ...by, ...where, ...record]);
  const instead = answer.wouldAllow === "" ? [] : [`would be allowed: ${answer.wouldAllow}`];
  const failed = answer.detail === "" ? [] : [answer.detail];
  // LOCKDOWN ends by ceremony
  const mayLift = answer.askPerson && answer.mode !== null && answer.mode !== "LOCKDOWN";
  const person = mayLift ? [askWhom(answer.approval)] : [];
  // a mode's ceiling, a role and a rule are changed by who may change them, not lifted by a key pressed at a prompt
  const mayAsk = mayLift && answer.code === "approval-required";
  const again = answer.retryable ? [retryText(answer.retryAfterMs)] : [];
  const said = [
    `denied (${answer.code})`,
    ...failed,
    ...by,
    ...where,
    ...instead,
    ...person,
    ...again,
    ...record,
  ];
  return output(mayAsk && prompt ? "ask" : "deny", said);
}

function askWhom(approval: string): string {
  return approval === ""
    ? "a person may decide otherwise"
    : `a person may allow it once: boundaryctl approvals show ${approval}; then try the same again`;
}

function retryText(afterMs: number): string {
  return afterMs > 0 ? `try again in ${Math.ceil(afterMs / 1_000)} s` : "try again later";
}

function output(
  permissionDecision: "allow" | "deny" | "ask",
  [first = "", ...rest]: readonly string[],
): HookOutput {
  const parts = [`boundary: ${first}`, ...rest].map((part) => plain(part.slice(0, MAX_PART)));
  return {
    hookSpecificOutput: {
      hookEventName: "PreToolUse",
      permissionDecision,
      permissionDecisionReason: parts.join("; ").slice(0, MAX_REASON),
    },
  };
}
