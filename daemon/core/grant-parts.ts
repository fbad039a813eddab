import { hash } from "node:crypto";
import type { Data, Value } from "../audit/record.ts";
import { leaseData, readLease, readToken, tokenData } from "./grant-data.ts";
import { type Grants, noGrants, putLease, putToken } from "./grants.ts";
import { shardGet, shardValues } from "./shards.ts";

/**
 * Tokens and leases in a snapshot of the log. They may be more than one record holds, so a snapshot only says how many
 * there are and what digest they have, and the records right after it, `token.state`, have them. docs/LOG_FORMAT.md
 */
const PART_BYTES = 48 * 1024;

/** For the snapshot: null where there never was a token or lease. */
export function grantsSummary(grants: Grants): Data | null {
  if (grants.awaited !== null) return grants.awaited.summary;
  const { tokens, leases, bootstrapped, clearedAtMs } = grants;
  if (!bootstrapped && leases.size === 0 && clearedAtMs === 0) return null;
  const parts = splitParts(grants);
  return {
    bootstrapped: bootstrapped ? 1 : 0,
    cleared: clearedAtMs,
    tokens: tokens.size,
    leases: leases.size,
    parts: parts.length,
    digest: digestOf(parts),
  };
}

/** For the records after the snapshot, in order. */
export function grantsParts(grants: Grants): readonly Data[] {
  if (grants.awaited !== null) return [];
  const parts = splitParts(grants);
  return parts.map((part, at) => ({ part: at + 1, parts: parts.length, ...part }));
}

/** Grants that are still to come, as the snapshot promises them; null when it cannot be read. */
export function readGrantsSummary(value: unknown): Grants | null {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return null;
  const summary = value as Data;
  const { bootstrapped, cleared, tokens, leases, parts, digest, ...more } = summary;
  if (![cleared, tokens, leases, parts].every((each) => typeof each === "number" && each >= 0)) return null;
  if ((bootstrapped !== 0 && bootstrapped !== 1) || typeof digest !== "string") return null;
  if (Object.keys(more).length > 0 || typeof parts !== "number" || typeof cleared !== "number") return null;
  const awaited = parts === 0 ? null : { summary, parts, next: 1 };
  if (parts === 0 && digest !== digestOf([])) return null;
  return { ...noGrants(), bootstrapped: bootstrapped === 1, clearedAtMs: cleared, awaited };
}

/**
 * Takes one of those records: where they are awaited, what they have; otherwise they have to be as the records before
 * them left it. A string names the field that could not be read, or is not so.
 */
export function takePart(grants: Grants, data: Data): Grants | string {
  const { part, parts, tokens, leases } = data;
  if (!Array.isArray(tokens) || !Array.isArray(leases)) return "tokens";
  const { awaited } = grants;
  if (awaited === null) return isOurs(grants, tokens, leases) ? grants : "tokens";
  if (part !== awaited.next || parts !== awaited.parts) return "part";
  let next: Grants = { ...grants, awaited: { ...awaited, next: awaited.next + 1 } };
  for (const each of tokens) {
    const token = readToken(each);
    if (token === null) return "tokens";
    next = putToken(next, token);
  }
  for (const each of leases) {
    const lease = readLease(each);
    if (lease === null) return "leases";
    next = putLease(next, lease);
  }
  if (part < awaited.parts) return next;
  const whole = { ...next, awaited: null };
  return JSON.stringify(sorted(grantsSummary(whole) ?? {})) === JSON.stringify(sorted(awaited.summary))
    ? whole
    : "digest";
}

type Part = { readonly tokens: readonly Data[]; readonly leases: readonly Data[] };

function splitParts(grants: Grants): readonly Part[] {
  const parts: { tokens: Data[]; leases: Data[] }[] = [];
  let bytes = Number.POSITIVE_INFINITY;
  const put = (kind: "tokens" | "leases", data: Data): void => {
    bytes += Buffer.byteLength(JSON.stringify(data)) + 1;
    if (bytes > PART_BYTES) {
      parts.push({ tokens: [], leases: [] });
      bytes = Buffer.byteLength(JSON.stringify(data));
    }
    parts.at(-1)?.[kind].push(data);
  };
  for (const token of shardValues(grants.tokens)) put("tokens", tokenData(token));
  for (const lease of shardValues(grants.leases)) put("leases", leaseData(lease));
  return parts;
}

function digestOf(parts: readonly Part[]): string {
  return hash("sha256", JSON.stringify(parts), "hex");
}

function isOurs(grants: Grants, tokens: readonly Value[], leases: readonly Value[]): boolean {
  const same = (own: Data, said: Value) => JSON.stringify(sorted(own)) === JSON.stringify(sorted(said));
  return (
    tokens.every((each) => {
      const token = readToken(each);
      const own = token && shardGet(grants.tokens, token.id);
      return own !== null && own !== undefined && same(tokenData(own), each);
    }) &&
    leases.every((each) => {
      const lease = readLease(each);
      const own = lease && shardGet(grants.leases, lease.id);
      return own !== null && own !== undefined && same(leaseData(own), each);
    })
  );
}

/** The same whatever order its fields were written in. */
function sorted(value: Value): Value {
  if (typeof value !== "object") return value;
  if (Array.isArray(value)) return value.map(sorted);
  return Object.fromEntries(
    Object.entries(value)
      .toSorted(([a], [b]) => (a < b ? -1 : 1))
      .map(([name, each]) => [name, sorted(each)]),
  );
}
