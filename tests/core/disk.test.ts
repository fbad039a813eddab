import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Room, roomAfter } from "../../daemon/core/disk.ts";

describe("room on the log's disk", () => {
  test.each<[Room, number | null, Room]>([
    ["ok", 1000, "ok"],
    ["ok", 999, "low"],
    ["ok", 0, "low"],
    ["ok", null, "low"],
    ["low", 999, "low"],
    ["low", 1000, "low"],
    ["low", 1249, "low"],
    ["low", 1250, "ok"],
    ["low", null, "low"],
  ])("that was %s, with %s bytes free, is %s", (before, free, after) => {
    expect(roomAfter(before, free, 1000)).toBe(after);
  });

  test("is never ok below the mark, always ok well above, and stays as it is in between", () => {
    fc.assert(
      fc.property(
        fc.constantFrom<Room>("ok", "low"),
        fc.nat(),
        fc.integer({ min: 1, max: 2 ** 40 }),
        (before, free, mark) => {
          const after = roomAfter(before, free, mark);
          if (free < mark) expect(after).toBe("low");
          else if (free >= mark * 1.25) expect(after).toBe("ok");
          else expect(after).toBe(before);
        },
      ),
    );
  });
});
