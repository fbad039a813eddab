import type { AccessRequest, Json, Properties, Situation } from "../core/access.ts";
import { BoundaryError } from "../core/errors.ts";
import { looserOf, rank, stricterOf } from "../core/mode.ts";
import type { CedarJson, CedarQuestion, EntityJson, Uid } from "./cedar-question.ts";
import { claim, isText, MAX_ID } from "./claimed-value.ts";
import { derive } from "./derived.ts";
import { entityTypeOf, type KnownResource, type Registry } from "./registry.ts";
import { PRINCIPAL_TYPES, ROLE_NAMES, type Shapes } from "./schema-shapes.ts";

/** Who asks, by what the kernel, the configuration and the token say. */
export type Principal = {
  readonly type: string;
  readonly id: string;
  /** Those he may use now: a token's, where he showed one. */
  readonly roles: readonly string[];
};

/** The state a question is answered on, with what the caller holds in it. */
export type AskedSituation = Situation & {
  /** Names of the lease templates of which he has a live one. */
  readonly leases: readonly string[];
  /** A person has approved exactly this question. */
  readonly approved: boolean;
  /** He showed a token. */
  readonly token: boolean;
};

/** A role with those that it includes; the auditor stands beside. */
const INCLUDED: ReadonlyMap<string, readonly string[]> = new Map([
  ["readonly", ["readonly"]],
  ["operator", ["readonly", "operator"]],
  ["admin", ["readonly", "operator", "admin"]],
  ["auditor", ["auditor"]],
]);

/**
 * Puts a question into Cedar's words. Entities are made here, of what the daemon and its registry know; a caller says
 * only what the schema lets him, and nothing that contradicts the registry. No parent ever comes from a caller.
 * Throws BoundaryError: "action-unknown", "resource-unknown", "principal-unknown", "property-invalid",
 * "resource-mismatch".
 */
export function buildRequest(
  shapes: Shapes,
  registry: Registry,
  request: AccessRequest,
  principal: Principal,
  situation: AskedSituation,
): CedarQuestion {
  const { action, resource } = request;
  const known = shapes.actions.get(action.name);
  if (known === undefined)
    throw new BoundaryError("action-unknown", `there is no action ${quote(action.name)}`);
  refuseAny("action.properties", action.properties);
  refuseAny("subject.properties", request.subject.properties);
  const who = principalEntity(registry, principal, known.principals);
  const type = entityTypeOf(shapes, resource.type);
  if (type === null || !known.resources.has(type))
    throw new BoundaryError("resource-unknown", `${action.name} is about no ${quote(resource.type)}`);
  const what = resourceEntity(shapes, registry, type, request.resource);
  return {
    principal: who.uid,
    action: { type: "Action", id: action.name },
    resource: what.uid,
    context: contextOf(shapes, request.context, situation),
    entities: [who, what],
  };
}

function principalEntity(
  registry: Registry,
  { type, id, roles }: Principal,
  allowed: ReadonlySet<string>,
): EntityJson {
  if (!PRINCIPAL_TYPES.some((each) => each === type) || !allowed.has(type) || !isId(id))
    throw new BoundaryError("principal-unknown", `${quote(type)} ${quote(id)} cannot ask this`);
  const known = registry.principal(type, id);
  const included = new Set(
    roles.flatMap((role) => {
      const held = INCLUDED.get(role);
      if (held === undefined && role !== "none")
        throw new BoundaryError("principal-unknown", `there is no role ${quote(role)}`);
      return held ?? [];
    }),
  );
  return {
    uid: { type, id },
    attrs: { registered: known !== undefined },
    parents: [
      ...ROLE_NAMES.filter((role) => included.has(role)).map((role) => uid("Role", role)),
      ...(known?.groups ?? []).map((group) => uid("Group", group)),
      ...(known?.workspaces ?? []).map((workspace) => uid("Workspace", workspace)),
    ],
  };
}

function resourceEntity(
  shapes: Shapes,
  registry: Registry,
  type: string,
  { id, properties }: AccessRequest["resource"],
): EntityJson {
  if (!isId(id))
    throw new BoundaryError("property-invalid", "the resource's id is a text of 1 to 1,024 characters");
  const derived = derive(type, id);
  if ("problem" in derived) throw new BoundaryError("property-invalid", derived.problem);
  const attributes = shapes.entities.get(type)?.attributes;
  const known = registry.resource(type, derived.id);
  const attrs = new Map<string, CedarJson>();
  for (const [name, value] of Object.entries(properties)) {
    const attribute = attributes?.get(name);
    if (attribute === undefined || name === "registered")
      throw new BoundaryError("property-invalid", `resource.properties: there is no ${quote(name)}`);
    const claimed = claim(shapes, name, attribute.type, value);
    if ("problem" in claimed)
      throw new BoundaryError("property-invalid", `resource.properties.${name} ${claimed.problem}`);
    refuseOther(
      name,
      claimed.value,
      Object.hasOwn(derived.attributes, name) ? derived.attributes[name] : undefined,
    );
    refuseOther(name, claimed.value, known?.attributes.get(name));
    attrs.set(name, claimed.value);
  }
  for (const [name, value] of known?.attributes ?? []) attrs.set(name, value);
  for (const [name, value] of Object.entries(derived.attributes)) attrs.set(name, value);
  attrs.set("registered", known !== undefined);
  for (const name of attrs.keys()) if (!attributes?.has(name)) attrs.delete(name);
  for (const [name, { required }] of attributes ?? [])
    if (required && !attrs.has(name))
      throw new BoundaryError("property-invalid", `name resource.properties.${name}`);
  return { uid: { type, id: derived.id }, attrs: Object.fromEntries(attrs), parents: groupsOf(known) };
}

function refuseOther(name: string, claimed: CedarJson, ours: CedarJson | undefined): void {
  if (ours === undefined || JSON.stringify(claimed) === JSON.stringify(ours)) return;
  throw new BoundaryError("resource-mismatch", `resource.properties.${name} is not what is known of it`);
}

function groupsOf(known: KnownResource | undefined): readonly Uid[] {
  return (known?.groups ?? []).map((group) => uid("Group", group));
}

function contextOf(
  shapes: Shapes,
  said: Properties,
  situation: AskedSituation,
): Readonly<Record<string, CedarJson>> {
  const { wanted, applied, assurance, frozen, trustedInterfaces, leases, approved, token, wallMs } =
    situation;
  const more = Object.keys(said).find((name) => name !== "taint");
  if (more !== undefined)
    throw new BoundaryError("property-invalid", `context: a caller says taint, and no ${quote(more)}`);
  return {
    wanted: named("ModeName", wanted),
    applied: named("ModeName", applied ?? "UNKNOWN"),
    privilege: rank(stricterOf(wanted, applied ?? "LOCKDOWN")),
    isolation: rank(looserOf(wanted, applied ?? "OPEN")),
    assurance: named("Assurance", assurance),
    frozen,
    trustedInterfaces: [...new Set(trustedInterfaces)],
    leases: [...new Set(leases)],
    taint: taintOf(shapes, Object.hasOwn(said, "taint") ? said["taint"] : undefined),
    time: { __extn: { fn: "datetime", arg: new Date(wallMs).toISOString() } },
    approved,
    token,
  };
}

function taintOf(shapes: Shapes, said: Json | undefined): CedarJson {
  const claimed = claim(shapes, "taint", { kind: "Set", of: { kind: "Entity", type: "Taint" } }, said ?? []);
  if ("problem" in claimed) throw new BoundaryError("property-invalid", `context.taint ${claimed.problem}`);
  return claimed.value;
}

function refuseAny(where: string, properties: Properties): void {
  const [name] = Object.keys(properties);
  if (name !== undefined) throw new BoundaryError("property-invalid", `${where}: there is no ${quote(name)}`);
}

function isId(id: unknown): id is string {
  return isText(id, MAX_ID) && id !== "";
}

function uid(type: string, id: string): Uid {
  return { type, id };
}

function named(type: string, id: string): CedarJson {
  return { __entity: { type, id } };
}

function quote(text: string): string {
  return JSON.stringify(text.slice(0, 64));
}
