/** The pieces of an nft script that our tables are written from. Each is lines; the whole is joined by newlines. */

/**
 * Whether the rules need a heartbeat. "dead-man": everything is dropped once `timeoutMs` has passed without one.
 * "settled": the same rules without it, for the time after a clean stop.
 */
export type DeadMan =
  | { readonly kind: "dead-man"; readonly timeoutMs: number }
  | { readonly kind: "settled" };

/** "shadow": the same decisions, but what they refuse passes, and is counted and listed. */
export type Firmness = "enforcing" | "shadow";

export function table(family: string, lines: readonly string[], name = "boundary"): string[] {
  return [`table ${family} ${name} {`, ...lines, "}"];
}

/** add, delete, add: a lone delete fails when the table is absent. */
export function removal(family: string, name = "boundary"): string[] {
  return [`add table ${family} ${name}`, `delete table ${family} ${name}`];
}

export function chain(name: string, statements: readonly string[]): string[] {
  return [`chain ${name} {`, ...statements, "}"];
}

export function counters(names: readonly string[]): string[] {
  return names.flatMap((name) => [`counter ${name} {`, "}"]);
}

export function set(name: string, type: string, flags: string | null, elements: string | null): string[] {
  return [
    `set ${name} {`,
    `type ${type}`,
    ...(flags === null ? [] : [`flags ${flags}`]),
    ...(elements === null ? [] : [`elements = ${elements}`]),
    "}",
  ];
}

/** In a script every name is in quotes: some are words of nft's language. */
export function quoted(names: readonly string[]): string | null {
  const unique = [...new Set(names)].toSorted();
  return unique.length === 0 ? null : `{ ${unique.map((name) => `"${name}"`).join(", ")} }`;
}
