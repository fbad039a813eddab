import { isExtensionFunction } from "./cedar-extensions.ts";
import { fieldsOf, invalid, kindOf, listOf, readUid, readValue, textOf } from "./cedar-read.ts";
import type { EntityUid, Value } from "./cedar-value.ts";

/** An expression of Cedar's JSON policy form, read and checked. */
export type Expr =
  | { readonly kind: "value"; readonly value: Value }
  | { readonly kind: "var"; readonly name: (typeof VARIABLES)[number] }
  | { readonly kind: "unary"; readonly op: (typeof UNARY)[number]; readonly arg: Expr }
  | {
      readonly kind: "binary";
      readonly op: (typeof BINARY)[number];
      readonly left: Expr;
      readonly right: Expr;
    }
  | { readonly kind: "get"; readonly left: Expr; readonly attr: string }
  | { readonly kind: "has"; readonly left: Expr; readonly path: readonly string[] }
  | { readonly kind: "like"; readonly left: Expr; readonly pattern: readonly PatternPart[] }
  | { readonly kind: "is"; readonly left: Expr; readonly type: string; readonly in: Expr | null }
  | { readonly kind: "if"; readonly test: Expr; readonly yes: Expr; readonly no: Expr }
  | { readonly kind: "set"; readonly items: readonly Expr[] }
  | { readonly kind: "record"; readonly fields: readonly (readonly [name: string, value: Expr])[] }
  | { readonly kind: "call"; readonly name: string; readonly args: readonly Expr[] };

/** null is the wildcard. */
export type PatternPart = string | null;
export type SlotName = (typeof SLOTS)[number];

/** The head of a policy for one of principal, action, resource. */
export type Scope =
  | { readonly op: "all" }
  | { readonly op: "=="; readonly entity: EntityUid | SlotName }
  | { readonly op: "in"; readonly entities: readonly (EntityUid | SlotName)[] }
  | { readonly op: "is"; readonly type: string; readonly in: EntityUid | SlotName | null };

export type Policy = {
  readonly effect: "permit" | "forbid";
  readonly principal: Scope;
  readonly action: Scope;
  readonly resource: Scope;
  readonly conditions: readonly { readonly kind: "when" | "unless"; readonly body: Expr }[];
  readonly annotations: ReadonlyMap<string, string>;
};

/** A link gives a template's slots their entities, and is a policy of its own. */
export type TemplateLink = {
  readonly templateId: string;
  readonly newId: string;
  readonly values: ReadonlyMap<SlotName, EntityUid>;
};
export type PolicySetJson = {
  readonly policies: ReadonlyMap<string, Policy>;
  readonly templates: ReadonlyMap<string, Policy>;
  readonly links: readonly TemplateLink[];
};

const VARIABLES = ["principal", "action", "resource", "context"] as const;
const SLOTS = ["?principal", "?resource"] as const;
const ACTION_TYPE = /^(?:.*::)?Action$/;
const UNARY = ["!", "neg", "isEmpty"] as const;
const BINARY = [
  ...(["==", "!=", "<", "<=", ">", ">=", "+", "-", "*", "&&", "||", "in"] as const),
  ...(["contains", "containsAll", "containsAny", "getTag", "hasTag"] as const),
];
/** Deeper than any person writes; the stack bears many times this. */
const DEEPEST = 512;

/**
 * A policy set in Cedar's JSON form: `{staticPolicies, templates, templateLinks}`, each policy as cedar-wasm's
 * policyToJson gives it. Throws "policy-invalid" for everything that is not known in full.
 */
export function readPolicySet(json: unknown): PolicySetJson {
  const set = fieldsOf(json, "the policy set", ["staticPolicies", "templates", "templateLinks"]);
  return {
    policies: readPolicies(set.get("staticPolicies") ?? {}, "policy"),
    templates: readPolicies(set.get("templates") ?? {}, "template"),
    links: listOf(set.get("templateLinks") ?? [], "templateLinks").map(readLink),
  };
}

function readPolicies(json: unknown, what: string): ReadonlyMap<string, Policy> {
  const policies = new Map<string, Policy>();
  for (const [id, policy] of fieldsOf(json, `the ${what} table`))
    policies.set(id, readPolicy(policy, `${what} ${id}`));
  return policies;
}

function readPolicy(json: unknown, where: string): Policy {
  const policy = fieldsOf(json, where, [
    "effect",
    "principal",
    "action",
    "resource",
    "conditions",
    "annotations",
  ]);
  const effect = policy.get("effect");
  if (effect !== "permit" && effect !== "forbid") throw invalid(`${where}: an effect that is not known`);
  const annotations = new Map<string, string>();
  for (const [name, text] of fieldsOf(policy.get("annotations") ?? {}, `${where}: annotations`))
    annotations.set(name, text === null ? "" : textOf(text, `${where}: annotation ${name}`));
  return {
    effect,
    principal: readScope(policy.get("principal"), `${where}: principal`, "?principal"),
    action: readActionScope(policy.get("action"), `${where}: action`),
    resource: readScope(policy.get("resource"), `${where}: resource`, "?resource"),
    conditions: listOf(policy.get("conditions"), `${where}: conditions`).map((condition) =>
      readCondition(condition, where),
    ),
    annotations,
  };
}

function readCondition(json: unknown, where: string): Policy["conditions"][number] {
  const condition = fieldsOf(json, `${where}: a condition`, ["kind", "body"]);
  const kind = condition.get("kind");
  if (kind !== "when" && kind !== "unless") throw invalid(`${where}: a kind of condition that is not known`);
  return { kind, body: readExpr(condition.get("body"), where, 0) };
}

function readLink(json: unknown): TemplateLink {
  const link = fieldsOf(json, "a template link", ["templateId", "newId", "values"]);
  const newId = textOf(link.get("newId"), "a template link's newId");
  const values = new Map<SlotName, EntityUid>();
  for (const [name, uid] of fieldsOf(link.get("values"), `link ${newId}: values`))
    values.set(slotOf(name, `link ${newId}`), readUid(uid, `link ${newId}: ${name}`));
  return { templateId: textOf(link.get("templateId"), `link ${newId}: templateId`), newId, values };
}

/** `slot`: the one that may stand for the entity; null where none may. */
function readScope(json: unknown, where: string, slot: SlotName | null): Scope {
  const op = fieldsOf(json, where).get("op");
  const only = (...names: readonly string[]) => fieldsOf(json, where, ["op", ...names]);
  switch (op) {
    case "All":
      only();
      return { op: "all" };
    case "==":
      return { op: "==", entity: entityOrSlot(only("entity", "slot"), where, slot) };
    case "in":
      return { op: "in", entities: [entityOrSlot(only("entity", "slot"), where, slot)] };
    case "is": {
      const is = only("entity_type", "in");
      const type = textOf(is.get("entity_type"), where);
      const within = is.get("in");
      if (within === undefined) return { op: "is", type, in: null };
      return { op: "is", type, in: entityOrSlot(fieldsOf(within, where, ["entity", "slot"]), where, slot) };
    }
    default:
      throw invalid(`${where}: a scope that is not known`);
  }
}

/** Only an action's head may name several entities, and none of its may be a slot, a type or anything but actions. */
function readActionScope(json: unknown, where: string): Scope {
  const scope = readActionHead(json, where);
  const named = scope.op === "==" ? [scope.entity] : scope.op === "in" ? scope.entities : [];
  if (scope.op === "is" || named.some((uid) => typeof uid === "string" || !ACTION_TYPE.test(uid.type)))
    throw invalid(`${where}: a scope that no action has`);
  return scope;
}

function readActionHead(json: unknown, where: string): Scope {
  const fields = fieldsOf(json, where);
  if (fields.get("op") !== "in" || !fields.has("entities")) return readScope(json, where, null);
  const list = listOf(fieldsOf(json, where, ["op", "entities"]).get("entities"), where);
  return { op: "in", entities: list.map((uid) => readUid(uid, where)) };
}

function entityOrSlot(
  fields: ReadonlyMap<string, unknown>,
  where: string,
  slot: SlotName | null,
): EntityUid | SlotName {
  if (fields.has("entity") === fields.has("slot")) throw invalid(`${where}: either an entity or a slot`);
  if (!fields.has("slot")) return readUid(fields.get("entity"), where);
  if (slot === null || fields.get("slot") !== slot) throw invalid(`${where}: not the slot for this place`);
  return slot;
}

function slotOf(json: unknown, where: string): SlotName {
  const slot = SLOTS.find((name) => name === json);
  if (slot === undefined) throw invalid(`${where}: a slot that is not known`);
  return slot;
}

function readExpr(json: unknown, where: string, depth: number): Expr {
  if (depth > DEEPEST) throw invalid(`${where}: nested deeper than ${DEEPEST}`);
  const [[name, body] = ["", undefined], ...more] = fieldsOf(json, `${where}: an expression`);
  if (more.length > 0) throw invalid(`${where}: an expression of two kinds`);
  const inner = (part: unknown) => readExpr(part, where, depth + 1);
  const unary = UNARY.find((op) => op === name);
  if (unary !== undefined)
    return { kind: "unary", op: unary, arg: inner(fieldsOf(body, `${where}: ${name}`, ["arg"]).get("arg")) };
  const binary = BINARY.find((op) => op === name);
  if (binary !== undefined) {
    const parts = fieldsOf(body, `${where}: ${name}`, ["left", "right"]);
    return { kind: "binary", op: binary, left: inner(parts.get("left")), right: inner(parts.get("right")) };
  }
  if (isExtensionFunction(name))
    return { kind: "call", name, args: listOf(body, `${where}: ${name}`).map(inner) };
  return readOther(name, body, where, inner);
}

function readOther(name: string, body: unknown, where: string, inner: (json: unknown) => Expr): Expr {
  const at = `${where}: ${name}`;
  switch (name) {
    case "Value":
      return { kind: "value", value: readValue(body, at) };
    case "Var": {
      const variable = VARIABLES.find((one) => one === body);
      if (variable === undefined) throw invalid(`${at}: a variable that is not known`);
      return { kind: "var", name: variable };
    }
    case ".": {
      const get = fieldsOf(body, at, ["left", "attr"]);
      return { kind: "get", left: inner(get.get("left")), attr: textOf(get.get("attr"), at) };
    }
    case "has": {
      const has = fieldsOf(body, at, ["left", "attr"]);
      const attr = has.get("attr");
      const path = (Array.isArray(attr) ? attr : [attr]).map((one) => textOf(one, at));
      if (path.length === 0) throw invalid(`${at}: no attribute is named`);
      return { kind: "has", left: inner(has.get("left")), path };
    }
    case "like": {
      const like = fieldsOf(body, at, ["left", "pattern"]);
      const pattern = listOf(like.get("pattern"), at).map((part) => readPatternPart(part, at));
      return { kind: "like", left: inner(like.get("left")), pattern };
    }
    case "is": {
      const is = fieldsOf(body, at, ["left", "entity_type", "in"]);
      const within = is.has("in") ? inner(is.get("in")) : null;
      return { kind: "is", left: inner(is.get("left")), type: textOf(is.get("entity_type"), at), in: within };
    }
    case "if-then-else": {
      const choice = fieldsOf(body, at, ["if", "then", "else"]);
      const [test, yes] = [inner(choice.get("if")), inner(choice.get("then"))];
      return { kind: "if", test, yes, no: inner(choice.get("else")) };
    }
    case "Set":
      return { kind: "set", items: listOf(body, at).map(inner) };
    case "Record":
      return {
        kind: "record",
        fields: [...fieldsOf(body, at)].map(([field, value]) => [field, inner(value)]),
      };
    default:
      throw invalid(`${where}: ${JSON.stringify(name)} is no expression that is known (${kindOf(body)})`);
  }
}

function readPatternPart(json: unknown, where: string): PatternPart {
  return json === "Wildcard" ? null : textOf(fieldsOf(json, where, ["Literal"]).get("Literal"), where);
}
