import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { grantsParts, grantsSummary, readGrantsSummary, takePart } from "../../daemon/audit/grant-parts.ts";
import { leaseData, readLease, tokenData } from "../../daemon/core/grant-data.ts";
import { type Grants, noGrants, noRoomFor, putToken, takeGrant, takeUses } from "../../daemon/core/grants.ts";
import { LEASE_BOUNDS } from "../../daemon/core/lease.ts";
import { shardGet, shardValues } from "../../daemon/core/shards.ts";
import { TOKEN_BOUNDS } from "../../daemon/core/token.ts";
import { isCounted } from "../../daemon/core/token-standing.ts";
import { asked, folded, historyOf, leaseOf, minted, steps } from "../support/grant-history.ts";
import { childOf, recordOf, START_MS, tokenOf } from "../support/tokens.ts";

const DAY_MS = 86_400_000;

describe("tokens are a fold", () => {
  const root = tokenOf("root");
  const middle = childOf(root, "middle", { uses: 2 });
  const leaf = childOf(middle, "leaf", { uses: 2 });
  const three = folded(noGrants(), minted(root), minted(middle), minted(leaf));

  test("a tree knows how many are below each", () => {
    const below = [root, middle, leaf].map(({ id }) => shardGet(three.tokens, id)?.below);
    expect([three.bootstrapped, below]).toEqual([true, [2, 1, 0]]);
  });

  test("a use is one of every ancestor's that are counted, by a verb or by an allowed answer", () => {
    const uses = (grants: Grants) => [root, middle, leaf].map(({ id }) => shardGet(grants.tokens, id)?.uses);
    const verb = folded(three, recordOf("token.used", { tokenId: leaf.id, verb: "status" }));
    expect(uses(verb)).toEqual([null, 1, 1]);
    const answer = (decision: string) =>
      recordOf("decision", { decision, tokenId: middle.id, uses: 1, reason: [] });
    expect(uses(folded(verb, answer("deny")))).toEqual([null, 1, 1]);
    expect(uses(folded(verb, answer("allow")))).toEqual([null, 0, 1]);
    expect(uses(folded(verb, answer("allow"), answer("allow")))).toEqual([null, 0, 1]);
    expect([isCounted(three.tokens, leaf.id), isCounted(three.tokens, root.id)]).toEqual([true, false]);
    // one whose uses are not counted is named, and nothing is taken away
    expect(folded(three, recordOf("decision", { decision: "allow", tokenId: leaf.id }))).toBe(three);
  });

  test("what is over leaves a day later, and all that grew from it", () => {
    const revoked = folded(three, recordOf("token.revoked", { id: root.id }, START_MS + 10));
    const other = tokenOf("other", { expiresAtMs: START_MS + 30 * DAY_MS });
    const soon = folded(revoked, minted(other, START_MS + DAY_MS));
    expect(soon.tokens.size).toBe(4);
    const late = folded(soon, minted(tokenOf("last", { expiresAtMs: 1e14 }), START_MS + DAY_MS + 3_600_001));
    expect(
      shardValues(late.tokens)
        .map(({ id }) => id)
        .toSorted(),
    ).toEqual([tokenOf("last").id, other.id].toSorted());
    const alone = folded(noGrants(), minted(other), minted(tokenOf("last", { expiresAtMs: 1e14 })));
    expect(late.tokenBytes).toBe(alone.tokenBytes);
  });

  test("a child that has left is not counted below its parent any more", () => {
    const old = tokenOf("old", { expiresAtMs: START_MS + 30 * DAY_MS });
    const brief = childOf(old, "brief", { expiresAtMs: START_MS + 10 });
    const two = folded(noGrants(), minted(old), minted(brief));
    const later = folded(two, minted(tokenOf("new", { expiresAtMs: 1e14 }), START_MS + 2 * DAY_MS));
    expect([later.tokens.size, shardGet(later.tokens, old.id)?.below]).toEqual([2, 0]);
  });

  test("what cannot be read is said, and never thrown", () => {
    expect(takeGrant(three, recordOf("token.minted", {}))).toBe("grant");
    expect(takeGrant(noGrants(), minted(leaf))).toBe("grant.parent");
    expect(takeGrant(three, recordOf("token.revoked", { id: 5 }))).toBe("id");
    expect(takeGrant(three, recordOf("token.used", {}))).toBe("tokenId");
    expect(takeGrant(three, recordOf("lease.requested", { lease: "x" }))).toBe("lease");
    expect(takeUses(three, { decision: "allow", uses: 1 })).toBe("tokenId");
    expect(takeUses(three, { decision: "allow", leases: "x" })).toBe("leases");
    expect(takeGrant(three, recordOf("token.revoked", { id: "0".repeat(16) }))).toBe(three);
  });
});

describe("leases are a fold", () => {
  test("from the request on to the end", () => {
    const lease = leaseOf("a", { uses: 1 });
    const state = (grants: Grants) => shardGet(grants.leases, lease.id);
    const pending = folded(noGrants(), asked(lease));
    expect(state(pending)).toEqual(lease);
    const granted = folded(pending, recordOf("lease.granted", { id: lease.id }, START_MS + 5));
    expect(state(granted)).toMatchObject({
      state: "granted",
      start: { wallMs: START_MS + 5, monoMs: 5, boot: "b" },
    });
    const used = folded(granted, recordOf("decision", { decision: "allow", leases: [lease.id] }));
    expect(state(used)?.uses).toBe(0);
    const suspended = folded(granted, recordOf("lease.suspended", { id: lease.id }));
    expect([
      state(suspended)?.suspended,
      state(folded(suspended, recordOf("lease.resumed", { id: lease.id }))),
    ]).toEqual([true, state(granted)]);
    const ended = folded(granted, recordOf("lease.revoked", { id: lease.id }, START_MS + 9));
    expect(state(ended)).toMatchObject({ state: "revoked", endedAtMs: START_MS + 9 });
  });

  test("what is over makes room for what is asked for", () => {
    let grants = noGrants();
    for (let n = 0; n < LEASE_BOUNDS.leases; n++) grants = folded(grants, asked(leaseOf(`a${n}b`)));
    grants = folded(grants, recordOf("lease.denied", { id: leaseOf("a7b").id }));
    grants = folded(grants, asked(leaseOf("c"), START_MS + 1));
    expect([grants.leases.size, shardGet(grants.leases, leaseOf("a7b").id)]).toEqual([
      LEASE_BOUNDS.leases,
      undefined,
    ]);
  });

  test("one in a record is what it was", () => {
    const lease = leaseOf("a", {
      state: "granted",
      start: { wallMs: 5, monoMs: 6, boot: "b" },
      uses: 0,
      suspended: true,
      endedAtMs: 9,
      by: { uid: 5, tokenId: "a".repeat(16) },
    });
    expect(readLease(JSON.parse(JSON.stringify(leaseData(lease))))).toEqual(lease);
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        expect(readLease(value as never)).toBeNull();
      }),
    );
  });
});

/** As a start takes them up: the summary of the snapshot, then the records after it. */
function restarted(grants: Grants): Grants {
  const summary = grantsSummary(grants);
  if (summary === null) return noGrants();
  let next = readGrantsSummary(JSON.parse(JSON.stringify(summary)));
  if (next === null) throw new Error("the summary cannot be read");
  expect(grantsSummary(next)).toEqual(summary);
  for (const part of grantsParts(grants)) {
    const taken = takePart(next, JSON.parse(JSON.stringify(part)));
    if (typeof taken === "string") throw new Error(taken);
    next = taken;
  }
  return next;
}

describe("a restart changes nothing", () => {
  test("wherever in a history it comes, and the records of a snapshot are taken by whoever read them all", () => {
    fc.assert(
      fc.property(fc.array(steps, { maxLength: 40 }), fc.nat(40), (list, cut) => {
        const history = historyOf(list);
        const whole = folded(noGrants(), ...history);
        const before = folded(noGrants(), ...history.slice(0, cut));
        for (const part of grantsParts(before)) expect(takePart(before, part)).toBe(before);
        expect(restarted(before)).toEqual(before);
        expect(folded(restarted(before), ...history.slice(cut))).toEqual(whole);
      }),
      { numRuns: 300 },
    );
  });

  test("what a snapshot's records say otherwise than it promises is not taken", () => {
    const [one, two] = [tokenOf("one", { uses: 1 }), tokenOf("two")];
    const grants = folded(noGrants(), minted(one), minted(two));
    const [part] = grantsParts(grants);
    const promised = readGrantsSummary(grantsSummary(grants) ?? {});
    if (promised === null || part === undefined) throw new Error("no summary");
    const lies = [
      { ...part, tokens: [tokenData({ ...one, uses: 5 }), tokenData(two)] },
      { ...part, tokens: [tokenData(one)] },
    ];
    expect(takePart(promised, lies[0] ?? {})).toBe("tokens");
    // fewer than were promised: what is missing is awaited
    expect(takeGrant(takePart(promised, lies[1] ?? {}) as Grants, minted(tokenOf("three")))).toBe("kind");
    expect(takePart(promised, { ...part, tokens: ["x"] })).toBe("tokens");
    expect(takePart(promised, { ...part, leases: ["x"] })).toBe("leases");
    // who knows them notices too
    expect(takePart(grants, { ...part, tokens: [tokenData({ ...one, uses: 5 })] })).toBe("tokens");
    expect(takePart(grants, { ...part, tokens: [tokenData(tokenOf("three"))] })).toBe("tokens");
    // nothing else is taken before they have come
    expect(takeGrant(promised, minted(tokenOf("three")))).toBe("kind");
    expect(takeUses(promised, { decision: "allow", tokenId: one.id, uses: 1 })).toBe("kind");
  });

  test("a summary that is none is refused", () => {
    const good = grantsSummary(folded(noGrants(), minted(tokenOf("one")))) ?? {};
    for (const name of Object.keys(good)) {
      const { [name]: _gone, ...rest } = good;
      expect(readGrantsSummary(rest), name).toBeNull();
      expect(readGrantsSummary({ ...good, [name]: ["no"] }), name).toBeNull();
    }
    expect(readGrantsSummary({ ...good, more: 1 })).toBeNull();
    expect(readGrantsSummary({ ...good, tokens: 0 })).toBeNull();
  });
});

describe("nothing grows without limit", () => {
  test("depth, tokens below one, tokens in all, and their bytes", () => {
    const root = tokenOf("root");
    const one = folded(noGrants(), minted(root));
    expect(noRoomFor(one, tokenOf("x"))).toBeNull();
    expect(noRoomFor(one, childOf(root, "x", { depth: TOKEN_BOUNDS.depth + 1 }))).toMatch(/8 narrowings/);
    const crowded = putToken(one, { ...root, below: TOKEN_BOUNDS.below });
    expect(noRoomFor(crowded, childOf(root, "x"))).toMatch(/1000 tokens have grown/);
    expect(noRoomFor(crowded, tokenOf("x"))).toBeNull();
    const many = { ...one, tokens: { ...one.tokens, size: TOKEN_BOUNDS.tokens } };
    expect(noRoomFor(many, tokenOf("x"))).toMatch(/10000 tokens/);
    const large = { ...one, tokenBytes: TOKEN_BOUNDS.stateBytes - 10 };
    expect(noRoomFor(large, tokenOf("x"))).toMatch(/bytes in all/);
  });
});
