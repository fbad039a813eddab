import { failure } from "./cedar-failure.ts";
import type { Long } from "./cedar-long.ts";
import type { CedarSet, EntityUid, Value } from "./cedar-value.ts";

/** The operands that operators need; each throws a Failure for another type. One object each: a throw allocates nothing. */
const NOT_BOOLEAN = failure("type error: expected bool");
const NOT_LONG = failure("type error: expected long");
const NOT_STRING = failure("type error: expected string");
const NOT_ENTITY = failure("type error: expected an entity");
const NOT_SET = failure("type error: expected a set");

export function bool(value: Value): boolean {
  if (typeof value !== "boolean") throw NOT_BOOLEAN;
  return value;
}

export function isLong(value: Value): value is Long {
  return typeof value === "number" || typeof value === "bigint";
}

export function long(value: Value): Long {
  if (!isLong(value)) throw NOT_LONG;
  return value;
}

export function text(value: Value): string {
  if (typeof value !== "string") throw NOT_STRING;
  return value;
}

export function entity(value: Value): EntityUid {
  if (typeof value !== "object" || value.kind !== "entity") throw NOT_ENTITY;
  return value;
}

export function set(value: Value): CedarSet {
  if (typeof value !== "object" || value.kind !== "set") throw NOT_SET;
  return value;
}
