import { compileBinary, isWithin } from "./cedar-binary.ts";
import { type Code, type Env, entityOf } from "./cedar-env.ts";
import { EXTENSION_FUNCTIONS } from "./cedar-extensions.ts";
import { failure } from "./cedar-failure.ts";
import type { Expr } from "./cedar-json.ts";
import { subtractLong } from "./cedar-long.ts";
import { bool, entity, long, set, text } from "./cedar-operand.ts";
import { compilePattern } from "./cedar-pattern.ts";
import { invalid } from "./cedar-read.ts";
import { cedarRecord, cedarSet, type Value } from "./cedar-value.ts";

/** `constant`: the value, where it is the same for every question. */
type Compiled = { readonly run: Code; readonly constant?: Value };

const OVERFLOW = failure("integer overflow");
const NO_ATTRIBUTES = failure("type error: expected a record or an entity");
const NO_ENTITY = failure("the entity does not exist");

/** An expression as a closure. Throws "policy-invalid" for one that is not. */
export function compileExpr(expr: Expr): Code {
  return compile(expr).run;
}

function compile(expr: Expr): Compiled {
  const code = (part: Expr) => compile(part).run;
  switch (expr.kind) {
    case "value":
      return constantly(expr.value);
    case "var":
      return { run: variable(expr.name) };
    case "unary":
      return { run: unary(expr.op, code(expr.arg)) };
    case "binary": {
      const right = compile(expr.right);
      return { run: compileBinary(expr.op, code(expr.left), right.run, right.constant) };
    }
    case "get":
      return { run: attribute(expr, code(expr.left)) };
    case "has":
      return { run: hasPath(code(expr.left), expr.path) };
    case "like": {
      const [left, matches] = [code(expr.left), compilePattern(expr.pattern)];
      return { run: (env) => matches(text(left(env))) };
    }
    case "is":
      return { run: isOf(code(expr.left), expr.type, expr.in === null ? null : code(expr.in)) };
    case "if": {
      const [test, yes, no] = [code(expr.test), code(expr.yes), code(expr.no)];
      return { run: (env) => (bool(test(env)) ? yes(env) : no(env)) };
    }
    case "set":
      return together(
        expr.items.map((item) => compile(item)),
        cedarSet,
      );
    case "record": {
      const names = expr.fields.map(([name]) => name);
      const values = expr.fields.map(([, value]) => compile(value));
      return together(values, (all) =>
        cedarRecord(new Map(names.map((name, at) => [name, all[at] as Value] as const))),
      );
    }
    case "call":
      return call(
        expr.name,
        expr.args.map((arg) => compile(arg)),
      );
  }
}

function constantly(value: Value): Compiled {
  return { run: () => value, constant: value };
}

function variable(name: "principal" | "action" | "resource" | "context"): Code {
  switch (name) {
    case "principal":
      return (env) => env.principal;
    case "action":
      return (env) => env.action;
    case "resource":
      return (env) => env.resource;
    case "context":
      return (env) => env.context;
  }
}

function unary(op: "!" | "neg" | "isEmpty", arg: Code): Code {
  switch (op) {
    case "!":
      return (env) => !bool(arg(env));
    case "isEmpty":
      return (env) => set(arg(env)).items.length === 0;
    case "neg":
      return (env) => {
        const negated = subtractLong(0, long(arg(env)));
        if (negated === null) throw OVERFLOW;
        return negated;
      };
  }
}

function attribute(expr: Extract<Expr, { kind: "get" }>, left: Code): Code {
  const { attr } = expr;
  const missing = failure(`there is no attribute ${JSON.stringify(attr)}`);
  if (expr.left.kind === "var" && expr.left.name === "context") {
    return (env) => {
      const value = env.context.fields.get(attr);
      if (value === undefined) throw missing;
      return value;
    };
  }
  return (env) => {
    const fields = fieldsBehind(env, left(env));
    if (fields === undefined) throw NO_ENTITY;
    const value = fields.get(attr);
    if (value === undefined) throw missing;
    return value;
  };
}

/** `a has b.c.d`: each step has to be there, and all but the last have to be records or entities. */
function hasPath(left: Code, path: readonly string[]): Code {
  const [only = ""] = path;
  if (path.length === 1) return (env) => fieldsBehind(env, left(env))?.has(only) === true;
  return (env) => {
    let value = left(env);
    for (const name of path) {
      const next = fieldsBehind(env, value)?.get(name);
      if (next === undefined) return false;
      value = next;
    }
    return true;
  };
}

/** undefined for an entity that is not known. Throws a Failure for what has no attributes. */
function fieldsBehind(env: Env, value: Value): ReadonlyMap<string, Value> | undefined {
  if (typeof value !== "object") throw NO_ATTRIBUTES;
  if (value.kind === "record") return value.fields;
  if (value.kind === "entity") return entityOf(env, value)?.attrs;
  throw NO_ATTRIBUTES;
}

function isOf(left: Code, type: string, within: Code | null): Code {
  if (within === null) return (env) => entity(left(env)).type === type;
  return (env) => {
    const uid = entity(left(env));
    return uid.type === type && isWithin(env, uid, within(env));
  };
}

/** A value made of others: once, where all of them are constant. */
function together(parts: readonly Compiled[], make: (values: readonly Value[]) => Value): Compiled {
  const constants = parts.map((part) => part.constant).filter((value) => value !== undefined);
  if (constants.length === parts.length) return constantly(make(constants));
  return { run: (env) => make(parts.map((part) => part.run(env))) };
}

/** Of constants it is called once. A call that fails fails when it is evaluated, as in Cedar. */
function call(name: string, args: readonly Compiled[]): Compiled {
  const called = EXTENSION_FUNCTIONS.get(name);
  if (called === undefined) throw invalid(`${name} is no function`);
  const { arity, call: apply } = called;
  const wrongCount = failure(`${name} takes ${arity} arguments`);
  const run: Code = (env) => {
    const values = args.map((arg) => arg.run(env));
    if (values.length !== arity) throw wrongCount;
    return apply(values);
  };
  const constants = args.map((arg) => arg.constant).filter((value) => value !== undefined);
  if (constants.length !== args.length || args.length !== arity) return { run };
  try {
    return constantly(apply(constants));
  } catch (thrown) {
    return {
      run: () => {
        throw thrown;
      },
    };
  }
}
