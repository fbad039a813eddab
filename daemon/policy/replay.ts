import { answerRequest } from "./answer.ts";
import { readDecisionFacts } from "./decision-facts.ts";
import type { PolicySet } from "./policy-set.ts";
import type { Registry } from "./registry.ts";

/** A recorded decision that a candidate set would have answered otherwise. */
export type Flip = {
  readonly seq: number;
  readonly at: string;
  readonly who: string;
  readonly action: string;
  readonly resource: string;
  readonly was: string;
  readonly wasBy: readonly string[];
  readonly would: string;
  readonly wouldBy: readonly string[];
};

/** same, flipped, or not replayable: policy was not asked, or the record does not say all. */
export type Replayed =
  | { readonly kind: "same" }
  | { readonly kind: "unasked" }
  | { readonly kind: "flipped"; readonly flip: Flip };

/** Asks a set what a `decision` record's question would be answered by it. The registry is today's. */
export function replayDecision(
  set: PolicySet,
  registry: Registry,
  record: { readonly seq: number; readonly at: string; readonly data: { readonly [name: string]: unknown } },
): Replayed {
  const told = Object.hasOwn(record.data, "policy") ? readDecisionFacts(record.data["policy"]) : null;
  if (told === null) return { kind: "unasked" };
  const { request, principal, situation } = told;
  const { answer } = answerRequest(set, registry, request, principal, situation);
  if (answer.decision === told.answer) return { kind: "same" };
  const flip = {
    seq: record.seq,
    at: record.at,
    who: `${principal.type}::${principal.id}`,
    action: request.action.name,
    resource: `${request.resource.type}::${request.resource.id}`,
    was: told.answer,
    wasBy: told.by,
    would: answer.decision,
    wouldBy: answer.reasons,
  };
  return { kind: "flipped", flip };
}
