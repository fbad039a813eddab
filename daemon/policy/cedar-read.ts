import { BoundaryError } from "../core/errors.ts";
import { constructorOf, EXTENSION_FUNCTIONS, type ExtensionFunction } from "./cedar-extensions.ts";
import { failureText } from "./cedar-failure.ts";
import { longOf } from "./cedar-long.ts";
import {
  type CedarRecord,
  cedarRecord,
  cedarSet,
  type EntityUid,
  entityUid,
  type Value,
} from "./cedar-value.ts";

/**
 * Of which type a schema says a value is. Where it says "entity" or "extension", Cedar lets the value be written
 * plainly: `{type, id}` or the constructor's text instead of `{__entity: …}` and `{__extn: …}`.
 */
export type ValueType =
  | { readonly kind: "entity" | "extension"; readonly name: string }
  | { readonly kind: "set"; readonly element: ValueType | null }
  | { readonly kind: "record"; readonly fields: ReadonlyMap<string, ValueType> };

type Fields = { readonly [name: string]: unknown };

const TYPE_NAME = /^[A-Za-z_][A-Za-z0-9_]*(?:::[A-Za-z_][A-Za-z0-9_]*)*$/;
/** As deep as strict JSON goes with us, and some more. */
const DEEPEST = 64;

/** A record of Cedar's JSON form: a context, or an entity's attributes. Throws "policy-invalid". */
export function readRecord(json: unknown, where: string, type: ValueType | null = null): CedarRecord {
  return recordOf(json, where, type, 0);
}

/** A value of Cedar's JSON form with its escapes `__entity` and `__extn`. Throws "policy-invalid". */
export function readValue(json: unknown, where: string, type: ValueType | null = null): Value {
  return toValue(json, where, type, 0);
}

/** `{type, id}` or `{__entity: {type, id}}`. Throws "policy-invalid". */
export function readUid(json: unknown, where: string): EntityUid {
  const fields = objectOf(json, where);
  if (Object.hasOwn(fields, "__entity")) return readUid(only(fields, 1, where)["__entity"], where);
  if (!Object.hasOwn(fields, "type") || !Object.hasOwn(fields, "id"))
    throw invalid(`${where}: an entity is named by type and id`);
  const { type, id } = only(fields, 2, where);
  if (typeof type !== "string" || !TYPE_NAME.test(type))
    throw invalid(`${where}: not the name of an entity type`);
  return entityUid(type, textOf(id, where));
}

/** The own fields of a JSON object, whatever their names; with `known`, no others. Throws "policy-invalid". */
export function fieldsOf(
  json: unknown,
  where: string,
  known?: readonly string[],
): ReadonlyMap<string, unknown> {
  const fields = new Map<string, unknown>(Object.entries(objectOf(json, where)));
  for (const name of fields.keys()) {
    if (known?.includes(name) === false) throw invalid(`${where}: ${JSON.stringify(name)} is not known`);
    if (!name.isWellFormed()) throw invalid(`${where}: a name that is not Unicode`);
  }
  return fields;
}

export function listOf(json: unknown, where: string): readonly unknown[] {
  if (!Array.isArray(json)) throw invalid(`${where}: expected a list, not ${kindOf(json)}`);
  return json;
}

/** Text of whole characters: Cedar has no others. */
export function textOf(json: unknown, where: string): string {
  if (typeof json !== "string") throw invalid(`${where}: expected text, not ${kindOf(json)}`);
  if (!json.isWellFormed()) throw invalid(`${where}: text that is not Unicode`);
  return json;
}

export function kindOf(json: unknown): string {
  return json === null ? "null" : Array.isArray(json) ? "list" : typeof json;
}

export function invalid(what: string): BoundaryError {
  return new BoundaryError("policy-invalid", what);
}

function objectOf(json: unknown, where: string): Fields {
  if (typeof json !== "object" || json === null || Array.isArray(json))
    throw invalid(`${where}: expected an object, not ${kindOf(json)}`);
  return json as Fields;
}

function only(fields: Fields, count: number, where: string): Fields {
  if (Object.keys(fields).length !== count) throw invalid(`${where}: a field that is not known`);
  return fields;
}

function recordOf(json: unknown, where: string, type: ValueType | null, depth: number): CedarRecord {
  const own = objectOf(json, where);
  const types = type?.kind === "record" ? type.fields : null;
  const fields = new Map<string, Value>();
  for (const name of Object.keys(own)) {
    if (!name.isWellFormed()) throw invalid(`${where}: a name that is not Unicode`);
    fields.set(name, toValue(own[name], where, types?.get(name) ?? null, depth + 1));
  }
  return cedarRecord(fields);
}

function toValue(json: unknown, where: string, type: ValueType | null, depth: number): Value {
  if (depth > DEEPEST) throw invalid(`${where}: nested deeper than ${DEEPEST}`);
  switch (typeof json) {
    case "boolean":
      return json;
    case "number":
      // what is not safe may have been rounded on its way here
      if (!Number.isSafeInteger(json)) throw invalid(`${where}: a number that is no exact integer`);
      return json + 0;
    case "bigint": {
      const long = longOf(json);
      if (long === null) throw invalid(`${where}: an integer of more than 64 bits`);
      return long;
    }
    case "string": {
      const text = textOf(json, where);
      return type?.kind === "extension" ? called(constructorOf(type.name), [text], where) : text;
    }
    case "object":
      return structureOf(json, where, type, depth);
    case "undefined":
    case "function":
    case "symbol":
      throw invalid(`${where}: ${kindOf(json)} is no value`);
  }
}

function structureOf(json: object | null, where: string, type: ValueType | null, depth: number): Value {
  if (Array.isArray(json)) {
    const element = type?.kind === "set" ? type.element : null;
    return cedarSet(json.map((item) => toValue(item, where, element, depth + 1)));
  }
  if (json === null) throw invalid(`${where}: null is no value`);
  if (Object.hasOwn(json, "__entity")) return readUid(json, where);
  if (Object.hasOwn(json, "__extn"))
    return extensionOf(only(json as Fields, 1, where)["__extn"], where, depth);
  if (Object.hasOwn(json, "__expr")) throw invalid(`${where}: an escape that is not known`);
  if (type?.kind === "entity") return readUid(json, where);
  if (type?.kind === "extension") return extensionOf(json, where, depth);
  return recordOf(json, where, type, depth);
}

function extensionOf(json: unknown, where: string, depth: number): Value {
  const call = fieldsOf(json, where, ["fn", "arg", "args"]);
  if (call.has("arg") === call.has("args")) throw invalid(`${where}: an extension value has arg or args`);
  const args = call.has("arg") ? [call.get("arg")] : listOf(call.get("args"), where);
  return called(
    EXTENSION_FUNCTIONS.get(textOf(call.get("fn"), where)),
    args.map((arg) => toValue(arg, where, null, depth + 1)),
    where,
  );
}

function called(extension: ExtensionFunction | undefined, args: readonly Value[], where: string): Value {
  if (extension?.arity !== args.length) throw invalid(`${where}: no such extension function`);
  try {
    return extension.call(args);
  } catch (thrown) {
    throw invalid(`${where}: ${failureText(thrown)}`);
  }
}
