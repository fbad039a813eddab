import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { renderCanonical } from "../../daemon/audit/canonical.ts";
import { emptyFold, fold } from "../../daemon/audit/fold.ts";
import { type Data, type Entry, FIRST_PREV, type LogRecord } from "../../daemon/audit/record.ts";
import { renderSnapshot, snapshotIn } from "../../daemon/audit/snapshot.ts";
import { ConfigSchema } from "../../daemon/core/config.ts";
import { chargesOf } from "../../daemon/core/limit-charges.ts";
import { readLimits } from "../../daemon/core/limit-memory.ts";
import { createLimitDesk } from "../../daemon/limits.ts";
import { FakeClock } from "../support/host.ts";

const UID = { requests: 10, windowMs: 6_000, blockMs: 30_000 };

/** A desk that can be stopped, killed, and started again from its log. */
function machine(limits: object) {
  const settings = ConfigSchema.parse({ limits }).limits;
  const clock = new FakeClock();
  const boot = { id: "b1" };
  clock.bootId = () => boot.id;
  let memory = emptyFold();
  const append = ({ kind, data }: Entry): void => {
    const at = new Date(clock.realMs).toISOString();
    const record: LogRecord = {
      v: 1,
      seq: memory.lastSeq + 1,
      at,
      mono: String(clock.monoNs()),
      boot: boot.id,
      kind,
      data,
      prev: FIRST_PREV,
    };
    memory = fold(memory, record);
  };
  const make = () => createLimitDesk({ settings, memory: memory.limits, clock, append });
  let desk = make();
  return {
    clock,
    boot,
    memory: () => memory,
    take: (uid = 1000) => desk.take({ uid, token: null, tokenLabel: "", verb: "status", kind: "verb" }),
    tick: () => desk.tick(),
    restart(how: "clean" | "crash", meanwhile = () => {}) {
      if (how === "clean") desk.stop();
      meanwhile();
      desk = make();
    },
  };
}

const windowsOf = (allowed: readonly number[], windowMs: number) =>
  Math.max(0, ...allowed.map((from) => allowed.filter((at) => at >= from && at < from + windowMs).length));

const step = fc.oneof(
  { weight: 10, arbitrary: fc.record({ what: fc.constant("take" as const), ms: fc.nat(700) }) },
  { weight: 1, arbitrary: fc.record({ what: fc.constant("restart" as const), ms: fc.nat(3_000) }) },
);

describe("limits over restarts", () => {
  test("after clean stops no window holds more than the limit", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
        const host = machine({ uid: { ...UID, blockMs: 0 } });
        const allowed: number[] = [];
        for (const { what, ms } of steps) {
          host.clock.pass(ms);
          if (what === "restart") host.restart("clean");
          else if (host.take().ok) allowed.push(host.clock.monoMs);
        }
        expect(windowsOf(allowed, UID.windowMs)).toBeLessThanOrEqual(UID.requests);
      }),
    );
  });

  test("a block outlives stops and crashes, to its millisecond", () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.constantFrom("clean", "crash"), fc.nat(20_000)), { maxLength: 6 }),
        (restarts) => {
          const host = machine({ uid: UID });
          for (let n = 0; n <= UID.requests; n++) host.take();
          const endMs = host.clock.monoMs + UID.blockMs;
          for (const [how, ms] of restarts) {
            host.clock.pass(ms);
            host.restart(how);
            expect(host.take().ok).toBe(host.clock.monoMs >= endMs);
            if (host.clock.monoMs >= endMs) return;
          }
          host.clock.pass(endMs - host.clock.monoMs - 1);
          expect(host.take().ok).toBe(false);
          host.clock.pass(1);
          expect(host.take().ok).toBe(true);
        },
      ),
    );
  });

  test("a wall clock that is moved on ends no block early in the same boot", () => {
    const host = machine({ uid: UID });
    for (let n = 0; n <= UID.requests; n++) host.take();
    host.clock.realMs += 86_400_000;
    expect(host.take().ok).toBe(false);
    host.restart("clean");
    expect(host.take()).toMatchObject({ ok: false, code: "rate-limited", retryAfterMs: UID.blockMs });
  });

  test("after a reboot the wall clock says what is left; set back, all of it is", () => {
    for (const [passedMs, leftMs] of [
      [10_000, 20_000],
      [-10_000, 30_000],
    ] as const) {
      const host = machine({ uid: UID });
      for (let n = 0; n <= UID.requests; n++) host.take();
      host.restart("clean", () => {
        host.boot.id = "b2";
        host.clock.monoMs = 50;
        host.clock.realMs += passedMs;
      });
      expect(host.take()).toMatchObject({ ok: false, retryAfterMs: leftMs });
    }
  });

  test("a crash forgets at most what came after the newest state, which is recorded above half every ten seconds", () => {
    const host = machine({ uid: { requests: 100, windowMs: 60_000, blockMs: 0 } });
    for (let n = 0; n < 60; n++) host.take();
    host.clock.pass(10_000);
    host.tick();
    for (let n = 0; n < 20; n++) host.take();
    host.restart("crash");
    let again = 0;
    while (host.take().ok) again += 1;
    expect(again).toBe(100 - 60);
  });

  test("nothing above half: no state is recorded, however often it ticks; and once is once", () => {
    const host = machine({ uid: { requests: 100, windowMs: 60_000, blockMs: 0 } });
    for (let n = 0; n < 50; n++) host.take();
    for (let n = 0; n < 100; n++) {
      host.clock.pass(1_000);
      host.tick();
    }
    expect(host.memory().lastSeq).toBe(-1);
    for (let n = 0; n < 51; n++) host.take();
    for (let n = 0; n < 100; n++) {
      host.clock.pass(1_000);
      host.tick();
    }
    expect(host.memory().lastSeq).toBe(0);
  });

  test("the fold stays small, whoever floods, and a snapshot gives it back", () => {
    const host = machine({
      overall: { requests: 0 },
      uid: { requests: 1, windowMs: 3_600_000, blockMs: 86_400_000 },
    });
    for (let uid = 0; uid < 1_000; uid++) {
      host.take(4_000_000_000 + uid);
      host.take(4_000_000_000 + uid);
    }
    host.restart("clean");
    const limits = readLimits(host.memory().limits);
    expect([limits?.blocks.length, limits?.counts?.keys.length]).toEqual([48, 48]);
    // the block that ends last is not the one that is left out
    expect(limits?.blocks.every(({ blocked }) => blocked.leftMs === 86_400_000)).toBe(true);
    const frontier = { size: host.memory().lastSeq + 1, subtrees: [] as string[] };
    const data = renderSnapshot({ fold: host.memory(), frontier: { ...frontier, size: 0 } });
    expect(Buffer.byteLength(renderCanonical(data))).toBeLessThan(20_000);
    const record = {
      v: 1,
      seq: 0,
      at: "",
      mono: "1",
      boot: "b",
      kind: "log.snapshot",
      data,
      prev: FIRST_PREV,
    };
    expect(snapshotIn(record)?.fold).toEqual(host.memory());
  });

  test("what cannot be read closes, but for what tightens; and nothing is thrown", () => {
    const data = fc.dictionary(
      fc.constantFrom(
        "kind",
        "name",
        "blockMs",
        "blocks",
        "keys",
        "counts",
        "windowMs",
        "wallMs",
        "monoMs",
        "boot",
      ),
      fc.jsonValue(),
    ) as fc.Arbitrary<Data>;
    const settings = ConfigSchema.parse({}).limits;
    const asked = { uid: 1000, token: null, tokenLabel: "", verb: "status" };
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.constantFrom("limit.blocked", "limit.state"), data)), (list) => {
        const records = list.map(([kind, held], seq) => ({ ...RECORD, seq, kind, data: held }));
        const { limits: memory, unreadable } = records.reduce(fold, emptyFold());
        expect(unreadable).toBe("");
        const desk = createLimitDesk({ settings, memory, clock: new FakeClock(), append: () => undefined });
        expect(desk.take({ ...asked, kind: "tightening" }).ok).toBe(true);
        if (readLimits(memory) === null) expect(desk.take({ ...asked, kind: "verb" }).ok).toBe(false);
      }),
    );
  });
});

const RECORD = { v: 1, at: "2026-01-01T00:00:00.000Z", mono: "1", boot: "b", prev: FIRST_PREV };

describe("chargesOf", () => {
  const settings = ConfigSchema.parse({
    limits: {
      verbs: { check: { requests: 7 } },
      services: [
        { tokenLabel: "indexer", requests: 0 },
        { uid: 999, requests: 50_000 },
      ],
    },
  }).limits;
  const asked = { uid: 1000, token: null, tokenLabel: "", verb: "status", kind: "verb" } as const;
  const names = (over: object) =>
    chargesOf(settings, { ...asked, ...over }).map(
      ({ kind, name, rate }) => `${kind} ${name}: ${rate.requests}`,
    );

  test.each([
    ["a user", {}, ["uid 1000: 500", "overall all: 1000"]],
    ["a token", { token: "t1" }, ["token t1: 100", "uid 1000: 500", "overall all: 1000"]],
    ["a loosening", { kind: "loosening" }, ["uid 1000: 500", "overall all: 1000", "loosening all: 10"]],
    ["a tightening", { kind: "tightening" }, []],
    [
      "a verb of its own",
      { verb: "check" },
      ["uid 1000: 500", "overall all: 1000", "verb check uid 1000: 7"],
    ],
    ["a service by label", { token: "t2", tokenLabel: "indexer" }, ["service label indexer: 0"]],
    ["a label without a token", { tokenLabel: "indexer" }, ["uid 1000: 500", "overall all: 1000"]],
    ["a service by uid", { uid: 999, kind: "loosening" }, ["service uid 999: 50000", "loosening all: 10"]],
    [
      "a verb named like what every object has",
      { verb: "constructor" },
      ["uid 1000: 500", "overall all: 1000"],
    ],
  ])("%s", (_name, over, charges) => {
    expect(names(over)).toEqual(charges);
  });

  test("the defaults are those of B5", () => {
    const { token, overall, loosening } = ConfigSchema.parse({}).limits;
    expect([token, overall, loosening]).toEqual([
      { requests: 100, windowMs: 60_000, blockMs: 300_000 },
      { requests: 1_000, windowMs: 60_000, blockMs: 0 },
      { requests: 10, windowMs: 60_000, blockMs: 0 },
    ]);
  });
});
