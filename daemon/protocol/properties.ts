/** Of `properties` and `context`. What is longer belongs into the action's own subject matter, not into a question. */
export const PROPERTY_LIMITS = {
  depth: 8,
  entries: 256,
  nameCharacters: 128,
  textCharacters: 8_192,
} as const;

/**
 * Why a value cannot be a property, or null. Numbers are Cedar's Long as far as JSON carries it exactly: integers in
 * plain digits within ±(2^53 - 1). -0, a fraction, an exponent (1.0 and 1e3 too) and anything larger are refused. Text
 * is Unicode: no lone surrogates. No name is "__proto__".
 */
export function propertyProblem(value: unknown, depth: number = PROPERTY_LIMITS.depth): string | null {
  if (value === null || typeof value === "boolean") return null;
  if (typeof value === "string") return textProblem(value, PROPERTY_LIMITS.textCharacters);
  if (typeof value === "number") {
    return Number.isSafeInteger(value) && !Object.is(value, -0)
      ? null
      : "a number is an integer in plain digits, at most 2^53 - 1 either way";
  }
  if (typeof value !== "object") return "no JSON value";
  if (depth === 0) return `nested more than ${PROPERTY_LIMITS.depth} levels`;
  return Array.isArray(value) ? listProblem(value, depth) : recordProblem(value, depth);
}

/** Why a text cannot be one of a question, or null. `most`: UTF-16 code units. */
export function textProblem(text: string, most: number): string | null {
  if (text.length > most) return `longer than ${most} characters`;
  return text.isWellFormed() ? null : "half of a surrogate pair";
}

function listProblem(list: readonly unknown[], depth: number): string | null {
  if (list.length > PROPERTY_LIMITS.entries) return `more than ${PROPERTY_LIMITS.entries} entries`;
  return firstProblem(list, (each) => propertyProblem(each, depth - 1));
}

function recordProblem(record: object, depth: number): string | null {
  const entries = Object.entries(record);
  if (entries.length > PROPERTY_LIMITS.entries) return `more than ${PROPERTY_LIMITS.entries} entries`;
  return firstProblem(entries, ([name, each]) => {
    if (name === "__proto__" || name === "") return "no such name";
    return textProblem(name, PROPERTY_LIMITS.nameCharacters) ?? propertyProblem(each, depth - 1);
  });
}

function firstProblem<T>(list: readonly T[], problemOf: (each: T) => string | null): string | null {
  for (const each of list) {
    const why = problemOf(each);
    if (why !== null) return why;
  }
  return null;
}
