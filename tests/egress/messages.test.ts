import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ConfigSchema } from "../../daemon/core/config.ts";
import { createFrameReader, renderFrame } from "../../daemon/core/frames.ts";
import { MAX_ENTRIES } from "../../daemon/egress/allowlist.ts";
import { MAX_EGRESS_FRAME, readFromDaemon, readFromEgress } from "../../daemon/egress/messages.ts";
import { settingsIn } from "../../daemon/egress/settings.ts";

const ID = "0123456789abcdef0123456789abcdef";
const OPENED = {
  run: ID,
  way: "tls",
  host: "a.example",
  port: 443,
  addresses: ["93.184.216.34"],
  serverName: "a.example",
  decision: 1,
};
const CLOSED = {
  run: ID,
  way: "tls",
  host: "a.example",
  port: 443,
  opened: 2,
  connections: 1,
  sent: 0,
  received: 3,
  ms: 4,
  why: "over",
  failed: "idle",
};
const FROM_EGRESS = [
  { kind: "ready" },
  { kind: "opened", id: ID },
  { kind: "refused", id: ID, why: "no" },
  { kind: "ask", id: ID, n: 1, host: "a.example", port: 443 },
  { kind: "record", id: ID, n: 2, entry: { kind: "egress.opened", data: OPENED } },
  {
    kind: "record",
    id: ID,
    n: 3,
    entry: { kind: "egress.refused", data: { run: ID, code: "http-invalid", why: "" } },
  },
  { kind: "record", id: ID, n: 4, entry: { kind: "egress.repeated", data: { run: ID, count: 3, first: 3 } } },
  { kind: "record", id: ID, n: 5, entry: { kind: "egress.closed", data: CLOSED } },
  { kind: "ended", id: ID },
];
const LISTS = { global: ["a.example"], project: null, blueprint: [], session: null };
const FROM_DAEMON = [
  { kind: "hello", settings: settingsIn(ConfigSchema.parse({}).egress) },
  { kind: "open", id: ID, lists: LISTS },
  { kind: "answer", id: ID, n: 1, allow: true, why: "" },
  { kind: "recorded", id: ID, n: 2, durable: false },
  { kind: "end", id: ID, why: "mode AIRGAP" },
];

describe.each([
  ["the egress process", FROM_EGRESS, readFromEgress],
  ["the daemon", FROM_DAEMON, readFromDaemon],
] as const)("what %s says", (_who, messages, read) => {
  test("is read as it was said, however its bytes come", () => {
    const bytes = Buffer.concat(messages.map(renderFrame));
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 90 }), { minLength: 1 }), (sizes) => {
        const reader = createFrameReader(MAX_EGRESS_FRAME);
        const seen: unknown[] = [];
        for (let at = 0, turn = 0; at < bytes.length; turn++) {
          const size = sizes[turn % sizes.length] ?? 1;
          for (const frame of reader.push(bytes.subarray(at, at + size))) {
            const heard = frame.ok ? read(frame.value) : frame;
            seen.push(heard.ok ? heard.message : heard.why);
          }
          at += size;
        }
        expect(seen).toEqual(messages);
      }),
    );
  });

  test("anything else is a reason, never an exception", () => {
    const spoiled = fc
      .tuple(fc.constantFrom(...messages), fc.string(), fc.jsonValue())
      .map(([message, name, value]) => ({ ...message, [name]: value }));
    fc.assert(
      fc.property(fc.oneof(fc.jsonValue(), spoiled), (value) => {
        const heard = read(value);
        expect(typeof (heard.ok ? heard.message.kind : heard.why)).toBe("string");
      }),
      { numRuns: 1_000 },
    );
  });

  test("a field that is not known, a number or an id that is none are refused", () => {
    for (const message of messages) {
      expect(read({ ...message, more: 1 }).ok).toBe(false);
      if ("id" in message) expect(read({ ...message, id: "../x" }).ok).toBe(false);
      if ("n" in message)
        for (const n of [0, -1, 1.5, 2 ** 53, "1"]) expect(read({ ...message, n }).ok).toBe(false);
    }
  });
});

test("a record is one of egress's four kinds, with its fields alone", () => {
  const entry = (kind: string, data: object) =>
    readFromEgress({ kind: "record", id: ID, n: 1, entry: { kind, data } });
  expect(entry("egress.opened", OPENED).ok).toBe(true);
  for (const kind of ["mode.changed", "decision", "exec.started", "egress.other", "egress.closed", ""])
    expect(entry(kind, OPENED).ok).toBe(false);
  for (const more of [
    { mode: "OPEN" },
    { host: "a\nb" },
    { host: "x".repeat(513) },
    { port: 0 },
    { way: "udp" },
    { addresses: [] },
    { addresses: Array(9).fill("1.1.1.1") },
    { addresses: ["example.com"] },
    { decision: -1 },
    { run: "x" },
  ])
    expect([more, entry("egress.opened", { ...OPENED, ...more }).ok]).toEqual([more, false]);
  const refused = { run: ID, code: "egress-denied", why: "no" };
  expect(entry("egress.refused", refused).ok).toBe(true);
  expect(entry("egress.refused", { ...refused, code: "exec-denied" }).ok).toBe(false);
  expect(entry("egress.refused", { ...refused, why: "x".repeat(201) }).ok).toBe(false);
});

test("the longest lists there can be fit a frame, and the longest record the process's", () => {
  const list = Array.from({ length: MAX_ENTRIES }, () => "ü".repeat(300));
  const lists = { global: list, project: list, blueprint: list, session: list };
  expect(() => renderFrame({ kind: "open", id: ID, lists })).not.toThrow();
  const entry = {
    kind: "egress.closed",
    data: { ...CLOSED, host: "x".repeat(512), why: "\u0001".repeat(1_024), failed: "\u0001".repeat(1_024) },
  };
  expect(renderFrame({ kind: "record", id: ID, n: 1, entry }).length).toBeLessThan(MAX_EGRESS_FRAME);
});
