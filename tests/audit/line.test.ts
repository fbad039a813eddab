import { describe, expect, test } from "vitest";
import { readLine, renderLine } from "../../daemon/audit/line.ts";
import { FIRST_PREV } from "../../daemon/audit/record.ts";

const record = {
  seq: 5,
  at: "2026-01-02T03:04:05.678Z",
  mono: "123",
  boot: "b007-1",
  kind: "mode.changed",
  prev: FIRST_PREV,
};
const line = renderLine(record, '{"a":1}');

describe("readLine", () => {
  test("reads what renderLine writes, with the fields in canonical order", () => {
    expect(readLine(line)).toEqual({ ok: true, record: { ...record, v: 1, data: { a: 1 } } });
    expect(Object.keys(JSON.parse(line))).toEqual(Object.keys(JSON.parse(line)).sort());
  });

  test.each([
    ["a time without milliseconds", { at: "2026-01-02T03:04:05Z" }],
    ["a time with an offset", { at: "2026-01-02T03:04:05.67+1Z" }],
    ["a time with other digits", { at: "2026-01-02T03:04:05.67٣Z" }],
    ["no boot id", { boot: "" }],
    ["a boot id in upper case", { boot: "B007" }],
    ["a long boot id", { boot: "b".repeat(65) }],
    ["a kind with a space", { kind: "mode changed" }],
    ["no kind", { kind: "" }],
    ["a negative monotonic time", { mono: "-1" }],
    ["a monotonic time with a leading zero", { mono: "01" }],
    ["a monotonic time of 21 digits", { mono: "1".repeat(21) }],
    ["a negative number", { seq: -1 }],
    ["an unsafe number", { seq: 2 ** 53 }],
    ["half a number", { seq: 0.5 }],
  ])("refuses %s", (_name, change) => {
    expect(readLine(renderLine({ ...record, ...change }, "{}"))).toMatchObject({
      ok: false,
      code: "record-shape",
    });
  });

  test.each([
    ["data that is an array", line.replace('{"a":1}', "[1]")],
    ["data that is text", line.replace('{"a":1}', '"a"')],
    ["a number for text", line.replace('"123"', "123")],
    ["another version", line.replace('"v":1', '"v":2')],
    ["a field more", line.replace('"v":1', '"v":1,"w":1')],
    ["a field less", line.replace('"mono":"123",', "")],
    ["another order", line.replace(/^\{("at":"[^"]*"),("boot":"[^"]*")/, "{$2,$1")],
    ["space", `${line} `],
  ])("refuses %s", (_name, text) => {
    expect(readLine(text)).toMatchObject({ ok: false, code: "record-shape" });
  });
});
