import fc from "fast-check";
import { expect, test } from "vitest";
import { findShapes, SHAPE_BEGINNINGS } from "../../daemon/core/secret-shapes.ts";

const piece = fc.oneof(
  fc.constantFrom(...SHAPE_BEGINNINGS),
  fc.constantFrom(...SHAPE_BEGINNINGS).map((beginning) => Array.from(beginning).join("\n")),
  fc.string({ unit: fc.constantFrom(..."aZ09_-.=+/ \n\v,:"), maxLength: 60 }),
  fc.integer({ min: 1, max: 120 }).map((length) => "b7Q".repeat(length)),
);

test("what is found does not depend on what else is looked for", () => {
  // behind a character that is in no secret, every beginning: with it all shapes are looked for
  const all = `\0${SHAPE_BEGINNINGS.join("\0")}`;
  let found = 0;
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 12 }), (pieces) => {
      const text = pieces.join("");
      const alone = findShapes(text);
      found += alone.length;
      expect(findShapes(text + all).filter(({ start }) => start < text.length)).toEqual(alone);
    }),
    { numRuns: 2_000 },
  );
  expect(found).toBeGreaterThan(500);
});

test("more combinations of shapes than are kept, and the first of them again", () => {
  const secretOf = (beginning: string) => `${beginning}${"a7Q".repeat(40)}`;
  const pairs = SHAPE_BEGINNINGS.flatMap((one) => SHAPE_BEGINNINGS.slice(0, 3).map((other) => [one, other]));
  const counts = () => pairs.map((pair) => findShapes(pair.map(secretOf).join("\0 ")).length);
  const first = counts();
  expect(counts()).toEqual(first);
  expect(first.filter((count) => count > 0).length).toBeGreaterThan(400);
});
