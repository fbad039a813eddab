import { type AccessRequest, VERB_ACTIONS } from "../core/access.ts";
import { ceilingOf as underCeilings } from "../core/authority.ts";
import { MODES } from "../core/mode.ts";
import { answerRequest, type PolicyAnswer } from "./answer.ts";
import type { AskedSituation, Principal } from "./entities.ts";
import type { PolicySet } from "./policy-set.ts";
import { type Registry, withKnown } from "./registry.ts";
import { ROLE_NAMES } from "./schema-shapes.ts";

/** The mode's ceiling over a question: plain code that stands above policy. */
export type Ceiling = {
  readonly decision: "allow" | "deny";
  readonly rule: string;
  readonly wouldAllow: string;
};

export type Explanation = {
  /** What ceiling and policy come to together. */
  readonly decision: "allow" | "deny";
  readonly ceiling: Ceiling;
  readonly policy: PolicyAnswer;
  readonly policies: readonly {
    readonly id: string;
    readonly effect: "permit" | "forbid";
    readonly file: string;
    readonly line: number;
    readonly advice: string;
    readonly text: string;
  }[];
  /** Single changes that turn the decision round. */
  readonly changes: readonly string[];
};

export type Asked = {
  readonly request: AccessRequest;
  readonly principal: Principal;
  readonly situation: AskedSituation;
};

const ASSURANCES = ["enforced", "observed", "failed"] as const;
/** How the shipped policies, and others, ask for a lease. */
const LEASE = /\bleases\s*\.\s*contains\s*\(\s*"([^"\\]{1,64})"\s*\)/g;

/** Why a question is answered as it is, and what would turn the answer round, one change at a time. */
export function explain(set: PolicySet, registry: Registry, asked: Asked): Explanation {
  const policy = policyOf(set, registry, asked);
  const ceiling = ceilingOf(withKnown(set.shapes, registry, asked.request), asked.situation);
  const decision = together(ceiling, policy);
  const changes = variants(set, asked)
    .filter(({ other }) => together(...both(set, registry, other)) !== decision)
    .map(({ what }) => what);
  const policies = policy.reasons.flatMap((id) => {
    const note = set.notes.get(id);
    if (note === undefined) return [];
    const { effect, file, line, advice, text } = note;
    return [{ id, effect, file, line, advice, text }];
  });
  return { decision, ceiling, policy, policies, changes };
}

function both(set: PolicySet, registry: Registry, asked: Asked): readonly [Ceiling, PolicyAnswer] {
  const known = withKnown(set.shapes, registry, asked.request);
  return [ceilingOf(known, asked.situation), policyOf(set, registry, asked)];
}

function policyOf(
  set: PolicySet,
  registry: Registry,
  { request, principal, situation }: Asked,
): PolicyAnswer {
  return answerRequest(set, registry, request, principal, situation).answer;
}

function together(ceiling: Ceiling, policy: PolicyAnswer): "allow" | "deny" {
  return ceiling.decision === "deny" ? "deny" : policy.decision;
}

function ceilingOf(request: AccessRequest, situation: AskedSituation): Ceiling {
  // a verb has its own, where it is done
  if (Object.hasOwn(VERB_ACTIONS, request.action.name))
    return { decision: "allow", rule: "verb", wouldAllow: "" };
  const { allow, rule, instead } = underCeilings(situation, request);
  return { decision: allow ? "allow" : "deny", rule, wouldAllow: instead };
}

function variants(set: PolicySet, asked: Asked): readonly { readonly what: string; readonly other: Asked }[] {
  const { request, principal, situation } = asked;
  const inSituation = (what: string, change: Partial<AskedSituation>) => ({
    what,
    other: { ...asked, situation: { ...situation, ...change } },
  });
  const leases = new Set(
    [...set.notes.values()].flatMap(({ text }) => [...text.matchAll(LEASE)].map((hit) => hit[1] ?? "")),
  );
  return [
    ...MODES.filter((mode) => mode !== situation.wanted || mode !== situation.applied).map((mode) =>
      inSituation(`in mode ${mode}`, { wanted: mode, applied: mode }),
    ),
    ...ASSURANCES.filter((assurance) => assurance !== situation.assurance).map((assurance) =>
      inSituation(`with assurance ${assurance}`, { assurance }),
    ),
    inSituation(situation.approved ? "without a person's approval" : "with a person's approval", {
      approved: !situation.approved,
    }),
    ...[...leases].map((lease) =>
      situation.leases.includes(lease)
        ? inSituation(`without the lease ${lease}`, {
            leases: situation.leases.filter((one) => one !== lease),
          })
        : inSituation(`with a lease ${lease}`, { leases: [...situation.leases, lease] }),
    ),
    inSituation(situation.frozen ? "with the clock cleared" : "with the clock frozen", {
      frozen: !situation.frozen,
    }),
    inSituation(situation.token ? "without a token" : "with a token", { token: !situation.token }),
    ...ROLE_NAMES.filter((role) => !principal.roles.includes(role)).map((role) => ({
      what: `with the role ${role}`,
      other: { ...asked, principal: { ...principal, roles: [...principal.roles, role] } },
    })),
    ...(Object.hasOwn(request.context, "taint")
      ? [{ what: "without taint", other: { ...asked, request: { ...request, context: {} } } }]
      : []),
  ];
}
