import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { createCoalescer } from "../../daemon/core/coalesce.ts";

/** Records are numbers, in order. */
function counted(windowMs = 100) {
  const coalescer = createCoalescer(windowMs);
  let records = 0;
  return {
    ...coalescer,
    records: () => records,
    take: (caller: string, key: string, nowMs = 0) => coalescer.take({ caller, key }, nowMs, () => records++),
  };
}

describe("coalescer", () => {
  test("the first is a record, its like are counted under it, and the count names it", () => {
    const all = counted();
    all.take("uid 1", "other");
    expect(all.take("uid 1", "a")).toEqual({ seq: 1, first: true });
    expect(all.take("uid 1", "a", 50)).toEqual({ seq: 1, first: false });
    expect(all.take("uid 2", "a", 60)).toEqual({ seq: 2, first: true });
    expect(all.drain(99)).toEqual([]);
    expect(all.drain(100)).toEqual([{ caller: "uid 1", key: "a", count: 1, seq: 1 }]);
  });

  test("what goes on is counted on, what ended is a record again", () => {
    const all = counted();
    all.take("u", "a");
    all.take("u", "a");
    all.drain(100);
    expect(all.take("u", "a", 150)).toEqual({ seq: 0, first: false });
    expect(all.drain(200)).toEqual([{ caller: "u", key: "a", count: 1, seq: 0 }]);
    expect(all.drain(300)).toEqual([]);
    expect(all.take("u", "a", 301).first).toBe(true);
  });

  test("what could not be recorded is tried again", () => {
    const coalescer = createCoalescer(100);
    const failing = () => -1;
    expect(coalescer.take({ caller: "u", key: "a" }, 0, failing)).toEqual({ seq: -1, first: true });
    expect(coalescer.take({ caller: "u", key: "a" }, 0, () => 7)).toEqual({ seq: 7, first: true });
  });

  test("one caller's noise hides nothing of another's", () => {
    const all = counted();
    for (let n = 0; n < 1_000; n++) all.take("noisy", `k${n}`);
    expect(all.take("quiet", "a").first).toBe(true);
    // what is counted with others has no record of its own
    expect(all.take("noisy", "k999")).toEqual({ seq: -1, first: false });
  });

  test("a million different ones: few records, little memory, and none is lost", () => {
    const all = counted();
    for (let n = 0; n < 1_000_000; n++) all.take(`c${n % 1_000}`, `k${n}`);
    expect(all.size()).toBeLessThanOrEqual(257 * 33);
    const told = all.drainAll().reduce((sum, { count }) => sum + count, 0);
    expect(told + all.records()).toBe(1_000_000);
    expect(all.drainAll()).toEqual([]);
    expect(all.size()).toBe(0);
  });

  test("records and counts together are all there was", () => {
    const asked = fc.tuple(fc.nat(400), fc.nat(60), fc.nat(40));
    fc.assert(
      fc.property(fc.array(asked, { maxLength: 300 }), (all) => {
        const some = counted(1_000);
        let atMs = 0;
        let told = 0;
        for (const [caller, key, ms] of all) {
          atMs += ms;
          told += some.drain(atMs).reduce((sum, { count }) => sum + count, 0);
          some.take(`c${caller}`, `k${key}`, atMs);
        }
        told += some.drainAll().reduce((sum, { count }) => sum + count, 0);
        expect(told + some.records()).toBe(all.length);
      }),
    );
  });
});
