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
  /** CLOCK_REALTIME of the record that brought the newest clearing out, ms; 0 before the first. */
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

/** Takes a record of one of GRANT_KINDS. Never throws; a string names the field that could not be read. */
export function takeGrant(grants: Grants, record: LogRecord): Grants | string {
  if (grants.awaited !== null) return "kind"; // what a snapshot promised has not come
  const { data } = record;
  switch (record.kind) {
    case "token.minted":
    case "token.narrowed":
      return withToken(cleared(grants, record), data);
    case "lease.requested":
      return withLease(cleared(grants, record), record);
    case "token.used":
      return withUse(grants, data["tokenId"]);
    case "token.revoked":
      return changeToken(grants, data, { revokedAtMs: wallOf(record) });
    case "token.expiring":
      return changeToken(grants, data, { warned: true });
    case "lease.granted":
      return changeLease(grants, data, { state: "granted", start: momentOf(record) });
    case "lease.denied":
      return changeLease(grants, data, { state: "denied", endedAtMs: wallOf(record) });
    case "lease.revoked":
      return changeLease(grants, data, { state: "revoked", endedAtMs: wallOf(record) });
    case "lease.ended":
      return changeLease(grants, data, { state: "over", endedAtMs: wallOf(record) });
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
  for (const each of line) next = putToken(next, { ...each, below: each.below + 1 });
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
function withLease(grants: Grants, record: LogRecord): Grants | string {
  const lease = readLease(record.data["lease"]);
  if (lease === null) return "lease";
  if (grants.leases.size < LEASE_BOUNDS.leases) return putLease(grants, lease);
  const nowMs = wallOf(record);
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

/** Why there is no room for one more token below `parent` ("" for none), or null. */
export function noRoomFor(grants: Grants, token: Token): string | null {
  const { below, depth, tokens, stateBytes } = TOKEN_BOUNDS;
  if (token.depth > depth) return `a token is at most ${depth} narrowings away from the first one`;
  if (grants.tokens.size >= tokens) return `there are ${tokens} tokens: revoke some, they leave after a day`;
  if (grants.tokenBytes + bytesOf(token) > stateBytes)
    return `tokens take ${stateBytes} bytes in all, and those are used`;
  const line = token.parent === "" ? [] : (lineageOf(grants.tokens, token.parent) ?? []);
  const full = line.find((each) => each.below >= below);
  return full === undefined ? null : `${below} tokens have grown from ${full.id}`;
}

/** Without what has been over for a day. Now and then: it looks at all. */
function cleared(grants: Grants, record: LogRecord): Grants {
  const nowMs = wallOf(record);
  if (nowMs < grants.clearedAtMs + CLEAR_EVERY_MS) return grants;
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
  const below = new Map<string, number>();
  for (const { id } of shardValues(tokens))
    for (const each of (lineageOf(tokens, id) ?? []).slice(1))
      below.set(each.id, (below.get(each.id) ?? 0) + 1);
  let next: Grants = { ...noGrants(), tokens };
  next = { ...next, tokenBytes: shardValues(tokens).reduce((sum, each) => sum + bytesOf(each), 0) };
  for (const token of shardValues(tokens)) {
    const count = below.get(token.id) ?? 0;
    if (count !== token.below) next = putToken(next, { ...token, below: count });
  }
  return { tokens: next.tokens, tokenBytes: next.tokenBytes };
}

function wallOf(record: LogRecord): number {
  const ms = Date.parse(record.at);
  return Number.isNaN(ms) ? 0 : ms;
}

function momentOf(record: LogRecord): NonNullable<Lease["start"]> {
  const monoMs = /^[0-9]{1,20}$/.test(record.mono) ? Number(BigInt(record.mono) / 1_000_000n) : 0;
  return { wallMs: wallOf(record), monoMs, boot: record.boot };
}
