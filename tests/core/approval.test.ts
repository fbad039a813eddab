import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { renderCanonical } from "../../daemon/audit/canonical.ts";
import { emptyFold, fold } from "../../daemon/audit/fold.ts";
import { type Data, type Entry, FIRST_PREV, type LogRecord } from "../../daemon/audit/record.ts";
import { renderSnapshot, snapshotIn } from "../../daemon/audit/snapshot.ts";
import {
  type Approval,
  type Asker,
  approve,
  ask,
  type Decider,
  deny,
  type Instant,
  redeem,
  settle,
} from "../../daemon/core/approval.ts";
import { readApprovals } from "../../daemon/core/approval-memory.ts";

const BOUNDS = { lifeMs: 600_000, maxPending: 12, maxPerCaller: 4 };
const WALL = Date.UTC(2026, 0, 1);
const AGENT: Asker = { uid: 1000, tokenId: "t2", tree: "t1", principal: 'Agent "a"' };
const EVE: Decider = { uid: 1001, name: "eve", terminal: "pts/2", tokenId: "", tree: "" };
const at = (ms = 0, over: Partial<Instant> = {}): Instant => ({
  wallMs: WALL + ms,
  monoMs: 5_000 + ms,
  boot: "b1",
  epoch: 3,
  lockdown: false,
  ...over,
});
const question = (over: object = {}) => ({ id: "q1", digest: "d1", what: "to curl", by: AGENT, ...over });
const yes = (over: object = {}) => ({ id: "q1", by: EVE, useMs: 300_000, requireTerminal: true, ...over });
const asked = (): readonly Approval[] => ask([], question(), at(), BOUNDS).held;
const approved = (): readonly Approval[] => approve(asked(), yes(), at(1_000)).held;
const kinds = (records: readonly Entry[]) =>
  records.map(({ kind, data }) => [kind, data["why"] ?? []].flat().join(" "));

describe("asking", () => {
  test("the same question of the same caller is asked once, whatever has been answered", () => {
    const again = ask(asked(), question({ id: "q2" }), at(10), BOUNDS);
    expect(again).toMatchObject({ records: [], answer: { ok: true, approval: { id: "q1" } } });
    const after = ask(approved(), question({ id: "q2" }), at(2_000), BOUNDS);
    expect(after.answer).toMatchObject({ approval: { id: "q1", answer: { kind: "approved" } } });
    const denied = deny(asked(), { id: "q1", by: EVE }, at(10)).held;
    expect(ask(denied, question({ id: "q2" }), at(599_999), BOUNDS).answer).toMatchObject({
      approval: { id: "q1", answer: { kind: "denied" } },
    });
    expect(ask(denied, question({ id: "q2" }), at(600_000), BOUNDS).answer).toMatchObject({
      approval: { id: "q2", answer: { kind: "pending" } },
    });
  });

  test("another token, or another user, asks for himself", () => {
    for (const by of [
      { ...AGENT, tokenId: "t3" },
      { ...AGENT, uid: 1002 },
    ])
      expect(ask(asked(), question({ id: "q2", by }), at(10), BOUNDS).held).toHaveLength(2);
  });

  test("a flood of questions is refused, by user and by tree, and he learns when to ask again", () => {
    let held: readonly Approval[] = [];
    for (let n = 0; n < 100; n++)
      held = ask(held, question({ id: `q${n}`, digest: `d${n}` }), at(n), BOUNDS).held;
    expect(held).toHaveLength(4);
    const sameTree = { uid: 2000, tokenId: "t9", tree: "t1", principal: "" };
    expect(ask(held, question({ id: "x", digest: "x", by: sameTree }), at(100), BOUNDS).answer).toMatchObject(
      {
        ok: false,
        code: "approval-too-many",
        retryAfterMs: 599_900,
      },
    );
    for (let uid = 3000; uid < 3100; uid++) {
      const by = { uid, tokenId: "", tree: "", principal: "" };
      held = ask(held, question({ id: `u${uid}`, digest: "d", by }), at(200), BOUNDS).held;
    }
    expect(held).toHaveLength(12);
  });

  test("what was denied counts as long as it would have waited: a denial is no way to the next prompt", () => {
    let held: readonly Approval[] = [];
    let prompts = 0;
    for (let n = 0; n < 100; n++) {
      const next = ask(held, question({ id: `q${n}`, digest: `d${n}` }), at(n), BOUNDS);
      if (next.answer.ok) prompts += 1;
      held = deny(next.held, { id: `q${n}`, by: EVE }, at(n)).held;
    }
    expect(prompts).toBe(4);
  });

  test("what a person cannot read in one look is not asked, and nothing in LOCKDOWN", () => {
    const long = question({ what: "é".repeat(600) });
    expect(ask([], long, at(), BOUNDS).answer).toMatchObject({ ok: false, code: "approval-too-long" });
    expect(ask([], question(), at(0, { lockdown: true }), BOUNDS).answer).toMatchObject({
      ok: false,
      code: "approval-lockdown",
    });
  });
});

describe("answering", () => {
  test.each([
    ["the same user", { ...EVE, uid: 1000 }],
    ["the same token", { ...EVE, tokenId: "t2" }],
    ["the token above", { ...EVE, tokenId: "t1", tree: "t1" }],
    ["a token beside it, in other hands", { ...EVE, uid: 1001, tokenId: "t7", tree: "t1" }],
  ])("never by whoever asked: %s", (_name, by) => {
    const next = approve(asked(), yes({ by }), at(10));
    expect(next.answer).toMatchObject({ ok: false, code: "approval-own" });
    expect([next.held, next.records]).toEqual([asked(), []]);
    // taking it back is not approving it
    expect(deny(asked(), { id: "q1", by }, at(10)).answer.ok).toBe(true);
  });

  test.each([
    ["one that is not there", { id: "q9" }, "approval-unknown"],
    ["without a terminal", { by: { ...EVE, terminal: "" } }, "approval-no-terminal"],
  ])("%s", (_name, over, code) => {
    expect(approve(asked(), yes(over), at(10)).answer).toMatchObject({ ok: false, code });
  });

  test("a terminal is not asked for where ceremonies take none", () => {
    const by = { ...EVE, terminal: "" };
    expect(approve(asked(), yes({ by, requireTerminal: false }), at(10)).answer.ok).toBe(true);
  });

  test("twice, or after the time, is too late", () => {
    expect(approve(approved(), yes(), at(2_000)).answer).toMatchObject({ code: "approval-over" });
    const late = approve(asked(), yes(), at(600_000));
    expect(late.answer).toMatchObject({ code: "approval-unknown" });
    expect(kinds(late.records)).toEqual(["approval.expired timeout"]);
  });

  test("what was approved can be denied as long as it was not used", () => {
    const next = deny(approved(), { id: "q1", by: EVE }, at(2_000));
    expect(next.held).toMatchObject([{ what: "", answer: { kind: "denied" } }]);
    expect(redeem(next.held, { digest: "d1", by: AGENT }, at(2_001)).answer).toBeNull();
  });
});

describe("using", () => {
  test("once, by whoever asked, for exactly what was asked", () => {
    expect(redeem(approved(), { digest: "d2", by: AGENT }, at(2_000)).answer).toBeNull();
    expect(redeem(approved(), { digest: "d1", by: { ...AGENT, uid: 1001 } }, at(2_000)).answer).toBeNull();
    expect(redeem(approved(), { digest: "d1", by: { ...AGENT, tokenId: "" } }, at(2_000)).answer).toBeNull();
    expect(redeem(asked(), { digest: "d1", by: AGENT }, at(2_000)).answer).toBeNull();
    const used = redeem(approved(), { digest: "d1", by: AGENT }, at(2_000));
    expect([used.answer?.id, kinds(used.records), used.held]).toEqual(["q1", ["approval.used"], []]);
    expect(redeem(used.held, { digest: "d1", by: AGENT }, at(2_000)).answer).toBeNull();
  });

  test.each([
    ["in time", at(300_999), true],
    ["too late", at(301_000), false],
    ["too late by the wall clock", at(2_000, { wallMs: WALL + 301_000 }), false],
    [
      "too late by the monotonic clock, with the wall clock set back",
      at(301_000, { wallMs: WALL + 1_000 }),
      false,
    ],
    ["with the wall clock set to before it was approved", at(2_000, { wallMs: WALL - 1_000 }), false],
    ["after a reboot, in time", at(2_000, { boot: "b2", monoMs: 1 }), true],
    ["after something tightened", at(2_000, { epoch: 4 }), false],
    ["in LOCKDOWN", at(2_000, { lockdown: true }), false],
  ])("%s", (_name, now, can) => {
    const next = redeem(approved(), { digest: "d1", by: AGENT }, now);
    expect([next.answer !== null, next.held]).toEqual([can, []]);
  });
});

describe("what ends by itself", () => {
  test("LOCKDOWN denies all that waits, and ends what was approved; a tightening ends only that", () => {
    const both = ask(approved(), question({ id: "q2", digest: "d2" }), at(2_000), BOUNDS).held;
    const locked = settle(both, at(3_000, { lockdown: true }));
    expect(kinds(locked.records)).toEqual(["approval.expired lockdown", "approval.expired lockdown"]);
    expect(locked.held).toEqual([]);
    const tightened = settle(both, at(3_000, { epoch: 4 }));
    expect(kinds(tightened.records)).toEqual(["approval.expired tightened"]);
    expect(tightened.held.map(({ id }) => id)).toEqual(["q2"]);
  });
});

const record = (entry: Entry, seq: number, now: Instant): LogRecord => ({
  v: 1,
  seq,
  at: new Date(now.wallMs).toISOString(),
  mono: String(BigInt(now.monoMs) * 1_000_000n),
  boot: now.boot,
  kind: entry.kind,
  data: entry.data,
  prev: FIRST_PREV,
});

type Op = {
  readonly what: "ask" | "approve" | "deny" | "redeem" | "settle";
  readonly n: number;
  readonly ms: number;
  readonly tight: number;
};
const op: fc.Arbitrary<Op> = fc.record({
  what: fc.constantFrom("ask", "ask", "approve", "approve", "deny", "redeem", "redeem", "settle"),
  n: fc.nat(5),
  ms: fc.oneof(fc.nat(1_000), fc.nat(400_000)),
  tight: fc.constantFrom(0, 0, 0, 0, 1, 2),
});

describe("over restarts", () => {
  test("what the log says is what is, after any history; a use is never without its approval, and never twice", () => {
    fc.assert(
      fc.property(fc.array(op, { maxLength: 60 }), (ops) => {
        let held: readonly Approval[] = [];
        let memory = emptyFold();
        let ms = 0;
        let epoch = 0;
        const yesses = new Map<string, number>();
        const uses = new Map<string, number>();
        for (const [index, { what, n, ms: passed, tight }] of ops.entries()) {
          ms += passed;
          epoch += tight === 1 ? 1 : 0;
          const now = at(ms, { epoch, lockdown: tight === 2 });
          const by = { ...AGENT, uid: 1000 + (n % 2), tokenId: "", tree: "" };
          const person = { ...EVE, uid: 5000 };
          const id = held[n]?.id ?? "none";
          const next =
            what === "ask"
              ? ask(held, { id: `q${index}`, digest: `d${n}`, what: "x", by }, now, BOUNDS)
              : what === "approve"
                ? approve(held, { id, by: person, useMs: 300_000, requireTerminal: true }, now)
                : what === "deny"
                  ? deny(held, { id, by: person }, now)
                  : what === "redeem"
                    ? redeem(held, { digest: `d${n}`, by }, now)
                    : settle(held, now);
          held = next.held;
          for (const entry of next.records) {
            memory = fold(memory, record(entry, memory.lastSeq + 1, now));
            const count =
              entry.kind === "approval.approved" ? yesses : entry.kind === "approval.used" ? uses : null;
            const about = String(entry.data["id"]);
            count?.set(about, (count.get(about) ?? 0) + 1);
          }
          // the fold looks at the time only when something happens
          const byId = (all: readonly Approval[]) => all.toSorted((a, b) => (a.id < b.id ? -1 : 1));
          expect(byId(settle(readApprovals(memory.approvals), now).held)).toEqual(byId(held));
          expect(held.length).toBeLessThanOrEqual(BOUNDS.maxPending);
        }
        for (const [about, count] of uses) expect([about, count, yesses.get(about)]).toEqual([about, 1, 1]);
        expect(memory.unreadable).toBe("");
      }),
    );
  });

  test("a snapshot gives it back, and stays small when all is open", () => {
    let memory = emptyFold();
    let held: readonly Approval[] = [];
    const bounds = { ...BOUNDS, maxPending: 16, maxPerCaller: 16 };
    const note = (records: readonly Entry[]) => {
      for (const entry of records) memory = fold(memory, record(entry, memory.lastSeq + 1, at()));
    };
    for (let n = 0; n < 16; n++) {
      const long = {
        id: `q${n}`,
        digest: "d".repeat(63) + n.toString(16),
        what: "\n".repeat(511),
        by: AGENT,
      };
      const next = ask(held, long, at(), bounds);
      held = next.held;
      note(next.records);
    }
    const said = approve(held, yes({ id: "q3" }), at());
    note(said.records);
    note(deny(said.held, { id: "q4", by: EVE }, at()).records);
    expect(memory.approvals).toHaveLength(16);
    const data = renderSnapshot({ fold: memory, frontier: { size: 0, subtrees: [] } });
    expect(Buffer.byteLength(renderCanonical(data))).toBeLessThan(26_000);
    const line = { v: 1, seq: 0, at: "", mono: "1", boot: "b", kind: "log.snapshot", data, prev: FIRST_PREV };
    expect(snapshotIn(line)?.fold).toEqual(memory);
  });

  test("whatever the records hold, nothing is thrown, and nobody gets anything from one that cannot be read", () => {
    const value = fc.oneof(fc.string(), fc.integer(), fc.constant([]), fc.constant({}));
    const names = [
      "id",
      "digest",
      "uid",
      "tokenId",
      "tree",
      "principal",
      "what",
      "wallMs",
      "monoMs",
      "lifeMs",
    ];
    const data = fc.dictionary(
      fc.constantFrom(...names, "by", "useMs", "epoch", "why"),
      fc.oneof(value, fc.constant("q1")),
    ) as fc.Arbitrary<Data>;
    const kind = fc.constantFrom(
      "approval.requested",
      "approval.approved",
      "approval.denied",
      "approval.expired",
      "approval.used",
    );
    const before = [...ask([], question(), at(), BOUNDS).records];
    fc.assert(
      fc.property(fc.array(fc.tuple(kind, data), { maxLength: 8 }), (list) => {
        let memory = before.reduce((all, entry, seq) => fold(all, record(entry, seq, at())), emptyFold());
        for (const [what, held] of list)
          memory = fold(memory, record({ kind: what, data: held }, memory.lastSeq + 1, at()));
        for (const one of readApprovals(memory.approvals))
          if (one.answer.kind === "approved") expect(one.id).toBe("q1");
        expect(memory.approvals.length).toBeLessThanOrEqual(16);
      }),
    );
  });
});
