import type { AccessRequest } from "../core/access.ts";
import { BoundaryError, type ErrorCode } from "../core/errors.ts";
import type { CedarAnswer } from "./cedar-decide.ts";
import { createEntities } from "./cedar-entities.ts";
import type { CedarQuestion, Ruling } from "./cedar-question.ts";
import { readRecord } from "./cedar-read.ts";
import { type AskedSituation, buildRequest, type Principal } from "./entities.ts";
import type { PolicySet } from "./policy-set.ts";
import type { Registry } from "./registry.ts";

/** What policy says of a question. It is stricter than Cedar: an allow with any error is a denial. */
export type PolicyAnswer = {
  readonly decision: "allow" | "deny";
  /** "allowed", "policy-denied", or why policy could not be asked. */
  readonly code: "allowed" | ErrorCode;
  /** The ids of the policies that determined it, sorted; the code where none did. */
  readonly reasons: readonly string[];
  readonly errors: readonly { readonly policy: string; readonly message: string }[];
  /** Every forbid that denies gives way to a person's approval, and with one it would be allowed. */
  readonly needsPerson: boolean;
  /** On a denial: what would be allowed; "" where the policies do not say. */
  readonly advice: string;
};

/** A question with its answer: what a referee has to come to as well. Null where it could not be put to Cedar. */
export type Answered = {
  readonly answer: PolicyAnswer;
  readonly asked: { readonly question: CedarQuestion; readonly ruling: Ruling } | null;
};

const MAX_ADVICE = 1_000;

/** Answers a question of a caller. Never throws: what cannot be asked is denied, with the code that says why. */
export function answerRequest(
  set: PolicySet,
  registry: Registry,
  request: AccessRequest,
  principal: Principal,
  situation: AskedSituation,
): Answered {
  let question: CedarQuestion;
  try {
    question = buildRequest(set.shapes, registry, request, principal, situation);
  } catch (error) {
    return { answer: refusal(error), asked: null };
  }
  try {
    const found = decide(set, question);
    return { answer: gate(set, question, found), asked: { question, ruling: rulingOf(found) } };
  } catch (error) {
    return { answer: refusal(error), asked: null };
  }
}

/** Nothing of policy can be asked. */
export function refusal(error: unknown): PolicyAnswer {
  const known = error instanceof BoundaryError;
  const code = known ? error.code : "policy-unavailable";
  const advice = known ? error.message : "";
  return { decision: "deny", code, reasons: [code], errors: [], needsPerson: false, advice };
}

/** What the compiled set says, by itself. Throws what a malformed question causes. */
export function decide(set: PolicySet, question: CedarQuestion): CedarAnswer {
  const { principal, action, resource } = question;
  const context = readRecord(question.context, "the context");
  return set.compiled.decide({ principal, action, resource, context }, createEntities(question.entities));
}

export function rulingOf({ decision, reasons, errors }: CedarAnswer): Ruling {
  return { decision, reasons, errors: errors.map(({ policy }) => policy) };
}

function gate(set: PolicySet, question: CedarQuestion, found: CedarAnswer): PolicyAnswer {
  const { reasons, errors } = found;
  if (found.decision === "allow" && errors.length === 0)
    return { decision: "allow", code: "allowed", reasons, errors, needsPerson: false, advice: "" };
  if (errors.length > 0) {
    // which of its forbids failed is no caller's to know how to bring about
    const failed = errors.map(({ policy }) => policy);
    return {
      decision: "deny",
      code: "policy-failed",
      reasons: failed,
      errors,
      needsPerson: false,
      advice: "",
    };
  }
  return {
    decision: "deny",
    code: "policy-denied",
    reasons: reasons.length === 0 ? ["policy-denied"] : reasons,
    errors,
    needsPerson: needsPerson(set, question, reasons),
    advice: adviceOn(set, question.action.id, reasons),
  };
}

function needsPerson(set: PolicySet, question: CedarQuestion, reasons: readonly string[]): boolean {
  if (reasons.length === 0 || !reasons.every((id) => set.notes.get(id)?.needsPerson === true)) return false;
  // none of them says that anything permits it: an approval that changes nothing is not asked for
  const approved = decide(set, { ...question, context: { ...question.context, approved: true } });
  return approved.decision === "allow" && approved.errors.length === 0;
}

/** Of the forbids that deny; where nothing permits, of what would permit this action otherwise. */
function adviceOn(set: PolicySet, action: string, reasons: readonly string[]): string {
  const forbidden = new Set(reasons.map((id) => set.notes.get(id)?.advice ?? ""));
  forbidden.delete("");
  const told = reasons.length > 0 ? [...forbidden] : (set.permitted.get(action) ?? []);
  return told.join("; ").slice(0, MAX_ADVICE);
}
