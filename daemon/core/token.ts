import { ACTIONS, GOVERNED_VERBS } from "./access.ts";
import { isStricter, type Mode } from "./mode.ts";
import { type Principal, patternCovers, renderPrincipal } from "./principal.ts";
import { ROLES, type Role } from "./roles.ts";

/**
 * A capability token as the log knows it: everything but its text, of which only the digest is kept. What it may is what
 * it and every ancestor may (`core/token-standing.ts`).
 */
export type Token = Terms & {
  /** The first 16 hex digits of the digest. */
  readonly id: string;
  /** SHA-256 of the text, hex. */
  readonly digest: string;
  /** The token that it was narrowed from; "" for none. */
  readonly parent: string;
  /** 0 for a token without a parent. */
  readonly depth: number;
  /** CLOCK_REALTIME, ms. */
  readonly madeAtMs: number;
  /** Who had it made. */
  readonly by: Maker;
  /** CLOCK_REALTIME, ms; null while it is not. */
  readonly revokedAtMs: number | null;
  /** How many tokens that grew from it the log knows: children, their children, and so on. Follows from the others. */
  readonly below: number;
  /** That it ends soon has been said. */
  readonly warned: boolean;
};

/** What a token allows: what a child has less of. */
export type Terms = {
  readonly principal: Principal;
  /** Which verbs of the control socket its holder may use. */
  readonly role: Role;
  readonly actions: readonly string[] | "all";
  /** `id` may end in "*". */
  readonly resources: readonly ResourcePattern[] | "all";
  /** For whom it may ask beside its principal: "Agent::*". */
  readonly subjects: readonly string[];
  /** The strictest mode that it works in. */
  readonly maxMode: Mode;
  /** CLOCK_REALTIME, ms. */
  readonly expiresAtMs: number;
  /** How many are left; null: as many as you like. */
  readonly uses: number | null;
  /** The only user who may show it; null: any. */
  readonly uid: number | null;
  /** For people. */
  readonly label: string;
};

export type ResourcePattern = { readonly type: string; readonly id: string };

/** Who did something to a token or lease: the peer, and the id of the token that he showed ("" for none). */
export type Maker = { readonly uid: number; readonly tokenId: string };

/** What may stand in `actions`. */
export const SCOPE_ACTIONS: readonly string[] = [...ACTIONS, ...GOVERNED_VERBS];

/** How far a tree grows, and all of them together. `stateBytes`: of all, as the log's snapshots hold them. */
export const TOKEN_BOUNDS = { depth: 8, below: 1_000, tokens: 10_000, stateBytes: 3 * 1024 * 1024 } as const;

/** Of one token's terms. */
export const TERM_BOUNDS = { resources: 32, subjects: 16, label: 64, uses: 1_000_000_000 } as const;

const ID_LENGTH = 16;

/** The id of the token with this digest. Nothing follows from it about the text. */
export function tokenIdOf(digest: string): string {
  return digest.slice(0, ID_LENGTH);
}

/**
 * In which of its terms a child would have more than its parent has: words for a person, each with what would be allowed;
 * empty when it has no more in any.
 */
export function widerTerms(parent: Terms, child: Terms): readonly string[] {
  const wider: string[] = [];
  if (!mayStandFor(parent, child.principal))
    wider.push(`principal: ${listOf([renderPrincipal(parent.principal), ...parent.subjects])}`);
  if (ROLES.indexOf(child.role) > ROLES.indexOf(parent.role)) wider.push(`role: at most ${parent.role}`);
  if (!actionsWithin(parent.actions, child.actions))
    wider.push(`actions: ${describeActions(parent.actions)}`);
  if (!resourcesWithin(parent.resources, child.resources))
    wider.push(`resources: ${describeResources(parent.resources)}`);
  if (!child.subjects.every((each) => coversSubject(parent, each)))
    wider.push(`subjects: ${listOf([renderPrincipal(parent.principal), ...parent.subjects])}`);
  if (isStricter(child.maxMode, parent.maxMode)) wider.push(`maxMode: ${parent.maxMode} or looser`);
  if (child.expiresAtMs > parent.expiresAtMs)
    wider.push(`expires: not after ${new Date(parent.expiresAtMs).toISOString()}`);
  if (parent.uses !== null && (child.uses === null || child.uses > parent.uses))
    wider.push(`uses: at most ${parent.uses}`);
  if (parent.uid !== null && child.uid !== parent.uid) wider.push(`uid: ${parent.uid}`);
  return wider;
}

/** Whether its holder may ask in the name of this principal. */
export function mayStandFor(terms: Pick<Terms, "principal" | "subjects">, subject: ResourcePattern): boolean {
  return coversSubject(terms, renderPrincipal(subject));
}

function coversSubject(terms: Pick<Terms, "principal" | "subjects">, pattern: string): boolean {
  if (renderPrincipal(terms.principal) === pattern) return true;
  return terms.subjects.some((each) => patternCovers(each, pattern));
}

function actionsWithin(parent: Terms["actions"], child: Terms["actions"]): boolean {
  if (parent === "all") return true;
  return child !== "all" && child.every((each) => parent.includes(each));
}

function resourcesWithin(parent: Terms["resources"], child: Terms["resources"]): boolean {
  if (parent === "all") return true;
  return child !== "all" && child.every((each) => coversResource(parent, each));
}

/** Whether a scope's actions have this one. */
export function coversAction(actions: Terms["actions"], name: string): boolean {
  return actions === "all" || actions.includes(name);
}

/** Whether a scope's resources have this one, or all that a pattern stands for. */
export function coversResource(resources: Terms["resources"], { type, id }: ResourcePattern): boolean {
  if (resources === "all") return true;
  return resources.some((each) => each.type === type && patternCovers(each.id, id));
}

export function describeActions(actions: Terms["actions"]): string {
  return actions === "all" ? "all" : listOf(actions);
}

export function describeResources(resources: Terms["resources"]): string {
  return resources === "all" ? "all" : listOf(resources.map(renderPrincipal));
}

function listOf(words: readonly string[]): string {
  const shown = words.slice(0, MAX_SHOWN);
  const more = words.length - shown.length;
  return `${shown.join(", ") || "none"}${more > 0 ? `, and ${more} more` : ""}`;
}

const MAX_SHOWN = 8;
