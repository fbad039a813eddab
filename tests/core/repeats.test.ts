import { describe, expect, test } from "vitest";
import { createRepeats } from "../../daemon/core/repeats.ts";

describe("repeats", () => {
  test("the first of a cause is told, the rest are counted until the window ends", () => {
    const repeats = createRepeats(100);
    expect([repeats.first("a", 0), repeats.first("a", 50), repeats.first("a", 99)]).toEqual([
      true,
      false,
      false,
    ]);
    expect(repeats.drain(99)).toEqual([]);
    expect(repeats.drain(100)).toEqual([{ key: "a", count: 2 }]);
  });

  test("a cause that goes on is told once a window, one that ended is told anew", () => {
    const repeats = createRepeats(100);
    repeats.first("a", 0);
    repeats.first("a", 10);
    expect(repeats.drain(100)).toHaveLength(1);
    expect(repeats.first("a", 150)).toBe(false);
    expect(repeats.drain(200)).toEqual([{ key: "a", count: 1 }]);
    expect(repeats.drain(300)).toEqual([]);
    expect(repeats.first("a", 301)).toBe(true);
  });

  test("ten thousand different causes are held in bounded space and none is lost", () => {
    const repeats = createRepeats(100);
    let told = 0;
    for (let i = 0; i < 10_000; i++) if (repeats.first(`k${i}`, 0)) told++;
    const counted = repeats.drainAll().reduce((sum, entry) => sum + entry.count, 0);
    expect(told).toBe(257);
    expect(told + counted).toBe(10_000);
  });
});
