import { expect, test } from "vitest";
import { isSegmentFull } from "../../daemon/core/rotation.ts";

const limits = { segmentBytes: 100, segmentAgeMs: 60_000 };
const since = "2026-01-02T03:04:05.000Z";
const sinceMs = Date.parse(since);

test.each([
  ["empty and new", { bytes: 0, since: "" }, sinceMs, false],
  ["one byte under the size", { bytes: 99, since }, sinceMs, false],
  ["at the size", { bytes: 100, since }, sinceMs, true],
  ["a millisecond under the age", { bytes: 1, since }, sinceMs + 59_999, false],
  ["at the age", { bytes: 1, since }, sinceMs + 60_000, true],
  ["of a time that is soon to come", { bytes: 1, since }, sinceMs - 59_999, false],
  ["of a time far ahead: the clock was set back", { bytes: 1, since }, sinceMs - 1_000_000, true],
  ["large, and of a time that cannot be read", { bytes: 100, since: "?" }, sinceMs, true],
])("%s", (_name, segment, nowMs, full) => {
  expect(isSegmentFull(segment, limits, nowMs)).toBe(full);
});
