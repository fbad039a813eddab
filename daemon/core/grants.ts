import type { Data, LogRecord, Value } from "../audit/record.ts";
import { readLease, readToken, tokenData } from "./grant-data.ts";
import { LEASE_BOUNDS, type Lease, PENDING_LIFE_MS } from "./lease.ts";
import { noShards, type Shards, shardFilter, shardGet, shardPut, shardValues } from "./shards.ts";
import { TOKEN_BOUNDS, type Token } from "./token.ts";
import { lineageOf, type Tokens } from "./token-standing.ts";

/** What the log says of tokens and leases. A fold: records in, nothing else; expired and revoked ones leave it after a day. */
export type Grants = {
  readonly tokens: Tokens;
  readonly leases: Shards<Lease>;
  /** Whether there has ever been a token. */
  readonly bootstrapped: boolean;
  /** When the newest clearing out was, ms; 0 before the first. */
  readonly clearedAtMs: number;
  /** Of all tokens, as records hold them. */
  readonly tokenBytes: number;
  /** What a snapshot says of them, while the records after it that have them are still to come. audit/grant-parts.ts */
  readonly awaited: Awaited | null;
};

export type Awaited = { readonly summary: Data; readonly tokens: number; readonly leases: number };

export function noGrants(): Grants {
  return {
    tokens: noShards(),
    leases: noShards(),
    bootstrapped: false,
    clearedAtMs: 0,
    tokenBytes: 0,
    awaited: null,
  };
}

/** What is over stays for so long, so that its holder is told why, then leaves. */
const KEPT_MS = 86_400_000;
const CLEAR_EVERY_MS = 3_600_000;

/** The kinds that change grants. */
export const GRANT_KINDS: ReadonlySet<string> = new Set([
  "token.minted",
  "token.narrowed",
  "token.revoked",
  "token.used",
  "token.expiring",
  "lease.requested",
  "lease.granted",
  "lease.denied",
  "lease.revoked",
  "lease.ended",
  "lease.suspended",
  "lease.resumed",
]);

/**
 * Takes a record of one of GRANT_KINDS. `nowMs`: its time, as core/steady-time.ts has it. Never throws; a string names the
 * field that could not be read.
 */
export function takeGrant(grants: Grants, record: LogRecord, nowMs: number): Grants | string {
  if (grants.awaited !== null) return "kind"; // what a snapshot promised has not come
  const { data } = record;
  switch (record.kind) {
    case "token.minted":
    case "token.narrowed":
      return withToken(data["clear"] === 1 ? clearedAt(grants, nowMs) : cleared(grants, nowMs), data);
    case "lease.requested":
      return withLease(cleared(grants, nowMs), data, nowMs);
    case "token.used":
      return withUse(grants, data["tokenId"]);
    case "token.revoked":
      return changeToken(grants, data, { revokedAtMs: nowMs });
    case "token.expiring":
      return changeToken(grants, data, { warned: true });
    case "lease.granted":
      return changeLease(grants, data, { state: "granted", start: startOf(record, nowMs) });
    case "lease.denied":
      return changeLease(grants, data, { state: "denied", endedAtMs: nowMs });
    case "lease.revoked":
      return changeLease(grants, data, { state: "revoked", endedAtMs: nowMs });
    case "lease.ended":
      return changeLease(grants, data, { state: "over", endedAtMs: nowMs });
    case "lease.suspended":
      return changeLease(grants, data, { suspended: true });
    case "lease.resumed":
      return changeLease(grants, data, { suspended: false });
    default:
      return grants;
  }
}

/** What an allowed answer used up: its record names the token in `tokenId` where `uses` is 1, and leases in `leases`. */
export function takeUses(grants: Grants, data: Data): Grants | string {
  const { uses, leases } = data;
  if (data["decision"] !== "allow" || (uses === undefined && leases === undefined)) return grants;
  if (grants.awaited !== null) return "kind";
  const after = uses === 1 ? withUse(grants, data["tokenId"]) : grants;
  if (typeof after === "string") return after;
  if (leases === undefined) return after;
  if (!Array.isArray(leases)) return "leases";
  let next = after;
  for (const id of leases) {
    const lease = typeof id === "string" ? shardGet(next.leases, id) : undefined;
    if (lease === undefined || lease.uses === null) continue;
    next = putLease(next, { ...lease, uses: Math.max(0, lease.uses - 1) });
  }
  return next;
}

function withToken(grants: Grants, data: Data): Grants | string {
  const token = readToken(data["grant"]);
  if (token === null) return "grant";
  const line = token.parent === "" ? [] : lineageOf(grants.tokens, token.parent);
  if (line === null) return "grant.parent";
  let next: Grants = { ...putToken(grants, token), bootstrapped: true };
  for (const each of line)
    next = putToken(next, {
      ...each,
      below: each.below + 1,
      belowBytes: each.belowBytes + sizeOf(token),
    });
  return next;
}

/** A use of a token is one of every ancestor's. */
function withUse(grants: Grants, id: Value | undefined): Grants | string {
  if (typeof id !== "string") return "tokenId";
  let next = grants;
  for (const token of lineageOf(grants.tokens, id) ?? []) {
    if (token.uses !== null) next = putToken(next, { ...token, uses: Math.max(0, token.uses - 1) });
  }
  return next;
}

/** Where there are as many as there may be, what is over makes room. */
function withLease(grants: Grants, data: Data, nowMs: number): Grants | string {
  const lease = readLease(data["lease"]);
  if (lease === null) return "lease";
  if (grants.leases.size < LEASE_BOUNDS.leases) return putLease(grants, lease);
  return putLease({ ...grants, leases: shardFilter(grants.leases, (each) => endOf(each) > nowMs) }, lease);
}

/** One that is gone needs no change. */
function changeToken(grants: Grants, data: Data, change: Partial<Token>): Grants | string {
  if (typeof data["id"] !== "string") return "id";
  const token = shardGet(grants.tokens, data["id"]);
  return token === undefined ? grants : putToken(grants, { ...token, ...change });
}

function changeLease(grants: Grants, data: Data, change: Partial<Lease>): Grants | string {
  if (typeof data["id"] !== "string") return "id";
  const lease = shardGet(grants.leases, data["id"]);
  return lease === undefined ? grants : putLease(grants, { ...lease, ...change });
}

/** With this token, in the place of the one with its id. */
export function putToken(grants: Grants, token: Token): Grants {
  const before = shardGet(grants.tokens, token.id);
  const tokenBytes = grants.tokenBytes + bytesOf(token) - (before === undefined ? 0 : bytesOf(before));
  return { ...grants, tokens: shardPut(grants.tokens, token.id, token), tokenBytes };
}

export function putLease(grants: Grants, lease: Lease): Grants {
  return { ...grants, leases: shardPut(grants.leases, lease.id, lease) };
}

/** Of a token as records hold it: ASCII, so that characters are bytes. */
export function bytesOf(token: Token): number {
  return JSON.stringify(tokenData(token)).length;
}

/** As `bytesOf`, of what a token is when it is made: it never changes. */
function sizeOf(token: Token): number {
  return bytesOf({ ...token, uses: null, revokedAtMs: null, warned: false });
}

/** Why there is no room for one more token, or null. What is narrowed leaves room for what admins mint. */
export function noRoomFor(grants: Grants, token: Token): string | null {
  const { below, belowBytes, depth, keptTokens, keptBytes } = TOKEN_BOUNDS;
  if (token.depth > depth) return `a token is at most ${depth} narrowings away from the first one`;
  const isMinted = token.parent === "";
  const tokens = TOKEN_BOUNDS.tokens - (isMinted ? 0 : keptTokens);
  const stateBytes = TOKEN_BOUNDS.stateBytes - (isMinted ? 0 : keptBytes);
  if (grants.tokens.size >= tokens) return `there are ${tokens} tokens: revoke some, they leave after a day`;
  if (grants.tokenBytes + bytesOf(token) > stateBytes)
    return `tokens take ${stateBytes} bytes in all, and those are used`;
  const line = isMinted ? [] : (lineageOf(grants.tokens, token.parent) ?? []);
  const full = line.find((each) => each.below >= below);
  if (full !== undefined) return `${below} tokens have grown from ${full.id}`;
  const fat = line.find((each) => each.belowBytes + sizeOf(token) > belowBytes);
  return fat === undefined ? null : `what grew from ${fat.id} takes ${belowBytes} bytes, and those are used`;
}

/** Now and then: it looks at all. */
function cleared(grants: Grants, nowMs: number): Grants {
  return nowMs < grants.clearedAtMs + CLEAR_EVERY_MS ? grants : clearedAt(grants, nowMs);
}

/** Without what has been over for a day. */
export function clearedAt(grants: Grants, nowMs: number): Grants {
  const since = nowMs - KEPT_MS;
  const isGone = (token: Token) => token.expiresAtMs <= since || (token.revokedAtMs ?? nowMs) <= since;
  const tokens = shardFilter(grants.tokens, ({ id }) => {
    const line = lineageOf(grants.tokens, id);
    return line !== null && !line.some(isGone);
  });
  const leases = shardFilter(grants.leases, (lease) => endOf(lease) > since);
  const kept = { ...grants, leases, clearedAtMs: nowMs };
  return tokens === grants.tokens ? kept : { ...kept, ...counted(tokens) };
}

function endOf({ endedAtMs, start, forMs, askedAtMs }: Lease): number {
  return endedAtMs ?? (start === null ? askedAtMs + PENDING_LIFE_MS : start.wallMs + forMs);
}

/** Whether there never was a token or lease. */
export function isEmpty({ bootstrapped, leases, clearedAtMs }: Grants): boolean {
  return !bootstrapped && leases.size === 0 && clearedAtMs === 0;
}

/** With what follows from the tokens themselves. */
export function recounted(grants: Grants): Grants {
  return { ...grants, ...counted(grants.tokens) };
}

/** How many are below each, and how large all are. */
function counted(tokens: Tokens): Pick<Grants, "tokens" | "tokenBytes"> {
  const grown = new Map<string, Pick<Token, "below" | "belowBytes">>();
  for (const token of shardValues(tokens)) {
    const size = sizeOf(token);
    for (const { id } of (lineageOf(tokens, token.id) ?? []).slice(1)) {
      const { below, belowBytes } = grown.get(id) ?? NONE_BELOW;
      grown.set(id, { below: below + 1, belowBytes: belowBytes + size });
    }
  }
  let next: Grants = { ...noGrants(), tokens };
  next = { ...next, tokenBytes: shardValues(tokens).reduce((sum, each) => sum + bytesOf(each), 0) };
  for (const token of shardValues(tokens)) {
    const now = grown.get(token.id) ?? NONE_BELOW;
    if (now.below !== token.below || now.belowBytes !== token.belowBytes)
      next = putToken(next, { ...token, ...now });
  }
  return { tokens: next.tokens, tokenBytes: next.tokenBytes };
}

const NONE_BELOW = { below: 0, belowBytes: 0 } as const;

function startOf({ mono, boot }: LogRecord, wallMs: number): NonNullable<Lease["start"]> {
  return { wallMs, monoMs: /^[0-9]{1,20}$/.test(mono) ? Number(BigInt(mono) / 1_000_000n) : 0, boot };
}
