import * as cedar from "@cedar-policy/cedar-wasm/nodejs";
import { BoundaryError } from "../../daemon/core/errors.ts";
import type { CedarAnswer } from "../../daemon/policy/cedar-decide.ts";
import { compilePolicies } from "../../daemon/policy/cedar-decide.ts";
import { createEntities } from "../../daemon/policy/cedar-entities.ts";
import { answerText, parseExact, writable } from "../../daemon/policy/cedar-exact.ts";
import { readRecord } from "../../daemon/policy/cedar-read.ts";

/** One question to both: to cedar-wasm, and to ours. */
export type World = {
  readonly policies: unknown;
  readonly entities: readonly unknown[];
  readonly requests: readonly Asked[];
};
export type Asked = {
  readonly principal: Uid;
  readonly action: Uid;
  readonly resource: Uid;
  readonly context: Record<string, unknown>;
};
export type Uid = { readonly type: string; readonly id: string };

/** What both say alike; "refused" when the question, the entities or the policies are not taken at all. */
export type Told =
  | "refused"
  | { readonly decision: string; readonly reasons: string; readonly errors: string };

/** A policy's text in Cedar's JSON form, its integers exact. */
export function policyJson(text: string): unknown {
  return jsonOf(
    answerText(() => cedar.policyToJson(text)),
    text,
  );
}

export function templateJson(text: string): unknown {
  return jsonOf(
    answerText(() => cedar.templateToJson(text)),
    text,
  );
}

function jsonOf(answer: string, text: string): unknown {
  const read = parseExact(answer) as { readonly type: string; readonly json: unknown };
  if (read.type !== "success") throw new Error(`${text}: ${answer}`);
  return read.json;
}

export function cedarSays({ policies, entities, requests }: World): readonly Told[] {
  const set = cedar.preparsePolicySet("set", writable(policies) as cedar.PolicySet);
  if (set.type === "failure") return requests.map(() => "refused");
  return requests.map((request) => {
    const call = { ...request, entities, preparsedPolicySetId: "set" };
    const answer = cedar.statefulIsAuthorized(writable(call) as cedar.StatefulAuthorizationCall);
    if (answer.type === "failure") return "refused";
    const { decision, diagnostics } = answer.response;
    return told(
      decision,
      diagnostics.reason,
      diagnostics.errors.map(({ policyId }) => policyId),
    );
  });
}

export function weSay({ policies, entities, requests }: World): readonly Told[] {
  try {
    const { decide } = compilePolicies(policies);
    const known = createEntities(entities);
    return requests.map((request) => {
      try {
        return toldOf(decide({ ...request, context: readRecord(request.context, "context") }, known));
      } catch (error) {
        return refused(error);
      }
    });
  } catch (error) {
    return requests.map(() => refused(error));
  }
}

function refused(error: unknown): Told {
  if (error instanceof BoundaryError && error.code !== "internal") return "refused";
  throw error;
}

function toldOf({ decision, reasons, errors }: CedarAnswer): Told {
  return told(
    decision,
    reasons,
    errors.map(({ policy }) => policy),
  );
}

function told(decision: string, reasons: readonly string[], errors: readonly string[]): Told {
  return { decision, reasons: reasons.toSorted().join(), errors: errors.toSorted().join() };
}
