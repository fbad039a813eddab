import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { emptyFold, fold } from "../../daemon/audit/fold.ts";
import { type Data, FIRST_PREV, type LogRecord, RECORD_KINDS } from "../../daemon/audit/record.ts";

function record(kind: string, data: Data = {}, seq = 7): LogRecord {
  return {
    v: 1,
    seq,
    at: `2026-01-02T03:04:05.00${seq % 10}Z`,
    mono: "1",
    boot: "b007",
    kind,
    data,
    prev: FIRST_PREV,
  };
}
const run = (...records: LogRecord[]) => records.reduce(fold, emptyFold());
const started = record("daemon.started", { wanted: "RESTRICTED", epoch: 1 });
const stopped = record("daemon.stopped", { wanted: "RESTRICTED", epoch: 2, frozen: "" });

describe("fold", () => {
  test.each([
    ["daemon.started", { wanted: "OPEN", epoch: 3 }],
    ["daemon.stopped", { wanted: "OPEN", epoch: 3 }],
    ["mode.changed", { wanted: "OPEN", epoch: 3 }],
    ["mode.lapsed", { wanted: "OPEN", epoch: 3 }],
    ["tripwire.fired", { wanted: "OPEN", epoch: 3, tripwire: "t" }],
    ["clock.frozen", { wanted: "OPEN", epoch: 3, why: "step" }],
    ["clock.cleared", { wanted: "OPEN", epoch: 3 }],
  ])("%s carries the mode and the epoch", (kind, data) => {
    expect(run(started, record(kind, data))).toMatchObject({ wanted: "OPEN", epoch: 3, unreadable: "" });
  });

  test.each(["decision", "seal", "mode.applied", "gap", "something.new"])(
    "%s does not, whatever it holds",
    (kind) => {
      expect(run(started, record(kind, { wanted: "OPEN", epoch: 3 }))).toMatchObject({
        wanted: "RESTRICTED",
        epoch: 1,
      });
    },
  );

  test("sets that Cedar disagreed with stay so, the newest eight, whatever is loaded", () => {
    const disagreed = (n: number) => record("policy.disagreed", { digest: `d${n}`, compiled: `c${n}` });
    const loaded = record("policy.loaded", { digest: "x", compiled: "y", kept: "k" });
    expect(run(loaded, disagreed(1)).policies).toEqual({ disputed: ["c1"] });
    expect(run(disagreed(1), loaded, disagreed(2), loaded).policies).toEqual({
      ...loaded.data,
      disputed: ["c1", "c2"],
    });
    const many = run(...Array.from({ length: 10 }, (_, n) => disagreed(n)), loaded);
    expect(many.policies["disputed"]).toEqual(["c2", "c3", "c4", "c5", "c6", "c7", "c8", "c9"]);
  });

  test("the last record wins: a trip after a loosening", () => {
    const loosened = record("mode.changed", { wanted: "OPEN", epoch: 1 });
    const fired = record("tripwire.fired", { wanted: "LOCKDOWN", epoch: 2, tripwire: "usb" });
    expect(run(started, loosened, fired)).toMatchObject({ wanted: "LOCKDOWN", epoch: 2 });
  });

  test.each([
    ["never started", [], "none"],
    ["only a genesis", [record("log.genesis")], "none"],
    ["running", [started], "running"],
    ["stopped", [started, stopped], "clean"],
    [
      "stopped, then sealed and alive",
      [started, stopped, record("seal"), record("log.alive"), record("seal")],
      "clean",
    ],
    ["something after the stop", [started, stopped, record("decision")], "running"],
    ["an unknown kind after the stop", [started, stopped, record("later.kind")], "running"],
    ["stopped twice", [started, stopped, record("decision"), stopped], "clean"],
    ["started again", [started, stopped, started], "running"],
  ] as const)("stop: %s", (_name, records, stop) => {
    expect(run(...records).stop).toBe(stop);
  });

  test("a freeze lasts over a stop and a start that carry it, until it is cleared", () => {
    const frozen = record("clock.frozen", { wanted: "RESTRICTED", epoch: 1, why: "stepped" });
    const stoppedFrozen = record("daemon.stopped", { wanted: "RESTRICTED", epoch: 1, frozen: "stepped" });
    const startedFrozen = record("daemon.started", { wanted: "RESTRICTED", epoch: 1, frozen: "stepped" });
    expect(run(started, frozen, record("mode.changed", { wanted: "AIRGAP", epoch: 2 })).frozen).toBe(
      "stepped",
    );
    expect(run(started, frozen, stoppedFrozen, startedFrozen).frozen).toBe("stepped");
    expect(run(frozen, record("clock.cleared", { wanted: "RESTRICTED", epoch: 1 })).frozen).toBe("");
  });

  test("counts starts and fired tripwires, by names of any kind", () => {
    const fired = (tripwire: string) => record("tripwire.fired", { tripwire, wanted: "AIRGAP", epoch: 1 });
    const state = run(started, fired("usb"), fired("__proto__"), fired("toString"), fired("usb"), started);
    expect(state.started).toBe(2);
    expect(Object.entries(state.firedByTripwire)).toEqual([
      ["usb", 2],
      ["__proto__", 1],
      ["toString", 1],
    ]);
  });

  test("keeps the newest baseline and the last record's place", () => {
    const state = run(
      record("baseline.set", { digest: "aa" }, 1),
      record("baseline.set", { digest: "bb" }, 2),
      record("x", {}, 3),
    );
    expect(state).toMatchObject({
      baselineDigest: "bb",
      lastSeq: 3,
      lastBoot: "b007",
      lastMono: "1",
      lastAt: "2026-01-02T03:04:05.003Z",
    });
  });

  describe("the hold", () => {
    const held = (to: string, lasts: string, boot = "b007") => ({
      ...record("hold.changed", { from: "enforcing", to, lasts, by: "ana", why: "w" }),
      boot,
    });

    test("is enforcing where no record says otherwise, and as the last one says", () => {
      expect(run(started, stopped)).toMatchObject({ hold: "enforcing", parameterBoot: "", releasedBoot: "" });
      expect(run(started, held("shadow", "always")).hold).toBe("shadow");
      expect(run(held("shadow", "always"), held("enforcing", "always")).hold).toBe("enforcing");
    });

    test("of the boot parameter is told apart from the one that lasts, and is over when a person says so", () => {
      const parameter = run(held("shadow", "always"), held("released", "boot", "b1"));
      expect(parameter).toMatchObject({ hold: "shadow", parameterBoot: "b1", releasedBoot: "b1" });
      expect(run(held("released", "boot", "b1"), held("enforcing", "always", "b1"))).toMatchObject({
        hold: "enforcing",
        parameterBoot: "b1",
        releasedBoot: "",
      });
    });

    test("of the boot parameter names what lies beneath, where something else was said in between", () => {
      const back = (base: unknown) => ({
        ...held("released", "boot", "b1"),
        data: { to: "released", lasts: "boot", base } as Data,
      });
      expect(run(held("enforcing", "always", "b1"), back("shadow"))).toMatchObject({
        hold: "shadow",
        releasedBoot: "b1",
        unreadable: "",
      });
      for (const base of ["ajar", "", 1, {}])
        expect(run(held("shadow", "always"), back(base))).toMatchObject({
          hold: "enforcing",
          releasedBoot: "",
          wanted: "LOCKDOWN",
          unreadable: "seq 7: base",
        });
    });

    test("of the boot parameter, recorded before there is a daemon, leaves a clean stop clean; any other does not", () => {
      expect(run(started, stopped, held("released", "boot")).stop).toBe("clean");
      expect(run(started, stopped, held("released", "always")).stop).toBe("running");
    });

    test("nothing else moves it, a trip and a crash among it", () => {
      const fired = record("tripwire.fired", { wanted: "LOCKDOWN", epoch: 2, tripwire: "t" });
      expect(run(held("released", "always"), fired, started)).toMatchObject({ hold: "released" });
    });

    test("is enforcing where anything was unreadable", () => {
      const bad = record("mode.changed", { wanted: "OPENISH", epoch: 1 });
      expect(run(held("released", "always"), held("released", "boot"), bad)).toMatchObject({
        hold: "enforcing",
        releasedBoot: "",
      });
    });
  });

  test.each([
    ["an unknown hold", record("hold.changed", { to: "ajar", lasts: "always" })],
    ["a hold without its duration", record("hold.changed", { to: "released" })],
    ["a shadow for one boot", record("hold.changed", { to: "shadow", lasts: "boot" })],
    ["an unknown mode", record("mode.changed", { wanted: "OPENISH", epoch: 1 })],
    ["a mode in lower case", record("mode.changed", { wanted: "open", epoch: 1 })],
    ["no mode", record("mode.changed", { epoch: 1 })],
    ["no epoch", record("mode.changed", { wanted: "OPEN" })],
    ["a negative epoch", record("mode.changed", { wanted: "OPEN", epoch: -1 })],
    ["a freeze without a reason", record("clock.frozen", { wanted: "OPEN", epoch: 1 })],
    ["a stop frozen by a number", record("daemon.stopped", { wanted: "OPEN", epoch: 1, frozen: 1 })],
    ["a nameless tripwire", record("tripwire.fired", { wanted: "OPEN", epoch: 1 })],
    ["a baseline without a digest", record("baseline.set", {})],
  ])("%s means LOCKDOWN, and says where", (_name, bad) => {
    const state = run(started, bad);
    expect(state.wanted).toBe("LOCKDOWN");
    expect(state.unreadable).toMatch(/^seq 7: /);
  });

  test("never throws, never changes its input, and always knows a mode it can act on", () => {
    const value = fc.oneof(
      fc.string(),
      fc.integer(),
      fc.constantFrom("OPEN", "LOCKDOWN", "released", "always", "boot"),
      fc.constant([]),
      fc.constant({}),
    );
    const data = fc.dictionary(
      fc.constantFrom(
        "wanted",
        "epoch",
        "frozen",
        "why",
        "tripwire",
        "digest",
        "compiled",
        "disputed",
        "to",
        "lasts",
        "base",
        "__proto__",
      ),
      value,
    );
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.constantFrom(...RECORD_KINDS), data), { maxLength: 12 }), (list) => {
        let state = emptyFold();
        for (const [kind, each] of list) {
          const before = JSON.stringify(state);
          const next = fold(state, record(kind, each));
          expect(JSON.stringify(state)).toBe(before);
          state = next;
        }
        expect([null, "OPEN", "LOCKDOWN"]).toContain(state.wanted);
      }),
    );
  });
});
