import { readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { escapeParam, hostnameOf, renderFrame, severityOf } from "../../../cli/ship/syslog-message.ts";
import { renderCanonical } from "../../../daemon/audit/canonical.ts";
import { renderLine } from "../../../daemon/audit/line.ts";
import { type LogRecord, RECORD_KINDS } from "../../../daemon/audit/record.ts";
import { recordOf } from "../../audit/fixture.ts";
import { parseSyslog } from "../../support/syslog-reader.ts";

const SENDER = { hostname: "host.example", procId: "42" };

function lineOf(changes: Partial<Omit<LogRecord, "v">> = {}): string {
  const record = {
    at: "2026-01-02T03:04:05.678Z",
    boot: "b-1",
    kind: "decision",
    mono: "123",
    prev: "0".repeat(64),
    seq: 7,
    ...changes,
  };
  return renderLine(record, renderCanonical(changes.data ?? {}));
}

const messageOf = (text: string): string => {
  const frame = renderFrame({ record: recordOf(text), text }, SENDER);
  const blank = frame.indexOf(" ");
  expect(frame.length - blank - 1).toBe(Number(frame.toString("ascii", 0, blank)));
  return frame.toString("utf8", blank + 1);
};

describe("a message", () => {
  test("is what RFC 5424 says, and MSG is the line", () => {
    const line = lineOf();
    expect(messageOf(line)).toBe(
      `<110>1 2026-01-02T03:04:05.678Z host.example boundary-daemon 42 decision [boundary@32473 seq="7" boot="b-1" mono="123"] ${line}`,
    );
  });

  test("a byte order mark stands before what is not ASCII, and only there", () => {
    const line = lineOf({ data: { text: "größer" } });
    expect(messageOf(line).split('"] ')[1]).toBe(`\ufeff${line}`);
    expect(messageOf(lineOf())).not.toContain("\ufeff");
  });

  test("whatever is in a record, a strict reader gets the line back byte for byte", () => {
    const kind = fc.stringMatching(/^[0-9a-z.-]{1,64}$/);
    const text = fc.string({ unit: "grapheme", maxLength: 60 }).filter((one) => one.isWellFormed());
    const number = fc.nat();
    fc.assert(
      fc.property(kind, text, number, (ofKind, said, seq) => {
        const line = lineOf({ kind: ofKind, seq, data: { said } });
        const read = parseSyslog(messageOf(line));
        expect(read.message).toBe(line);
        expect(read.data).toMatchObject({ seq: String(seq), boot: "b-1", mono: "123" });
        expect(read.msgId).toBe(ofKind.slice(0, 32));
        expect(read.priority).toBe(13 * 8 + severityOf(ofKind));
      }),
    );
  });

  test("values are escaped as a strict reader reads them", () => {
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom('"', "\\", "]", "[", "=", " ", "a", "ä") }), (value) => {
        const text = `<1>1 - - - - - [a@1 x="${escapeParam(value)}"] m`;
        expect(parseSyslog(text).data).toEqual({ x: value });
      }),
    );
  });

  test("a day that there is not is no TIMESTAMP", () => {
    expect(messageOf(lineOf({ at: "2026-02-30T00:00:00.000Z" }))).toMatch(/^<110>1 - host/);
    expect(messageOf(lineOf({ at: "9999-99-99T99:99:99.999Z" }))).toMatch(/^<110>1 - host/);
  });

  test("a host's name is printable ASCII, and never empty", () => {
    expect(["a.b", "höst x", "", "\n", "x".repeat(300)].map(hostnameOf)).toEqual([
      "a.b",
      "hstx",
      "-",
      "-",
      "x".repeat(255),
    ]);
  });

  test("a trip is an alert, a seal is for debugging, what is not known is a notice", () => {
    expect(
      ["tripwire.fired", "mode.apply-failed", "seal", "mode.changed", "not.known"].map(severityOf),
    ).toEqual([1, 2, 7, 5, 5]);
    expect(RECORD_KINDS.map(severityOf).every((severity) => severity > 0 && severity < 8)).toBe(true);
  });

  test("docs/SHIPPING.md has the severities as they are", () => {
    const page = readFileSync(join(import.meta.dirname, "../../../docs/SHIPPING.md"), "utf8");
    const row = /^\| PRI \| (.+) \|$/m.exec(page)?.[1] ?? "";
    const told = [...row.matchAll(/(\d) ((?:`[a-z.-]+`(?:, )?)+)/g)].flatMap(([, severity, kinds = ""]) =>
      [...kinds.matchAll(/`([^`]+)`/g)].map(([, kind = ""]) => [kind, Number(severity)]),
    );
    expect(told.length).toBeGreaterThan(10);
    for (const [kind, severity] of told) expect([kind, severityOf(String(kind))]).toEqual([kind, severity]);
    const named = new Set(told.map(([kind]) => kind));
    for (const kind of RECORD_KINDS)
      if (!named.has(kind)) expect([kind, severityOf(kind)]).toEqual([kind, 5]);
  });
});
