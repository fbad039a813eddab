import type { AccessRequest } from "./access.ts";
import type { ErrorCode } from "./errors.ts";
import { isStricter, type Mode } from "./mode.ts";
import { renderPrincipal } from "./principal.ts";
import { type Shards, shardGet } from "./shards.ts";
import {
  coversAction,
  coversResource,
  describeActions,
  describeResources,
  mayStandFor,
  TOKEN_BOUNDS,
  type Token,
} from "./token.ts";

export type Tokens = Shards<Token>;

/** Under which circumstances a token is shown. */
export type Showing = {
  /** The peer's, as the kernel says. */
  readonly uid: number;
  /** The stricter of the wanted and the applied mode. */
  readonly privilege: Mode;
  /** CLOCK_REALTIME, ms. */
  readonly nowMs: number;
};

/** Why a token does not do: a stable code, words, and what would be allowed ("" where nothing would). */
export type TokenRefusal = {
  readonly ok: false;
  readonly code: ErrorCode;
  readonly why: string;
  readonly wouldAllow: string;
};
export type Standing = { readonly ok: true; readonly token: Token } | TokenRefusal;

/** A token and its ancestors, itself first; null when it, or one of them, is not known (any more). */
export function lineageOf(tokens: Tokens, id: string): readonly Token[] | null {
  const line: Token[] = [];
  for (let at = id; at !== ""; ) {
    const token = shardGet(tokens, at);
    if (token === undefined || line.length > TOKEN_BOUNDS.depth) return null;
    line.push(token);
    at = token.parent;
  }
  return line.length === 0 ? null : line;
}

/** The token that one grew from, itself where it grew from none; null when it is not known (any more). */
export function rootOf(tokens: Tokens, id: string): Token | null {
  return lineageOf(tokens, id)?.at(-1) ?? null;
}

/** Whether two tokens grew from one: each other's ancestor, or children of the same. */
export function sameTree(tokens: Tokens, one: string, other: string): boolean {
  const root = rootOf(tokens, one);
  return one === other || (root !== null && root.id === rootOf(tokens, other)?.id);
}

/** Whether `ancestor` is the token itself or one that it was narrowed from. */
export function descendsFrom(tokens: Tokens, id: string, ancestor: string): boolean {
  return lineageOf(tokens, id)?.some((each) => each.id === ancestor) ?? false;
}

/** Whether it is live here and now: it and every ancestor known, not revoked, not over, not used up, not suspended, and this peer's. */
export function standingOf(tokens: Tokens, id: string, showing: Showing): Standing {
  const line = lineageOf(tokens, id);
  const [token] = line ?? [];
  if (line === null || token === undefined)
    return refuse("token-unknown", "there is no such token (any more)", "");
  for (const each of line) {
    const refusal = faultOf(
      each,
      each === token ? "the token" : "a token that it was narrowed from",
      showing,
    );
    if (refusal) return refusal;
  }
  return { ok: true, token };
}

function faultOf(token: Token, which: string, showing: Showing): TokenRefusal | null {
  const { maxMode, expiresAtMs, uses, uid } = token;
  if (token.revokedAtMs !== null) return refuse("token-revoked", `${which} was revoked`, "");
  if (showing.nowMs >= expiresAtMs)
    return refuse("token-expired", `${which} ended ${new Date(expiresAtMs).toISOString()}`, "");
  if (uses !== null && uses <= 0) return refuse("token-spent", `${which} is used up`, "");
  if (uid !== null && uid !== showing.uid)
    return refuse("token-peer", `${which} is another user's`, `from the user it is bound to`);
  if (isStricter(showing.privilege, maxMode)) {
    const why = `${which} is suspended: it works up to ${maxMode}, and this is ${showing.privilege}`;
    return refuse("token-suspended", why, `in ${maxMode} and looser modes`);
  }
  return null;
}

/** Whether a live token may ask this question: whose name, which action, which resource, for it and every ancestor. */
export function scopeOf(
  tokens: Tokens,
  id: string,
  request: Pick<AccessRequest, "subject" | "action" | "resource">,
): TokenRefusal | null {
  const { subject, action, resource } = request;
  for (const token of lineageOf(tokens, id) ?? []) {
    if (!mayStandFor(token, subject)) {
      const allowed = [renderPrincipal(token.principal), ...token.subjects].join(", ");
      return refuse(
        "token-scope",
        `the token does not stand for ${renderPrincipal(subject)}`,
        `for ${allowed}`,
      );
    }
    if (!coversAction(token.actions, action.name)) {
      const why = `the token's scope has no action ${action.name}`;
      return refuse("token-scope", why, `actions: ${describeActions(token.actions)}`);
    }
    if (!coversResource(token.resources, resource)) {
      const why = `the token's scope has no resource ${renderPrincipal(resource)}`;
      return refuse("token-scope", why, `resources: ${describeResources(token.resources)}`);
    }
  }
  return null;
}

/** Whether using it takes a use away from it, or from a token that it was narrowed from. */
export function isCounted(tokens: Tokens, id: string): boolean {
  return lineageOf(tokens, id)?.some(({ uses }) => uses !== null) ?? false;
}

function refuse(code: ErrorCode, why: string, wouldAllow: string): TokenRefusal {
  return { ok: false, code, why, wouldAllow };
}
