import type { Answer, BoundaryClient, Question } from "../../client/client.ts";
import { codeOf } from "../../daemon/core/errno.ts";
import { ERRORS, renderErrorChain } from "../../daemon/core/errors.ts";
import { renderJson } from "../output.ts";

/** What a tool gives back: one text, JSON on one line with nothing in it that could steer a terminal. */
export type ToolResult = {
  content: { type: "text"; text: string }[];
  isError?: boolean;
};

export type ApprovalWish = {
  readonly question?: Question | undefined;
  readonly approval?: string | undefined;
  readonly waitMs: number;
};

/** A reply may come this much later than the wait it is about. */
const SLACK_MS = 2_000;

/** The mode and what holds it. */
export async function showStatus(client: BoundaryClient): Promise<ToolResult> {
  try {
    const { mode, assurance, frozen, controls } = await client.call("status", {});
    return said({
      wanted: mode.wanted,
      applied: mode.applied,
      since: mode.since,
      until: mode.until,
      hold: mode.hold,
      assurance,
      frozen,
      controls: controls.map(({ name, state, detail }) => ({ name, state, detail })),
    });
  } catch (error) {
    return failed(error);
  }
}

/** The answer to a question; a denial is an answer, too. */
export async function check(client: BoundaryClient, question: Question): Promise<ToolResult> {
  return said(await client.check(question));
}

/**
 * Has a person asked about a question that is denied, and says what has become of it: the daemon makes the approval when
 * the question is asked, so this asks it. With `approval`, the id that a denial carried, it only waits. What a person has
 * approved is taken up by doing, that is asking, the same again.
 */
export async function requestApproval(
  client: BoundaryClient,
  { question, approval, waitMs }: ApprovalWish,
): Promise<ToolResult> {
  if ((question === undefined) === (approval === undefined))
    return failure("argument-invalid", "give either action and resource, or the id of an approval");
  if (approval !== undefined) return wait(client, approval, waitMs);
  const answer = await client.check(question as Question);
  if (answer.decision) return said({ state: "allowed", next: "go on: this answer is the one allow", answer });
  if (answer.approval === "") return said({ state: "impossible", next: withoutApproval(answer), answer });
  if (waitMs === 0)
    return said({ state: "pending", approval: answer.approval, next: pending(answer.approval), answer });
  return wait(client, answer.approval, waitMs);
}

async function wait(client: BoundaryClient, id: string, waitMs: number): Promise<ToolResult> {
  try {
    const params = { id, forMs: waitMs };
    const reply = await client.callUnchecked("approvals.wait", params, { deadlineMs: waitMs + SLACK_MS });
    const state: unknown = Object.hasOwn(reply, "state") ? Reflect.get(reply, "state") : undefined;
    if (typeof state !== "string") return failure("reply-invalid", "the reply says no state of the approval");
    return said({ state, approval: id, next: nextAfter(state, id) });
  } catch (error) {
    if (codeOf(error) === "verb-unknown")
      return failure("verb-unknown", "this daemon has no approvals: ask a person to see to it otherwise");
    return failed(error);
  }
}

function nextAfter(state: string, id: string): string {
  if (state === "approved") return "do the same again, exactly: it is allowed once";
  if (state === "pending") return pending(id);
  return "it is not allowed; do not ask for it again unless something has changed";
}

function pending(id: string): string {
  return `a person runs: boundaryctl approvals show ${id}`;
}

function withoutApproval({ askPerson, wouldAllow }: Answer): string {
  if (askPerson) return "a person has to change something; there is no approval to wait for";
  return wouldAllow === ""
    ? "no person can approve it as things are"
    : `what would be allowed: ${wouldAllow}`;
}

function said(value: object): ToolResult {
  return { content: [{ type: "text", text: renderJson(value) }] };
}

function failed(error: unknown): ToolResult {
  const code = codeOf(error);
  return failure(code, renderErrorChain(error));
}

function failure(code: keyof typeof ERRORS, detail: string): ToolResult {
  return { ...said({ code, detail, hint: ERRORS[code].hint }), isError: true };
}
