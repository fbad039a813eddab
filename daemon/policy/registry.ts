import { z } from "zod";
import type { AccessRequest, Properties } from "../core/access.ts";
import { type Parsed, parseYaml } from "../core/config-parse.ts";
import type { CedarJson } from "./cedar-question.ts";
import { claim, isText, MAX_ID } from "./claimed-value.ts";
import { derive } from "./derived.ts";
import { PropertiesSchema } from "./properties-schema.ts";
import { type PrincipalType, ROLE_NAMES, type Shapes } from "./schema-shapes.ts";

/**
 * Who and what is known: the file of `policy.entitiesFile`. What it says of a resource goes before what a caller says.
 * Lists, not maps: a name of a user or a resource is never the name of a field.
 */
const Id = z
  .string()
  .min(1)
  .max(MAX_ID)
  .refine((id) => isText(id, MAX_ID), "this is no well-formed text");
const Names = z.array(Id).max(64).default([]);
const PrincipalSchema = z.strictObject({
  id: Id,
  /** For policy, beside those that the configuration or a token gives. */
  roles: z.array(z.enum(ROLE_NAMES)).max(4).default([]),
  groups: Names,
  workspaces: Names,
});
const ResourceSchema = z.strictObject({
  /** As in a question: "memory", "file". */
  type: z.string().min(1).max(64),
  id: Id,
  groups: Names,
  /** As in a question. */
  properties: PropertiesSchema.default({}),
});
export const RegistrySchema = z.strictObject({
  /** By uid, in digits, or by the name that a token is given to. */
  users: z.array(PrincipalSchema).max(10_000).default([]),
  services: z.array(PrincipalSchema).max(10_000).default([]),
  agents: z.array(PrincipalSchema).max(10_000).default([]),
  resources: z.array(ResourceSchema).max(100_000).default([]),
});
export type RegistryText = z.output<typeof RegistrySchema>;

export type KnownPrincipal = {
  readonly type: PrincipalType;
  readonly id: string;
  readonly roles: readonly string[];
  readonly groups: readonly string[];
  readonly workspaces: readonly string[];
};
export type KnownResource = {
  /** Cedar's name of it. */
  readonly type: string;
  readonly id: string;
  readonly groups: readonly string[];
  readonly attributes: ReadonlyMap<string, CedarJson>;
  /** The same in the words of a question. */
  readonly properties: Properties;
};
export type Registry = {
  readonly principal: (type: string, id: string) => KnownPrincipal | undefined;
  readonly resource: (type: string, id: string) => KnownResource | undefined;
  /** In the file's order: for searches. */
  readonly principals: readonly KnownPrincipal[];
  readonly resources: readonly KnownResource[];
};

export const EMPTY_REGISTRY_TEXT: RegistryText = { users: [], services: [], agents: [], resources: [] };

/** Reads the file; faults with line and column. */
export function parseRegistry(text: string): Parsed<RegistryText> {
  return parseYaml(text, RegistrySchema);
}

/** Builds the registry, or says what in it does not fit the schema. */
export function createRegistry(
  shapes: Shapes,
  text: RegistryText,
): { readonly registry: Registry } | { readonly problems: readonly string[] } {
  const problems: string[] = [];
  const principals = new Map<string, KnownPrincipal>();
  const resources = new Map<string, KnownResource>();

  for (const [type, list] of [
    ["User", text.users],
    ["Service", text.services],
    ["Agent", text.agents],
  ] as const) {
    for (const { id, roles, groups, workspaces } of list) {
      const key = keyOf(type, id);
      if (principals.has(key)) problems.push(`${type} ${JSON.stringify(id)} is there twice`);
      principals.set(key, { type, id, roles, groups, workspaces });
    }
  }
  for (const resource of text.resources) {
    const known = readResource(shapes, resource);
    if ("problem" in known) {
      problems.push(`${resource.type} ${JSON.stringify(resource.id)}: ${known.problem}`);
      continue;
    }
    const key = keyOf(known.type, known.id);
    if (resources.has(key)) problems.push(`${resource.type} ${JSON.stringify(resource.id)} is there twice`);
    resources.set(key, known);
  }
  if (problems.length > 0) return { problems };
  const registry: Registry = {
    principal: (type, id) => principals.get(keyOf(type, id)),
    resource: (type, id) => resources.get(keyOf(type, id)),
    principals: [...principals.values()],
    resources: [...resources.values()],
  };
  return { registry };
}

/** "memory" is Memory, "myThing" is MyThing; null where no action can be asked about such a thing. */
export function entityTypeOf(shapes: Shapes, wireType: string): string | null {
  const first = wireType.charAt(0);
  if (first === "" || first !== first.toLowerCase()) return null;
  const type = first.toUpperCase() + wireType.slice(1);
  for (const { resources } of shapes.actions.values()) if (resources.has(type)) return type;
  return null;
}

/**
 * The question with what the registry says of the resource: what the ceilings are asked. Policy is asked the question as
 * it came, so that a contradiction is refused and not passed over.
 */
export function withKnown(shapes: Shapes, registry: Registry, request: AccessRequest): AccessRequest {
  const { resource } = request;
  const type = entityTypeOf(shapes, resource.type);
  const derived = type === null ? null : derive(type, resource.id);
  if (type === null || derived === null || "problem" in derived) return request;
  const known = registry.resource(type, derived.id);
  if (known === undefined) return request;
  const properties = { ...resource.properties, ...known.properties };
  return { ...request, resource: { ...resource, properties } };
}

function readResource(
  shapes: Shapes,
  { type: wireType, id, groups, properties }: z.output<typeof ResourceSchema>,
): KnownResource | { readonly problem: string } {
  const type = entityTypeOf(shapes, wireType);
  if (type === null) return { problem: "there is no such type of resource" };
  const shape = shapes.entities.get(type);
  const derived = derive(type, id);
  if ("problem" in derived) return derived;
  if (groups.length > 0 && !shape?.parents.has("Group")) return { problem: "it can be in no groups" };
  const attributes = new Map<string, CedarJson>();
  for (const [name, value] of Object.entries(properties)) {
    const attribute = shape?.attributes.get(name);
    if (attribute === undefined || name === "registered" || Object.hasOwn(derived.attributes, name))
      return { problem: `${JSON.stringify(name)} is no property of it` };
    const claimed = claim(shapes, name, attribute.type, value);
    if ("problem" in claimed) return { problem: `${name} ${claimed.problem}` };
    attributes.set(name, claimed.value);
  }
  return { type, id: derived.id, groups, attributes, properties };
}

function keyOf(type: string, id: string): string {
  return `${type}\0${id}`;
}
