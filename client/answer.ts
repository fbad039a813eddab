import { type Evaluation, NOTHING_BESIDE } from "../daemon/core/access.ts";
import type { Assurance } from "../daemon/core/assurance.ts";
import { ERRORS, type ErrorCode } from "../daemon/core/errors.ts";
import { MODES, type Mode } from "../daemon/core/mode.ts";
import type { Problem } from "../daemon/protocol/messages.ts";
import type { Outcome } from "./control.ts";

/**
 * The answer to a question, always one: what the daemon said, or a denial of our own when it said nothing that can be
 * read. Newer daemons may use codes that are not known here, so `code` is text.
 */
export type Answer = Omit<Evaluation, "code" | "mode"> & {
  readonly code: string;
  /** null: no daemon said. */
  readonly mode: Mode | null;
  /** Why there is no decision of the daemon's, for a person; "" when there is one. */
  readonly detail: string;
};

const ASSURANCES: readonly Assurance[] = ["enforced", "observed", "failed"];
const CODE = /^[a-z][a-z0-9-]{0,63}$/;
const MAX_TEXT = 4_096;
const MAX_REASONS = 256;
/** A day: what is longer is no time to wait for. */
const MAX_RETRY_MS = 86_400_000;

/** A denial that is ours: no daemon decided. */
export function denial(code: ErrorCode, detail: string): Answer {
  return {
    ...NOTHING_BESIDE,
    decision: false,
    code,
    reason: [],
    mode: null,
    assurance: "failed",
    retryable: ERRORS[code].lasts === "transient",
    detail,
  };
}

/** The reply to `check` as an answer. Never throws: a refusal, and what cannot be read, are denials. */
export function answerOf(outcome: Outcome<object>): Answer {
  if (!outcome.ok) return refused(outcome.problem);
  return readAnswer(outcome.data) ?? denial("reply-invalid", "the daemon's answer cannot be read");
}

/**
 * An Evaluation (daemon/core/access.ts), null when it is none. `decision`, `reason`, `mode`, `assurance` and
 * `correlationId` have to be there; what else may be left out is taken at its most careful. One that contradicts itself
 * is none either.
 */
export function readAnswer(data: object): Answer | null {
  const field = (name: string): unknown => (Object.hasOwn(data, name) ? Reflect.get(data, name) : undefined);
  const decision = field("decision");
  const reason = field("reason");
  const mode = MODES.find((one) => one === field("mode"));
  const assurance = ASSURANCES.find((one) => one === field("assurance"));
  const correlationId = text(field("correlationId"));
  if (typeof decision !== "boolean" || mode === undefined || assurance === undefined) return null;
  if (correlationId === null || !isReasons(reason)) return null;
  const code = field("code") ?? (decision ? "allowed" : "denied");
  if (typeof code !== "string" || !CODE.test(code) || (code === "allowed") !== decision) return null;
  const wouldAllow = text(field("wouldAllow") ?? "");
  const approval = text(field("approval") ?? "");
  const askPerson = field("askPerson") ?? false;
  const retryable = field("retryable") ?? false;
  const retryAfterMs = field("retryAfterMs") ?? 0;
  if (wouldAllow === null || approval === null) return null;
  if (typeof askPerson !== "boolean" || typeof retryable !== "boolean" || !isWait(retryAfterMs)) return null;
  return {
    decision,
    code,
    reason,
    mode,
    assurance,
    correlationId,
    wouldAllow,
    askPerson,
    approval,
    retryable,
    retryAfterMs,
    detail: "",
  };
}

function refused(problem: Problem): Answer {
  const known = Object.hasOwn(ERRORS, problem.code) ? problem.code : null;
  const wait: unknown = Object.hasOwn(problem, "retryAfterMs")
    ? Reflect.get(problem, "retryAfterMs")
    : undefined;
  return {
    ...denial(known ?? "reply-invalid", `${problem.detail} (${problem.hint})`.slice(0, MAX_TEXT)),
    ...(CODE.test(problem.code) && problem.code !== ("allowed" as string) ? { code: problem.code } : {}),
    ...(isWait(wait) ? { retryable: true, retryAfterMs: wait } : {}),
  };
}

function text(value: unknown): string | null {
  return typeof value === "string" && value.length <= MAX_TEXT ? value : null;
}

function isReasons(value: unknown): value is readonly string[] {
  return Array.isArray(value) && value.length <= MAX_REASONS && value.every((each) => text(each) !== null);
}

function isWait(value: unknown): value is number {
  return typeof value === "number" && value >= 0 && value <= MAX_RETRY_MS;
}
