import fc from "fast-check";
import { leaseData, tokenData } from "../../daemon/core/grant-data.ts";
import { type Grants, noGrants, takeGrant, takeUses } from "../../daemon/core/grants.ts";
import type { Lease } from "../../daemon/core/lease.ts";
import type { Token } from "../../daemon/core/token.ts";
import { standingOf } from "../../daemon/core/token-standing.ts";
import { childOf, recordOf, START_MS, tokenOf } from "./tokens.ts";

const DAY_MS = 86_400_000;

/** The grants after these records, which have to be readable. */
export function folded(grants: Grants, ...records: readonly ReturnType<typeof recordOf>[]): Grants {
  return records.reduce((before, record) => {
    const next = record.kind === "decision" ? takeUses(before, record.data) : takeGrant(before, record);
    if (typeof next === "string") throw new Error(`${record.kind}: ${next}`);
    return next;
  }, grants);
}

export const minted = (token: Token, atMs = START_MS) =>
  recordOf(token.parent === "" ? "token.minted" : "token.narrowed", { grant: tokenData(token) }, atMs);

export const leaseOf = (id: string, over: Partial<Lease> = {}): Lease => ({
  id: id.padEnd(16, "0"),
  template: "deploy",
  by: { uid: 1000, tokenId: "" },
  reason: "because",
  forMs: 60_000,
  maxMode: "RESTRICTED",
  askedAtMs: START_MS,
  state: "pending",
  start: null,
  uses: null,
  suspended: false,
  endedAtMs: null,
  ...over,
});
export const asked = (lease: Lease, atMs = START_MS) =>
  recordOf("lease.requested", { lease: leaseData(lease) }, atMs);

/** Everything that can happen to a handful of tokens and leases. */
const words = fc.constantFrom("a", "b", "c", "d", "e");
export const steps = fc.oneof(
  fc.tuple(fc.constant("minted"), words),
  fc.tuple(fc.constant("narrowed"), words, words),
  fc.tuple(fc.constantFrom("token.revoked", "token.expiring"), words),
  fc.tuple(fc.constant("token.used"), words),
  fc.tuple(fc.constant("asked"), words),
  fc.tuple(
    fc.constantFrom(
      "lease.granted",
      "lease.denied",
      "lease.revoked",
      "lease.ended",
      "lease.suspended",
      "lease.resumed",
    ),
    words,
  ),
  fc.tuple(fc.constant("allowed"), words, words),
  fc.tuple(fc.constant("pass"), fc.nat(2 * DAY_MS)),
);

/** The records of it, all of which can be read. */
export function historyOf(list: readonly (readonly (string | number)[])[]) {
  let nowMs = START_MS;
  let n = 0;
  let grants = noGrants();
  const made = new Map<string, Token>();
  return list.flatMap(([kind, first, second]) => {
    n++;
    const id = made.get(String(first))?.id ?? tokenOf(String(first)).id;
    const leaseId = leaseOf(Buffer.from(String(first)).toString("hex")).id;
    // only from a live one, as the daemon does it
    const standing = standingOf(grants.tokens, made.get(String(second))?.id ?? "", {
      uid: 0,
      privilege: "OPEN",
      nowMs,
    });
    const parent = standing.ok ? standing.token : undefined;
    let record: ReturnType<typeof recordOf> | null = null;
    if (kind === "pass") nowMs += Number(first);
    else if (kind === "minted" || (kind === "narrowed" && parent)) {
      const terms = { expiresAtMs: nowMs + DAY_MS, uses: n % 2 === 0 ? n : null };
      const token =
        kind === "minted"
          ? tokenOf(`${first}${n}`, terms)
          : childOf(parent ?? tokenOf(""), `${first}${n}`, terms);
      made.set(String(first), token);
      record = minted(token, nowMs);
    } else if (kind === "token.used") record = recordOf("token.used", { tokenId: id }, nowMs);
    else if (kind === "asked")
      record = asked(leaseOf(leaseId, { uses: n % 2 === 0 ? 2 : null, askedAtMs: nowMs }), nowMs);
    else if (kind === "allowed")
      record = recordOf("decision", { decision: "allow", tokenId: id, uses: 1, leases: [leaseId] }, nowMs);
    else if (String(kind).startsWith("token.")) record = recordOf(String(kind), { id }, nowMs);
    else if (String(kind).startsWith("lease.")) record = recordOf(String(kind), { id: leaseId }, nowMs);
    if (record === null) return [];
    grants = folded(grants, record);
    return [record];
  });
}
