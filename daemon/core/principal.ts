/** Whom a token stands for. Written "Agent::build-7". */
export type Principal = { readonly type: PrincipalType; readonly id: string };

export const PRINCIPAL_TYPES = ["User", "Service", "Agent"] as const;
export type PrincipalType = (typeof PRINCIPAL_TYPES)[number];

/** What the ids of principals may look like: no blanks, no quotes, nothing that a terminal obeys. */
const ID = /^[A-Za-z0-9_.@:/+=,%~-]{1,128}$/;
const PATTERN_ID = /^(?:[A-Za-z0-9_.@:/+=,%~-]{1,128}\*?|\*)$/;

export function renderPrincipal({ type, id }: { readonly type: string; readonly id: string }): string {
  return `${type}::${id}`;
}

/** "Agent::build-7"; null for anything else. */
export function parsePrincipal(text: string): Principal | null {
  const [named, id, ...more] = text.split("::");
  const type = PRINCIPAL_TYPES.find((each) => each === named);
  return type !== undefined && id !== undefined && more.length === 0 && ID.test(id) ? { type, id } : null;
}

/** Whether it is a principal, or a pattern for some: "Agent::*", "Agent::build-*". */
export function isSubjectPattern(text: string): boolean {
  const [named, id, ...more] = text.split("::");
  return PRINCIPAL_TYPES.some((each) => each === named) && more.length === 0 && PATTERN_ID.test(id ?? "");
}

/** Whether a pattern ("a*", or the word itself) covers a word, or everything another pattern covers. */
export function patternCovers(pattern: string, other: string): boolean {
  if (!pattern.endsWith("*")) return pattern === other;
  return other.startsWith(pattern.slice(0, -1));
}
