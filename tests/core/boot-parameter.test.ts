import * as fc from "fast-check";
import { expect, test } from "vitest";
import { isReleased } from "../../daemon/core/boot-parameter.ts";

test.each([
  ["boundary.release=1", true],
  ["quiet boundary.release=1 console=ttyS0\n", true],
  ["quiet\tboundary.release=1", true],
  ["boundary.release=0", false],
  ["boundary.release=10", false],
  ["boundary.release", false],
  ["xboundary.release=1", false],
  ["BOUNDARY.RELEASE=1", false],
  ['dyndbg="file x boundary.release=1 +p"', false],
  ['a="b c" boundary.release=1', true],
  ["quiet -- boundary.release=1", false],
  ["boundary.release=1 -- init", true],
  ["", false],
])("%j: %s", (line, released) => {
  expect(isReleased(line)).toBe(released);
});

test("it is released by the word alone, wherever it stands, and by no text around it", () => {
  const word = fc.stringMatching(/^[A-Za-z0-9_.=,/-]{1,20}$/).filter((each) => each !== "--");
  fc.assert(
    fc.property(fc.array(word), fc.array(word), (before, after) => {
      const others = [...before, ...after].filter((each) => each !== "boundary.release=1");
      expect(isReleased(others.join(" "))).toBe(false);
      expect(isReleased([...before, "boundary.release=1", ...after].join(" "))).toBe(true);
    }),
  );
  fc.assert(fc.property(fc.string(), (text) => typeof isReleased(text) === "boolean"));
});
