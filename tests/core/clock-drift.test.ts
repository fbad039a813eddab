import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  type ClockLook,
  type ClockMove,
  type ClockState,
  clockWhileStopped,
  parseMoment,
  watchClock,
} from "../../daemon/core/clock-drift.ts";

const limits = { maxStepMs: 5_000, maxDriftMs: 300_000 };

function lookAtAll(looks: readonly ClockLook[]): readonly (ClockMove | null)[] {
  let state: ClockState | null = null;
  return looks.map((look) => {
    const seen = watchClock(state, look, limits);
    state = seen.state;
    return seen.moved;
  });
}

/** Looks a second apart whose wall clock is off by these milliseconds. */
function looksWith(offsetsMs: readonly number[]): readonly ClockLook[] {
  return offsetsMs.map((offset, index) => ({
    bootMs: index * 1_000,
    wallMs: 1_000_000 + index * 1_000 + offset,
  }));
}

describe("watchClock", () => {
  test.each([
    ["a first look sets the reference", [0], [null]],
    ["a clock that keeps time is silent", [0, 0, 0], [null, null, null]],
    ["a step forward is told once", [0, 6_000, 6_000, 6_000], [null, 6_000, null, null]],
    ["a step back is negative", [0, -3_600_000, -3_600_000], [null, -3_600_000, null]],
    ["a step of just the limit is not told", [0, 5_000], [null, null]],
    ["two steps are told twice", [0, 6_000, 0], [null, 6_000, -6_000]],
  ])("%s", (_what, offsets, expected) => {
    const moves = lookAtAll(looksWith(offsets));
    expect(moves.map((move) => move?.milliseconds ?? null)).toEqual(expected);
    expect(moves.every((move) => move === null || move.change === "step")).toBe(true);
  });

  test("slow drift is told when it passes the limit, once, and again after as much again", () => {
    const offsets = Array.from({ length: 200 }, (_, index) => index * 4_000);
    const moves = lookAtAll(looksWith(offsets)).filter((move) => move !== null);
    expect(moves.map((move) => [move.change, move.milliseconds])).toEqual([
      ["drift", 304_000],
      ["drift", 304_000],
    ]);
  });

  test("a suspend, which both clocks count, is no move", () => {
    expect(
      lookAtAll([
        { bootMs: 0, wallMs: 1_000_000 },
        { bootMs: 28_800_000, wallMs: 29_800_000 },
      ]),
    ).toEqual([null, null]);
  });

  test("no sequence of small steps takes the clock further than the drift limit unnoticed", () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: -20_000, max: 20_000 }), { maxLength: 300 }), (steps) => {
        let offset = 0;
        let toldAt = 0;
        const offsets = [0, ...steps.map((stepMs) => (offset += stepMs))];
        lookAtAll(looksWith(offsets)).forEach((move, index) => {
          const now = offsets[index] ?? 0;
          if (move !== null) toldAt = now;
          expect(Math.abs(now - toldAt)).toBeLessThanOrEqual(limits.maxDriftMs);
        });
      }),
    );
  });
});

describe("clockWhileStopped", () => {
  const last = { wallMs: 1_000_000, monoNs: 50_000_000_000n, boot: "b007" };
  /** Later by these, in milliseconds, on each clock. */
  const later = (wallMs: number, monoMs: number, boot = "b007") => ({
    wallMs: last.wallMs + wallMs,
    monoNs: last.monoNs + BigInt(monoMs) * 1_000_000n,
    boot,
  });

  test.each([
    ["at once", later(0, 0), /^$/],
    ["an hour later on both clocks", later(3_600_000, 3_600_000), /^$/],
    ["ahead by just the limit", later(65_000, 60_000), /^$/],
    ["behind by just the limit", later(55_000, 60_000), /^$/],
    ["ahead by more", later(65_001, 60_000), /moved by 5001 ms/],
    ["behind by more", later(54_999, 60_000), /moved by -5001 ms/],
    ["set forward by a day", later(86_400_000, 60_000), /moved by 86340000 ms/],
    ["earlier than the last record, by a millisecond", later(-1, 60_000), /1 ms before/],
    ["earlier, and the monotonic clock too, which cannot be", later(-60_000, -60_000), /60000 ms before/],
    ["a monotonic clock that went back", later(0, -6_000), /moved by 6000 ms/],
    ["another boot, later", later(86_400_000, -40_000, "another"), /^$/],
    ["another boot, earlier", later(-86_400_000, -40_000, "another"), /86400000 ms before/],
    ["a wall clock that is no number", { ...later(0, 0), wallMs: Number.NaN }, /before/],
  ])("%s", (_what, now, expected) => {
    expect(clockWhileStopped(last, now, limits)).toMatch(expected);
  });

  test("a record's moment is read, or not at all", () => {
    expect(parseMoment("1970-01-01T00:00:01.500Z", "42", "b")).toEqual({
      wallMs: 1_500,
      monoNs: 42n,
      boot: "b",
    });
    for (const [at, mono] of [
      ["", ""],
      ["yesterday", "42"],
      ["1970-01-01T00:00:01.500Z", ""],
      ["1970-01-01T00:00:01.500Z", "-1"],
      ["1970-01-01T00:00:01.500Z", "0x10"],
    ] as const) {
      expect(parseMoment(at, mono, "b")).toBeNull();
    }
  });
});
