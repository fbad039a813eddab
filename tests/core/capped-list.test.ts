import fc from "fast-check";
import { expect, test } from "vitest";
import { capLines, capList } from "../../daemon/core/capped-list.ts";

test("a short list is whole", () => {
  expect(capList(["a", "b"])).toEqual({ shown: ["a", "b"], more: 0 });
  expect(capLines(["a", "b"])).toEqual(["a", "b"]);
});

test("what does not fit is counted", () => {
  const { shown, more } = capList(Array.from({ length: 100 }, (_, i) => `/${"p".repeat(940)} ${i}`));
  expect(shown.length).toBeGreaterThan(10);
  expect(shown.length + more).toBe(100);
  expect(capLines(Array.from({ length: 100_000 }, () => "abc")).at(-1)).toMatch(/^… and \d+ more$/);
});

test("a long entry shows both its ends", () => {
  const [entry] = capList([`/begin${"x".repeat(5_000)}end modified`]).shown;
  expect(entry).toMatch(/^\/beginx+…x+end modified$/);
});

test("any list fits into a record and a frame, and shows something", () => {
  const text = fc.oneof(fc.string({ unit: "binary", maxLength: 5_000 }), fc.constant("\u0001".repeat(4_096)));
  fc.assert(
    fc.property(fc.array(text, { minLength: 1, maxLength: 60 }), (entries) => {
      const { shown, more } = capList(entries);
      expect(Buffer.byteLength(JSON.stringify(shown))).toBeLessThan(17_000);
      expect(Buffer.byteLength(JSON.stringify(capLines(entries).join("; ")))).toBeLessThan(17_000);
      expect(shown.length + more).toBe(entries.length);
      expect(shown.length).toBeGreaterThan(0);
    }),
    { numRuns: 50 },
  );
});
