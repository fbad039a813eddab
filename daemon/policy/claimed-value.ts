import type { Json } from "../core/access.ts";
import { MEMORY_CLASSES } from "../core/posture.ts";
import { constructorOf } from "./cedar-extensions.ts";
import { failureText } from "./cedar-failure.ts";
import type { CedarJson } from "./cedar-question.ts";
import { describeType, type Shapes, type ValueType } from "./schema-shapes.ts";

export const MAX_TEXT = 4096;
export const MAX_ID = 1024;
const MAX_MEMBERS = 64;

/** What somebody says of an attribute, as Cedar's value; or why it cannot be. */
export type Claimed = { readonly value: CedarJson } | { readonly problem: string };

/**
 * Takes a value from outside as an attribute of this type. An entity is its id, one of an enumerated type its name;
 * `class` is a memory class's name and becomes its rank; ip addresses, decimals and times are their texts.
 */
export function claim(shapes: Shapes, name: string, type: ValueType, value: Json): Claimed {
  if (name === "class" && type.kind === "Long") return claimClass(value);
  switch (type.kind) {
    case "Bool":
      return typeof value === "boolean" ? { value } : wrong(type);
    case "Long":
      return typeof value === "number" && Number.isSafeInteger(value) ? { value: value + 0 } : wrong(type);
    case "String":
      return isText(value, MAX_TEXT) ? { value } : wrong(type);
    case "Set":
      return claimSet(shapes, name, type.of, value);
    case "Entity":
      return claimEntity(shapes, type.type, value);
    case "ipaddr":
    case "decimal":
    case "datetime":
    case "duration":
      return claimExtension(type.kind, value);
  }
}

/** Text that JSON, UTF-8 and Cedar write alike: no halves of surrogate pairs. */
export function isText(value: unknown, longest: number): value is string {
  return typeof value === "string" && value.length <= longest && value.isWellFormed();
}

function claimClass(value: Json): Claimed {
  const rank = (MEMORY_CLASSES as readonly Json[]).indexOf(value);
  return rank === -1 ? { problem: `is one of ${MEMORY_CLASSES.join(", ")}` } : { value: rank };
}

function claimSet(shapes: Shapes, name: string, of: ValueType, value: Json): Claimed {
  if (!Array.isArray(value) || value.length > MAX_MEMBERS)
    return { problem: `is a list of at most ${MAX_MEMBERS}: ${describeType(of)}` };
  const members = new Map<string, CedarJson>();
  for (const each of value as readonly Json[]) {
    const claimed = claim(shapes, name, of, each);
    if ("problem" in claimed) return claimed;
    members.set(JSON.stringify(claimed.value), claimed.value);
  }
  const sorted = [...members].toSorted(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
  return { value: sorted.map(([, member]) => member) };
}

function claimEntity(shapes: Shapes, type: string, value: Json): Claimed {
  const names = shapes.entities.get(type)?.names ?? null;
  if (!isText(value, MAX_ID) || value === "") return wrong({ kind: "Entity", type });
  if (names !== null && !names.has(value)) return { problem: `is one of ${[...names].join(", ")}` };
  return { value: { __entity: { type, id: value } } };
}

function claimExtension(kind: "ipaddr" | "decimal" | "datetime" | "duration", value: Json): Claimed {
  if (!isText(value, MAX_TEXT)) return wrong({ kind });
  try {
    constructorOf(kind)?.call([value]);
  } catch (thrown) {
    return { problem: failureText(thrown) };
  }
  return { value: { __extn: { fn: kind === "ipaddr" ? "ip" : kind, arg: value } } };
}

function wrong(type: ValueType): Claimed {
  return { problem: `is of type ${describeType(type)}` };
}
