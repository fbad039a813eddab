import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Charge, createLimits, type Rate } from "../../daemon/core/limit.ts";
import { addTo, emptyTally, firstFreeMs, respan, settleTally, spanOf } from "../../daemon/core/tally.ts";

const RATE: Rate = { requests: 100, windowMs: 60_000, blockMs: 300_000 };
const charge = (over: Partial<Charge> = {}): Charge => ({ kind: "uid", name: "1000", rate: RATE, ...over });

/** Times that do not go back, from steps between them. */
const times = (maxStepMs: number, maxLength = 300) =>
  fc.array(fc.nat({ max: maxStepMs }), { maxLength }).map((steps) => {
    let atMs = 0;
    return steps.map((stepMs) => (atMs += stepMs));
  });

const mostInAnyWindow = (allowed: readonly number[], windowMs: number) =>
  Math.max(0, ...allowed.map((from) => allowed.filter((at) => at >= from && at < from + windowMs).length));

describe("tally", () => {
  test("something counts for the window and at most a sixtieth longer", () => {
    fc.assert(
      fc.property(fc.nat(1_000_000), fc.integer({ min: 1, max: 100_000 }), (atMs, windowMs) => {
        const tally = emptyTally(spanOf(windowMs));
        addTo(tally, atMs);
        settleTally(tally, atMs + windowMs - 1);
        expect(tally.total).toBe(1);
        const freeMs = firstFreeMs(tally) ?? 0;
        expect(freeMs).toBeGreaterThan(atMs + windowMs - 1);
        expect(freeMs).toBeLessThanOrEqual(atMs + windowMs + 2 * tally.span.slotMs);
        settleTally(tally, freeMs - 1);
        expect(tally.total).toBe(1);
        settleTally(tally, freeMs);
        expect(tally.total).toBe(0);
      }),
    );
  });

  test("holds at most a mark a slot, and in other slots nothing counts for less long", () => {
    fc.assert(
      fc.property(times(3_000), fc.integer({ min: 1, max: 120_000 }), (all, windowMs) => {
        const tally = emptyTally(spanOf(60_000));
        for (const atMs of all) {
          settleTally(tally, atMs);
          addTo(tally, atMs);
        }
        expect(tally.marks.length).toBeLessThanOrEqual(62);
        const nowMs = all.at(-1) ?? 0;
        const counted = tally.total;
        respan(tally, spanOf(windowMs), nowMs);
        expect(tally.total).toBe(counted);
        const newest = tally.marks.at(-1);
        if (newest && all.length > 0)
          expect((newest.slot + 1) * tally.span.slotMs).toBeGreaterThan(all.at(-1) ?? 0);
      }),
    );
  });
});

describe("limits", () => {
  test("a hundred in a minute, then nothing for five, then a hundred", () => {
    const limits = createLimits(10);
    for (let n = 0; n < 100; n++) expect(limits.take([charge()], n)).toEqual({ ok: true });
    expect(limits.take([charge()], 100)).toEqual({
      ok: false,
      kind: "uid",
      name: "1000",
      retryAfterMs: 300_000,
      blockMs: 300_000,
    });
    expect(limits.take([charge()], 200)).toMatchObject({ ok: false, retryAfterMs: 299_900, blockMs: 0 });
    expect(limits.take([charge()], 300_099)).toMatchObject({ ok: false, retryAfterMs: 1 });
    expect(limits.take([charge()], 300_100)).toEqual({ ok: true });
    expect(limits.take([charge({ name: "1001" })], 200)).toEqual({ ok: true });
  });

  test("never more than the limit in any window of its length, and never refused below it", () => {
    fc.assert(
      fc.property(
        times(400),
        fc.integer({ min: 1, max: 20 }),
        fc.integer({ min: 60, max: 5_000 }),
        (all, requests, windowMs) => {
          const limits = createLimits(4);
          const rate = { requests, windowMs, blockMs: 0 };
          const allowed: number[] = [];
          for (const atMs of all) {
            const taken = limits.take([charge({ rate })], atMs);
            const within = allowed.filter((was) => was > atMs - windowMs - 2 * Math.ceil(windowMs / 60));
            if (taken.ok) allowed.push(atMs);
            else expect(within.length).toBeGreaterThanOrEqual(requests);
          }
          expect(mostInAnyWindow(allowed, windowMs)).toBeLessThanOrEqual(requests);
        },
      ),
    );
  });

  test("who waits as long as he is told gets through; a millisecond earlier he does not", () => {
    fc.assert(
      fc.property(times(200, 120), fc.nat(2_000), (all, blockMs) => {
        const rate = { requests: 5, windowMs: 1_000, blockMs };
        const limits = createLimits(4);
        for (const atMs of all) {
          const taken = limits.take([charge({ rate })], atMs);
          if (taken.ok || blockMs > 0) continue;
          const probe = createLimits(4);
          for (const was of all.filter((at) => at < atMs)) probe.take([charge({ rate })], was);
          expect(probe.take([charge({ rate })], atMs + taken.retryAfterMs - 1).ok).toBe(false);
          expect(probe.take([charge({ rate })], atMs + taken.retryAfterMs).ok).toBe(true);
        }
      }),
    );
  });

  test("blocked stays blocked, whatever he tries and whoever comes", () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(299_999), fc.nat(2_000)), { maxLength: 200 }), (tries) => {
        const limits = createLimits(8);
        for (let n = 0; n <= 100; n++) limits.take([charge()], 0);
        for (const [atMs, who] of tries.toSorted(([a], [b]) => a - b)) {
          limits.take([charge({ name: `other ${who}` })], atMs);
          expect(limits.take([charge()], atMs).ok).toBe(false);
        }
        expect(limits.take([charge()], 300_000).ok).toBe(true);
      }),
    );
  });

  test("all of the charges or none: what one refuses is not counted at the others", () => {
    const limits = createLimits(10);
    const own = charge({ rate: { requests: 1, windowMs: 60_000, blockMs: 0 } });
    const all = charge({ kind: "overall", name: "all", rate: { requests: 3, windowMs: 60_000, blockMs: 0 } });
    expect(limits.take([own, all], 0).ok).toBe(true);
    for (let n = 0; n < 50; n++) expect(limits.take([own, all], n)).toMatchObject({ ok: false, kind: "uid" });
    expect(limits.take([charge({ name: "1001" }), all], 60).ok).toBe(true);
    expect(limits.take([charge({ name: "1002" }), all], 60).ok).toBe(true);
    expect(limits.take([charge({ name: "1003" }), all], 60)).toMatchObject({ ok: false, kind: "overall" });
  });

  test("0 requests is no limit, and nothing is held for it", () => {
    const limits = createLimits(10);
    const none = charge({ rate: { requests: 0, windowMs: 1_000, blockMs: 1_000 } });
    for (let n = 0; n < 10_000; n++) expect(limits.take([none], 0).ok).toBe(true);
    expect(limits.size()).toBe(0);
  });

  test("a million requests with distinct keys: bounded, and the blocked one is blocked still", () => {
    const limits = createLimits(4_096);
    for (let n = 0; n <= 100; n++) limits.take([charge()], 0);
    let allowed = 0;
    for (let n = 0; n < 1_000_000; n++)
      if (limits.take([charge({ kind: "uid", name: `flood ${n}` })], Math.floor(n / 100)).ok) allowed += 1;
    expect(limits.size()).toBeLessThanOrEqual(4_097);
    // 4,095 keys of their own in the first window, and a hundred requests together; then everybody is "others"
    expect(allowed).toBe(4_095 + 100);
    expect(limits.take([charge()], 10_000)).toMatchObject({ ok: false, name: "1000" });
  });

  test("keys whose window has passed make room for others", () => {
    const limits = createLimits(100);
    let allowed = 0;
    for (let n = 0; n < 10_000; n++)
      if (limits.take([charge({ name: `n ${n}` })], n * 1_000).ok) allowed += 1;
    expect([allowed, limits.size()]).toEqual([10_000, 100]);
  });
});
