import { type Code, type Env, entityOf, isBelow } from "./cedar-env.ts";
import { failure } from "./cedar-failure.ts";
import type { Expr } from "./cedar-json.ts";
import { addLong, type Long, multiplyLong, subtractLong } from "./cedar-long.ts";
import { bool, entity, isLong, long, set, text } from "./cedar-operand.ts";
import { type EntityUid, equals, holds, holdsAll, holdsAny, type Value } from "./cedar-value.ts";

type Op = Extract<Expr, { kind: "binary" }>["op"];

const OVERFLOW = failure("integer overflow");
const NOT_COMPARABLE = failure("type error: expected two longs, datetimes or durations");
const NOT_IN = failure("type error: expected an entity or a set of entities");
const NO_ENTITY = failure("the entity does not exist");
const NO_TAG = failure("the entity has no such tag");

/** Operators of two operands. `constant` is the right one's value, where it is the same for every question. */
export function compileBinary(op: Op, left: Code, right: Code, constant: Value | undefined): Code {
  switch (op) {
    case "&&":
      return (env) => bool(left(env)) && bool(right(env));
    case "||":
      return (env) => bool(left(env)) || bool(right(env));
    case "==":
      return equality(left, right, constant);
    case "!=": {
      const equal = equality(left, right, constant);
      return (env) => equal(env) !== true;
    }
    case "<":
      return (env) => isLess(left(env), right(env));
    case ">=":
      return (env) => !isLess(left(env), right(env));
    case "<=":
      return (env) => isAtMost(left(env), right(env));
    case ">":
      return (env) => !isAtMost(left(env), right(env));
    case "+":
      return arithmetic(left, right, addLong);
    case "-":
      return arithmetic(left, right, subtractLong);
    case "*":
      return arithmetic(left, right, multiplyLong);
    case "in":
      return (env) => {
        const [uid, above] = [left(env), right(env)];
        return isWithin(env, entity(uid), above);
      };
    case "contains":
      return bothThen(left, right, (a, b) => holds(set(a), b));
    case "containsAll":
      return bothThen(left, right, (a, b) => holdsAll(set(a), set(b)));
    case "containsAny":
      return bothThen(left, right, (a, b) => holdsAny(set(a), set(b)));
    case "hasTag":
      return (env) => {
        const [uid, tag] = [left(env), right(env)];
        const [named, name] = [entity(uid), text(tag)];
        return entityOf(env, named)?.tags.has(name) === true;
      };
    case "getTag":
      return (env) => {
        const [uid, tag] = [left(env), right(env)];
        return tagOf(env, entity(uid), text(tag));
      };
  }
}

/** Cedar's `in`, also for a set: all of it has to be entities, even after the one that matches. Throws a Failure. */
export function isWithin(env: Env, uid: EntityUid, above: Value): boolean {
  if (typeof above !== "object") throw NOT_IN;
  if (above.kind === "entity") return isBelow(env, uid, above);
  if (above.kind !== "set") throw NOT_IN;
  let found = false;
  for (const item of above.items) {
    if (typeof item !== "object" || item.kind !== "entity") throw NOT_IN;
    found ||= isBelow(env, uid, item);
  }
  return found;
}

function equality(left: Code, right: Code, constant: Value | undefined): Code {
  if (constant !== undefined && typeof constant !== "object") return (env) => left(env) === constant;
  return bothThen(left, right, equals);
}

function bothThen(left: Code, right: Code, then: (a: Value, b: Value) => boolean): Code {
  return (env) => then(left(env), right(env));
}

function arithmetic(left: Code, right: Code, of: (a: Long, b: Long) => Long | null): Code {
  return (env) => {
    const a = left(env);
    const b = right(env);
    const result = of(long(a), long(b));
    if (result === null) throw OVERFLOW;
    return result;
  };
}

function isLess(a: Value, b: Value): boolean {
  if (isLong(a) && isLong(b)) return a < b;
  return timeOf(a, b) < timeOf(b, a);
}

function isAtMost(a: Value, b: Value): boolean {
  if (isLong(a) && isLong(b)) return a <= b;
  return timeOf(a, b) <= timeOf(b, a);
}

function timeOf(value: Value, other: Value): Long {
  if (typeof value !== "object" || typeof other !== "object" || value.kind !== other.kind)
    throw NOT_COMPARABLE;
  if (value.kind !== "datetime" && value.kind !== "duration") throw NOT_COMPARABLE;
  return value.ms;
}

function tagOf(env: Env, uid: EntityUid, tag: string): Value {
  const found = entityOf(env, uid);
  if (found === undefined) throw NO_ENTITY;
  const value = found.tags.get(tag);
  if (value === undefined) throw NO_TAG;
  return value;
}
