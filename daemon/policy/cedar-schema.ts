import type { EntityTypes } from "./cedar-entities.ts";
import { fieldsOf, invalid, listOf, textOf, type ValueType } from "./cedar-read.ts";
import { entityKey } from "./cedar-value.ts";

/** What a schema says that reading values and deciding need: of the types no more than that. */
export type CedarSchema = {
  readonly types: EntityTypes;
  /** The context of each action, by the action's key; null where it is no record of known fields. */
  readonly contexts: ReadonlyMap<string, ValueType | null>;
  /** The actions with their groups, in Cedar's JSON form of entities. */
  readonly actions: readonly unknown[];
};

const EXTENSIONS = ["ipaddr", "decimal", "datetime", "duration"];
const BUILT_IN = "__cedar::";
const DEEPEST = 64;

type CommonTypes = ReadonlyMap<string, unknown>;

/** Reads what cedar-wasm's schemaToJsonWithResolvedTypes gives: all names are full there. Throws "policy-invalid". */
export function readSchema(json: unknown): CedarSchema {
  const namespaces = [...fieldsOf(json, "the schema")].map(([name, body]) => ({
    prefix: name === "" ? "" : `${name}::`,
    body: fieldsOf(body, `namespace ${name}`),
  }));
  const common = new Map<string, unknown>();
  for (const { prefix, body } of namespaces)
    for (const [name, type] of fieldsOf(body.get("commonTypes") ?? {}, "commonTypes"))
      common.set(prefix + name, type);
  const types = new Map<string, { attrs: ValueType | null; tags: ValueType | null }>();
  const contexts = new Map<string, ValueType | null>();
  const actions: unknown[] = [];
  for (const { prefix, body } of namespaces) {
    for (const [name, type] of fieldsOf(body.get("entityTypes") ?? {}, "entityTypes")) {
      const fields = fieldsOf(type, name);
      types.set(prefix + name, {
        attrs: typeOf(fields.get("shape"), common, 0),
        tags: typeOf(fields.get("tags"), common, 0),
      });
    }
    for (const [id, action] of fieldsOf(body.get("actions") ?? {}, "actions")) {
      const fields = fieldsOf(action, `action ${id}`);
      const appliesTo = fieldsOf(fields.get("appliesTo") ?? {}, `action ${id}`);
      const uid = { type: `${prefix}Action`, id };
      contexts.set(entityKey(uid.type, id), typeOf(appliesTo.get("context"), common, 0));
      const parents = listOf(fields.get("memberOf") ?? [], `action ${id}`).map((parent) =>
        groupOf(parent, id),
      );
      actions.push({ uid, attrs: {}, parents });
    }
  }
  return { types, contexts, actions };
}

function groupOf(json: unknown, action: string): { readonly type: string; readonly id: string } {
  const group = fieldsOf(json, `action ${action}: memberOf`, ["type", "id"]);
  return { type: textOf(group.get("type"), action), id: textOf(group.get("id"), action) };
}

function typeOf(json: unknown, common: CommonTypes, depth: number): ValueType | null {
  if (json === undefined) return null;
  if (depth > DEEPEST) throw invalid("the schema: a type nested too deep");
  const type = fieldsOf(json, "a type");
  const name = textOf(type.get("type"), "a type");
  switch (name) {
    case "Entity":
      return { kind: "entity", name: textOf(type.get("name"), "a type") };
    case "Extension":
      return { kind: "extension", name: textOf(type.get("name"), "a type") };
    case "Set":
      return { kind: "set", element: typeOf(type.get("element"), common, depth + 1) };
    case "Record": {
      const fields = new Map<string, ValueType>();
      for (const [field, inner] of fieldsOf(type.get("attributes") ?? {}, "a record type")) {
        const read = typeOf(inner, common, depth + 1);
        if (read !== null) fields.set(field, read);
      }
      return { kind: "record", fields };
    }
    default: {
      if (common.has(name)) return typeOf(common.get(name), common, depth + 1);
      const plain = name.startsWith(BUILT_IN) ? name.slice(BUILT_IN.length) : name;
      return EXTENSIONS.includes(plain) ? { kind: "extension", name: plain } : null;
    }
  }
}
