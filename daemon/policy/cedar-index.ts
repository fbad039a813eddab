import type { BoundScope, Rule } from "./cedar-decide.ts";
import type { Entity } from "./cedar-entities.ts";
import type { Env } from "./cedar-env.ts";
import type { EntityUid } from "./cedar-value.ts";

/**
 * Finds the policies whose head can match a question, without looking at the others: first by action, then by the one
 * entity that a policy's head names for resource or principal. Not by effect: an answer needs permits and forbids.
 */
export type Index = { readonly visit: (env: Env, each: (rule: Rule) => void) => void };

/** `same`: only this entity; `below`: this one and those below it; `rest`: any. */
type Lookup<T> = { readonly same: Map<string, T>; readonly below: Map<string, T>; readonly rest: T };
type Bucket = { readonly resource: Lookup<Rule[]>; readonly principal: Lookup<Rule[]> };

export function createIndex(rules: readonly Rule[]): Index {
  const actions: Lookup<Bucket> = { same: new Map(), below: new Map(), rest: bucket() };
  /** Those that more than one action of a question can lead to. */
  const several = new Set<Rule>();
  for (const rule of rules) {
    const { action } = rule.scope;
    if (action.op === "==") place(bucketOf(actions.same, action.key), rule);
    else if (action.op === "in") {
      const keys = new Set(action.keys);
      for (const key of keys) place(bucketOf(actions.below, key), rule);
      if (keys.size > 1) several.add(rule);
    } else place(actions.rest, rule);
  }
  return {
    visit: (env, each) => {
      const once = several.size === 0 ? each : onlyOnce(several, each);
      visitBucket(actions.rest, env, once);
      const same = actions.same.get(env.action.key);
      if (same !== undefined) visitBucket(same, env, once);
      if (actions.below.size === 0) return;
      eachBelow(actions.below, env.action, env.actionEntity, (found) => visitBucket(found, env, once));
    },
  };
}

function onlyOnce(several: ReadonlySet<Rule>, each: (rule: Rule) => void): (rule: Rule) => void {
  let seen: Set<Rule> | null = null;
  return (rule) => {
    if (several.has(rule)) {
      seen ??= new Set();
      if (seen.has(rule)) return;
      seen.add(rule);
    }
    each(rule);
  };
}

function bucket(): Bucket {
  return {
    resource: { same: new Map(), below: new Map(), rest: [] },
    principal: { same: new Map(), below: new Map(), rest: [] },
  };
}

function bucketOf(buckets: Map<string, Bucket>, key: string): Bucket {
  const found = buckets.get(key) ?? bucket();
  buckets.set(key, found);
  return found;
}

/** In one place only: so a policy is found once in its bucket. */
function place({ resource, principal }: Bucket, rule: Rule): void {
  const list =
    listFor(resource, rule.scope.resource, "==") ??
    listFor(principal, rule.scope.principal, "==") ??
    listFor(resource, rule.scope.resource, "in") ??
    listFor(principal, rule.scope.principal, "in") ??
    resource.rest;
  list.push(rule);
}

function listFor(lookup: Lookup<Rule[]>, scope: BoundScope, op: "==" | "in"): Rule[] | null {
  const key =
    scope.op === "==" ? scope.key : scope.op === "in" ? scope.keys[0] : scope.op === "is" ? scope.in : null;
  if (key === undefined || key === null || (scope.op === "==") !== (op === "==")) return null;
  const lists = op === "==" ? lookup.same : lookup.below;
  const list = lists.get(key) ?? [];
  lists.set(key, list);
  return list;
}

function visitBucket({ resource, principal }: Bucket, env: Env, each: (rule: Rule) => void): void {
  for (const rule of resource.rest) each(rule);
  visitLookup(resource, env.resource, env.resourceEntity, each);
  visitLookup(principal, env.principal, env.principalEntity, each);
}

function visitLookup(
  lookup: Lookup<Rule[]>,
  uid: EntityUid,
  entity: Entity | undefined,
  each: (rule: Rule) => void,
): void {
  for (const rule of lookup.same.get(uid.key) ?? []) each(rule);
  if (lookup.below.size === 0) return;
  eachBelow(lookup.below, uid, entity, (rules) => {
    for (const rule of rules) each(rule);
  });
}

function eachBelow<T>(
  below: ReadonlyMap<string, T>,
  uid: EntityUid,
  entity: Entity | undefined,
  each: (found: T) => void,
): void {
  const own = below.get(uid.key);
  if (own !== undefined) each(own);
  for (const ancestor of entity?.ancestors ?? []) {
    const found = below.get(ancestor);
    if (found !== undefined) each(found);
  }
}
