import { expect, test } from "vitest";
import { FIRST_PREV, type LogRecord } from "../daemon/audit/record.ts";
import { createFeed } from "../daemon/feed.ts";

const record = (seq: number, over: Partial<LogRecord> = {}): LogRecord => ({
  v: 1,
  seq,
  at: "2026-01-01T00:00:00.000Z",
  mono: "1",
  boot: "b",
  kind: "decision",
  data: { n: seq },
  prev: FIRST_PREV,
  ...over,
});

test("the newest events come last, seals are left out, and no more than 200 are told", () => {
  const feed = createFeed();
  for (let seq = 0; seq < 1_000; seq++) feed.publish(record(seq, seq % 2 === 0 ? {} : { kind: "seal" }));
  expect(feed.list(3).map((event) => event.seq)).toEqual([994, 996, 998]);
  expect(feed.list(10_000)).toHaveLength(200);
});

test("a list fits into one frame, and a large event says where to read it", () => {
  const feed = createFeed();
  for (let seq = 0; seq < 50; seq++) feed.publish(record(seq, { data: { text: "x".repeat(7_000) } }));
  feed.publish(record(50, { data: { text: "x".repeat(60_000) } }));
  const listed = feed.list(200);
  expect(Buffer.byteLength(JSON.stringify(listed))).toBeLessThan(65_536);
  expect(listed.at(-1)?.data).toEqual({ omitted: expect.stringContaining("read record 50") });
});

test("a watcher is told until it says that it has gone", () => {
  const feed = createFeed();
  const seen: number[] = [];
  feed.subscribe({}, (event) => seen.push(event.seq) < 2);
  const stop = feed.subscribe({}, () => true);
  for (let seq = 0; seq < 5; seq++) feed.publish(record(seq));
  stop();
  expect(seen).toEqual([0, 1]);
});

test("a subscriber that asks again and again is told once", () => {
  const feed = createFeed();
  const subscriber = {};
  let told = 0;
  for (let i = 0; i < 1_000; i++) {
    feed.subscribe(subscriber, () => {
      told += 1;
      return true;
    });
  }
  feed.publish(record(0));
  expect(told).toBe(1);
});
