import { expect, test } from "vitest";
import { createUnaccepted } from "../../daemon/core/unaccepted.ts";

test("holds a path until a person accepts what was seen after it", () => {
  const unaccepted = createUnaccepted(2);
  unaccepted.add("/a");
  const seen = unaccepted.mark();
  unaccepted.add("/b");
  unaccepted.clearUpTo(seen);
  expect([unaccepted.has("/a"), unaccepted.has("/b")]).toEqual([false, true]);
});

test("a path that is added again after the look is not accepted with it", () => {
  const unaccepted = createUnaccepted(2);
  unaccepted.add("/a");
  const seen = unaccepted.mark();
  unaccepted.add("/a");
  unaccepted.clearUpTo(seen);
  expect(unaccepted.has("/a")).toBe(true);
});

test("beyond its limit it is full until a person accepts", () => {
  const unaccepted = createUnaccepted(2);
  for (const path of ["/a", "/b", "/a"]) unaccepted.add(path);
  expect(unaccepted.isFull()).toBe(false);
  const before = unaccepted.mark();
  unaccepted.add("/c");
  unaccepted.clearUpTo(before);
  expect(unaccepted.isFull()).toBe(true);
  unaccepted.clearUpTo(unaccepted.mark());
  expect(unaccepted.isFull()).toBe(false);
});
