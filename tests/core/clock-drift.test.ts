import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  type ClockLook,
  type ClockMove,
  type ClockState,
  clockWhileStopped,
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
  const last = { lastAt: "2026-01-02T03:04:05.000Z", lastMono: "50000000000", lastBoot: "b007" };
  /** Later by these, in milliseconds, on each clock. */
  const later = (wallMs: number, monoMs: number, boot = "b007") => ({
    wallMs: Date.UTC(2026, 0, 2, 3, 4, 5) + wallMs,
    monoNs: BigInt(50_000 + monoMs) * 1_000_000n,
    boot,
  });

  test.each([
    ["at once", later(0, 0), ""],
    ["an hour later on both clocks", later(3_600_000, 3_600_000), ""],
    ["ahead by just the limit", later(65_000, 60_000), ""],
    ["behind by just the limit", later(55_000, 60_000), ""],
    ["ahead by more", later(65_001, 60_000), "moved by 5001 ms"],
    ["behind by more", later(54_999, 60_000), "moved by -5001 ms"],
    ["set forward by a day", later(86_400_000, 60_000), "moved by 86340000 ms"],
    ["earlier than the last record, by a millisecond", later(-1, 60_000), "1 ms before"],
    ["earlier on both clocks, which cannot be", later(-40_000, -40_000), "40000 ms before"],
    ["a monotonic clock that went back", later(0, -6_000), "moved by 6000 ms"],
    ["another boot, later", later(86_400_000, -40_000, "another"), ""],
    ["another boot, earlier", later(-86_400_000, -40_000, "another"), "86400000 ms before"],
  ])("%s", (_what, now, expected) => {
    const why = clockWhileStopped(last, now, limits);
    expect(expected === "" ? why === "" : why.includes(expected)).toBe(true);
  });

  test.each([
    ["no record at all is nothing to compare with", { lastAt: "", lastMono: "", lastBoot: "" }, ""],
    [
      "a time that is none",
      { ...last, lastAt: "yesterday" },
      "the time of the log's last record cannot be read",
    ],
    ["no monotonic time", { ...last, lastMono: "" }, "the time of the log's last record cannot be read"],
    ["a negative one", { ...last, lastMono: "-1" }, "the time of the log's last record cannot be read"],
  ])("%s", (_what, record, expected) => {
    expect(clockWhileStopped(record, later(0, 0), limits)).toBe(expected);
  });
});
