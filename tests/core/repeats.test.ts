import { describe, expect, test } from "vitest";
import { createRepeats } from "../../daemon/core/repeats.ts";

describe("repeats", () => {
  test("the first of a cause is told, the rest are counted until the window ends", () => {
    const repeats = createRepeats(100);
    expect([0, 50, 99].map((nowMs) => repeats.first("g", "a", nowMs))).toEqual([true, false, false]);
    expect(repeats.drain(99)).toEqual([]);
    expect(repeats.drain(100)).toEqual([{ group: "g", key: "a", count: 2 }]);
  });

  test("a cause that goes on is told once a window, one that ended is told anew", () => {
    const repeats = createRepeats(100);
    repeats.first("g", "a", 0);
    repeats.first("g", "a", 10);
    expect(repeats.drain(100)).toHaveLength(1);
    expect(repeats.first("g", "a", 150)).toBe(false);
    expect(repeats.drain(200)).toEqual([{ group: "g", key: "a", count: 1 }]);
    expect(repeats.drain(300)).toEqual([]);
    expect(repeats.first("g", "a", 301)).toBe(true);
  });

  test("ten thousand different causes are held in bounded space and none is lost", () => {
    const repeats = createRepeats(100);
    let told = 0;
    for (let i = 0; i < 10_000; i++) if (repeats.first("g", `k${i}`, 0)) told++;
    const counted = repeats.drainAll().reduce((sum, entry) => sum + entry.count, 0);
    expect(told).toBeLessThanOrEqual(65);
    expect(told + counted).toBe(10_000);
  });

  test("the noise of one group hides nothing of another", () => {
    const repeats = createRepeats(100);
    for (let i = 0; i < 10_000; i++) repeats.first("noisy", `k${i}`, 0);
    expect(repeats.first("quiet", "a", 0)).toBe(true);
  });
});
