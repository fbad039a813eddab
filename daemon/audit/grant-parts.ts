import { hash } from "node:crypto";
import { leaseData, readLease, readToken, tokenData } from "../core/grant-data.ts";
import { type Grants, isEmpty, noGrants, putLease, putToken, recounted } from "../core/grants.ts";
import { shardGet, shardValues } from "../core/shards.ts";
import { renderCanonical } from "./canonical.ts";
import type { Data, Value } from "./record.ts";

/**
 * Tokens and leases in a snapshot of the log. They may be more than one record holds, so a snapshot only says how many
 * there are and what digest they have, and the records right after it, `token.state`, have them. docs/LOG_FORMAT.md
 */
const PART_BYTES = 48 * 1024;

/** For the snapshot: null where there never was a token or lease. */
export function grantsSummary(grants: Grants): Data | null {
  if (grants.awaited !== null) return grants.awaited.summary;
  if (isEmpty(grants)) return null;
  const { bootstrapped, clearedAtMs } = grants;
  const [tokens, leases] = listsOf(grants);
  return {
    bootstrapped: bootstrapped ? 1 : 0,
    cleared: clearedAtMs,
    tokens: tokens.length,
    leases: leases.length,
    digest: hash("sha256", renderCanonical({ tokens, leases }), "hex"),
  };
}

/** For the records after the snapshot, in order: tokens by id, then leases by id, as many in each as fit. */
export function grantsParts(grants: Grants): readonly Data[] {
  if (grants.awaited !== null) return [];
  const [tokens, leases] = listsOf(grants);
  const parts: { tokens: Data[]; leases: Data[] }[] = [];
  let bytes = Number.POSITIVE_INFINITY;
  const put = (kind: "tokens" | "leases", data: Data): void => {
    const own = Buffer.byteLength(JSON.stringify(data)) + 1;
    bytes += own;
    if (bytes > PART_BYTES) {
      parts.push({ tokens: [], leases: [] });
      bytes = own;
    }
    parts.at(-1)?.[kind].push(data);
  };
  for (const each of tokens) put("tokens", each);
  for (const each of leases) put("leases", each);
  return parts;
}

/** Grants that are still to come, as the snapshot promises them; null when it cannot be read. */
export function readGrantsSummary(value: unknown): Grants | null {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return null;
  const summary = value as Data;
  const { bootstrapped, cleared, tokens, leases, digest, ...more } = summary;
  if (!isCount(cleared) || !isCount(tokens) || !isCount(leases) || typeof digest !== "string") return null;
  if ((bootstrapped !== 0 && bootstrapped !== 1) || Object.keys(more).length > 0) return null;
  const grants = { ...noGrants(), bootstrapped: bootstrapped === 1, clearedAtMs: cleared };
  if (tokens + leases > 0) return { ...grants, awaited: { summary, tokens, leases } };
  return renderCanonical({ own: grantsSummary(grants) ?? {} }) === renderCanonical({ own: summary })
    ? grants
    : null;
}

/**
 * Takes one of those records: where they are awaited, what they have; otherwise they have to be as the records before
 * them left it. A string names the field that could not be read, or is not so.
 */
export function takePart(grants: Grants, { tokens, leases }: Data): Grants | string {
  if (!Array.isArray(tokens)) return "tokens";
  if (!Array.isArray(leases)) return "leases";
  const { awaited } = grants;
  if (awaited === null) {
    if (!tokens.every((each) => isOurs(grants, "tokens", each))) return "tokens";
    return leases.every((each) => isOurs(grants, "leases", each)) ? grants : "leases";
  }
  let next = grants;
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
  if (next.tokens.size < awaited.tokens || next.leases.size < awaited.leases) return next;
  const whole = recounted({ ...next, awaited: null });
  const [own, promised] = [grantsSummary(whole) ?? {}, awaited.summary];
  return renderCanonical({ own }) === renderCanonical({ own: promised }) ? whole : "tokens";
}

function listsOf(grants: Grants): readonly [tokens: readonly Data[], leases: readonly Data[]] {
  return [shardValues(grants.tokens).map(tokenData), shardValues(grants.leases).map(leaseData)];
}

function isOurs(grants: Grants, kind: "tokens" | "leases", said: Value): boolean {
  if (typeof said !== "object" || Array.isArray(said)) return false;
  const id = (said as Data)["id"];
  if (typeof id !== "string") return false;
  const token = kind === "tokens" ? shardGet(grants.tokens, id) : undefined;
  const lease = kind === "leases" ? shardGet(grants.leases, id) : undefined;
  const own = token ? tokenData(token) : lease && leaseData(lease);
  return own !== undefined && renderCanonical({ own }) === renderCanonical({ own: said });
}

function isCount(value: Value | undefined): value is number {
  return typeof value === "number" && value >= 0;
}
