import { compileExpr } from "./cedar-compile.ts";
import type { Entities, Entity } from "./cedar-entities.ts";
import type { Env } from "./cedar-env.ts";
import { failureText } from "./cedar-failure.ts";
import { createIndex } from "./cedar-index.ts";
import { type Policy, readPolicySet, type Scope, type SlotName } from "./cedar-json.ts";
import { bool } from "./cedar-operand.ts";
import { invalid } from "./cedar-read.ts";
import { type CedarRecord, type EntityUid, entityUid } from "./cedar-value.ts";

type TypeAndId = { readonly type: string; readonly id: string };

/** `context` is what readRecord makes of JSON. */
export type CedarRequest = {
  readonly principal: TypeAndId;
  readonly action: TypeAndId;
  readonly resource: TypeAndId;
  readonly context: CedarRecord;
};

/**
 * Cedar's own answer. `reasons`: the ids of the policies that determined it, sorted: the forbids that hold, or else the
 * permits. `errors`: the policies that came to no answer, and were left out; so an allow with errors is to be distrusted.
 */
export type CedarAnswer = {
  readonly decision: "allow" | "deny";
  readonly reasons: readonly string[];
  readonly errors: readonly { readonly policy: string; readonly message: string }[];
};

export type Compiled = {
  readonly policies: readonly PolicyFacts[];
  readonly decide: (request: CedarRequest, entities: Entities) => CedarAnswer;
};

/** `template`: of which template the policy is a link; null for one that stands for itself. */
type PolicyFacts = {
  readonly id: string;
  readonly effect: "permit" | "forbid";
  readonly annotations: ReadonlyMap<string, string>;
  readonly template: string | null;
};

/** A policy ready to be asked. `scope` is its head with the slots filled. */
export type Rule = {
  readonly id: string;
  readonly forbids: boolean;
  readonly scope: {
    readonly principal: BoundScope;
    readonly action: BoundScope;
    readonly resource: BoundScope;
  };
  readonly holds: (env: Env) => boolean;
};
export type BoundScope =
  | { readonly op: "all" }
  | { readonly op: "=="; readonly key: string }
  | { readonly op: "in"; readonly keys: readonly string[] }
  | { readonly op: "is"; readonly type: string; readonly in: string | null };

const NONE: readonly never[] = [];
type Slots = ReadonlyMap<SlotName, EntityUid>;

const NO_SLOTS: Slots = new Map();

/**
 * Compiles a policy set in Cedar's JSON form (see readPolicySet) to closures that give Cedar's own answer. Throws
 * "policy-invalid" for everything it does not know in full; nothing is left to be found out by a question.
 */
export function compilePolicies(json: unknown): Compiled {
  const { policies, templates, links } = readPolicySet(json);
  const rules: Rule[] = [];
  const facts: PolicyFacts[] = [];
  const add = (id: string, policy: Policy, slots: Slots, template: string | null) => {
    checkSlots(`policy ${id}`, policy, [...slots.keys()]);
    facts.push({ id, effect: policy.effect, annotations: policy.annotations, template });
    rules.push(compileRule(id, policy, slots));
  };
  for (const [id, policy] of policies) add(id, policy, NO_SLOTS, null);
  for (const { templateId, newId, values } of links) {
    const template = templates.get(templateId);
    if (template === undefined) throw invalid(`link ${newId}: there is no template ${templateId}`);
    add(newId, template, values, templateId);
  }
  // one that nobody links has to be good all the same
  for (const [id, template] of templates) {
    if ([template.principal, template.resource].flatMap(slotsOf).length === 0)
      throw invalid(`template ${id} has no slot`);
    for (const { body } of template.conditions) compileExpr(body);
  }
  checkNames([...policies.keys(), ...templates.keys(), ...links.map(({ newId }) => newId)]);
  const index = createIndex(rules);
  return {
    policies: facts,
    decide: (request, entities) => decide(index, request, entities),
  };
}

function checkNames(ids: readonly string[]): void {
  const seen = new Set<string>();
  for (const id of ids) {
    if (seen.has(id)) throw invalid(`${id} is the name of two policies`);
    seen.add(id);
  }
}

/** Exactly the slots that the head has are to be given. */
function checkSlots(where: string, { principal, resource }: Policy, given: readonly SlotName[]): void {
  const needed = [principal, resource].flatMap(slotsOf);
  if (needed.length !== given.length || needed.some((slot) => !given.includes(slot)))
    throw invalid(`${where} has the slots [${needed.join()}], and is given [${given.join()}]`);
}

function slotsOf(scope: Scope): readonly SlotName[] {
  const named = scope.op === "==" ? [scope.entity] : scope.op === "in" ? scope.entities : [];
  const within = scope.op === "is" && scope.in !== null ? [scope.in] : [];
  return [...named, ...within].filter((one) => typeof one === "string");
}

function decide(
  index: ReturnType<typeof createIndex>,
  request: CedarRequest,
  entities: Entities,
): CedarAnswer {
  const env = envOf(request, entities);
  let permits: string[] | null = null;
  let forbids: string[] | null = null;
  let errors: CedarAnswer["errors"][number][] | null = null;
  // permits are asked too when a forbid holds: their errors are part of the answer
  index.visit(env, (rule) => {
    try {
      if (!rule.holds(env)) return;
    } catch (thrown) {
      errors ??= [];
      errors.push({ policy: rule.id, message: failureText(thrown) });
      return;
    }
    if (rule.forbids) {
      forbids ??= [];
      forbids.push(rule.id);
    } else {
      permits ??= [];
      permits.push(rule.id);
    }
  });
  return answerOf(permits, forbids, errors);
}

function answerOf(
  permits: string[] | null,
  forbids: string[] | null,
  errors: CedarAnswer["errors"][number][] | null,
): CedarAnswer {
  const reasons = forbids ?? permits;
  if (reasons !== null && reasons.length > 1) reasons.sort();
  if (errors !== null && errors.length > 1) errors.sort((a, b) => (a.policy < b.policy ? -1 : 1));
  return {
    decision: forbids === null && permits !== null ? "allow" : "deny",
    reasons: reasons ?? NONE,
    errors: errors ?? NONE,
  };
}

function envOf({ principal, action, resource, context }: CedarRequest, entities: Entities): Env {
  const uids = {
    principal: entityUid(principal.type, principal.id),
    action: entityUid(action.type, action.id),
    resource: entityUid(resource.type, resource.id),
  };
  return {
    ...uids,
    context,
    principalEntity: entities.find(uids.principal.key),
    actionEntity: entities.find(uids.action.key),
    resourceEntity: entities.find(uids.resource.key),
    entities,
  };
}

function compileRule(id: string, policy: Policy, slots: Slots): Rule {
  const scope = {
    principal: bind(policy.principal, slots),
    action: bind(policy.action, slots),
    resource: bind(policy.resource, slots),
  };
  const conditions = policy.conditions.map(({ kind, body }) => ({
    run: compileExpr(body),
    wanted: kind === "when",
  }));
  return {
    id,
    forbids: policy.effect === "forbid",
    scope,
    holds: (env) => {
      if (!matches(scope.principal, env.principal, env.principalEntity)) return false;
      if (!matches(scope.action, env.action, env.actionEntity)) return false;
      if (!matches(scope.resource, env.resource, env.resourceEntity)) return false;
      for (const condition of conditions) if (bool(condition.run(env)) !== condition.wanted) return false;
      return true;
    },
  };
}

function bind(scope: Scope, slots: Slots): BoundScope {
  const keyOf = (entity: EntityUid | SlotName) => {
    const uid = typeof entity === "string" ? slots.get(entity) : entity;
    if (uid === undefined) throw invalid(`nothing was given for ${String(entity)}`);
    return uid.key;
  };
  switch (scope.op) {
    case "all":
      return scope;
    case "==":
      return { op: "==", key: keyOf(scope.entity) };
    case "in":
      return { op: "in", keys: scope.entities.map(keyOf) };
    case "is":
      return { op: "is", type: scope.type, in: scope.in === null ? null : keyOf(scope.in) };
  }
}

function matches(scope: BoundScope, uid: EntityUid, entity: Entity | undefined): boolean {
  switch (scope.op) {
    case "all":
      return true;
    case "==":
      return uid.key === scope.key;
    case "in":
      for (const key of scope.keys) if (isBelow(key, uid, entity)) return true;
      return false;
    case "is":
      return uid.type === scope.type && (scope.in === null || isBelow(scope.in, uid, entity));
  }
}

function isBelow(key: string, uid: EntityUid, entity: Entity | undefined): boolean {
  return uid.key === key || entity?.ancestors.has(key) === true;
}
