import { existsSync, readFileSync } from "node:fs";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { MAX_DATA_DEPTH, makeWellFormed, renderCanonical } from "../../daemon/audit/canonical.ts";
import { readCanonical } from "../../daemon/audit/canonical-read.ts";
import type { Data, Value } from "../../daemon/audit/record.ts";
import { codeOf } from "./fixture.ts";

const VECTORS = "../shared/data/jcs/testdata";
const absent = !existsSync(VECTORS);

const text = fc.string({ unit: "binary" }).filter((each) => each.isWellFormed());
const { data } = fc.letrec<{ value: Value; data: Data }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 5 },
    text,
    fc.maxSafeInteger(),
    fc.array(tie("value"), { maxLength: 4 }),
    tie("data"),
  ),
  data: fc.dictionary(fc.oneof(text, fc.constant("__proto__")), tie("value"), { maxKeys: 5 }),
}));

describe.skipIf(absent)(`RFC 8785 vectors${absent ? ` (skipped: ${VECTORS} is not here)` : ""}`, () => {
  // arrays and values hold literals or floats, which records cannot: see the refusals below
  test.each(["french", "structures", "unicode", "weird"])("%s.json", (name) => {
    const input = JSON.parse(readFileSync(`${VECTORS}/input/${name}.json`, "utf8"));
    const expected = readFileSync(`${VECTORS}/output/${name}.json`, "utf8").trimEnd();
    expect(renderCanonical(input)).toBe(expected);
  });

  test.each(["arrays", "values"])("%s.json is refused: it holds what records cannot", async (name) => {
    const input = JSON.parse(readFileSync(`${VECTORS}/input/${name}.json`, "utf8"));
    expect(await codeOf(() => renderCanonical(input))).toBe("record-invalid");
  });
});

describe("renderCanonical", () => {
  test("orders keys by UTF-16 units at every level and escapes as RFC 8785 says", () => {
    const value = {
      "\u20ac": 1,
      "\r": 2,
      "1": { b: -5, a: [] },
      "\ud83d\ude02": '\u0001\b\t"\\/\u007f',
      "\ufb33": [{}, "é"],
    };
    expect(renderCanonical(value)).toBe(
      '{"\\r":2,"1":{"a":[],"b":-5},"€":1,"😂":"\\u0001\\b\\t\\"\\\\/\u007f","\ufb33":[{},"é"]}',
    );
  });

  const cycle: Record<string, unknown> = {};
  cycle["self"] = [cycle, cycle];
  const deep = (levels: number) => JSON.parse(`${'{"a":'.repeat(levels)}1${"}".repeat(levels)}`);
  // biome-ignore lint/suspicious/noSparseArray: holes are what is tested
  const holes = [1, , 2];
  test.each([
    ["a float", { a: 0.5 }],
    ["minus zero", { a: -0 }],
    ["NaN", { a: Number.NaN }],
    ["an unsafe integer", { a: 2 ** 53 }],
    ["a bigint", { a: 1n }],
    ["a boolean", { a: true }],
    ["null", { a: null }],
    ["undefined", { a: undefined }],
    ["a hole", { a: holes }],
    ["a function", { a: () => 1 }],
    ["a date", { a: new Date(0) }],
    ["a map", { a: new Map() }],
    ["a lone surrogate", { a: "x\ud800" }],
    ["a lone surrogate in a key", { "\udc00": 1 }],
    ["a cycle", cycle],
    ["33 levels", deep(MAX_DATA_DEPTH + 1)],
    ["null itself", null],
  ])("refuses %s", async (_name, value) => {
    expect(await codeOf(() => renderCanonical(value as unknown as Data))).toBe("record-invalid");
  });

  test("takes 32 levels and both ends of the safe integers", () => {
    expect(renderCanonical(deep(MAX_DATA_DEPTH)).length).toBe(MAX_DATA_DEPTH * 6 + 1);
    expect(renderCanonical({ a: Number.MAX_SAFE_INTEGER, b: Number.MIN_SAFE_INTEGER })).toBe(
      '{"a":9007199254740991,"b":-9007199254740991}',
    );
  });

  test("what it gives is JSON of the same value, however the keys came", () => {
    fc.assert(
      fc.property(data, (value) => {
        const rendered = renderCanonical(value);
        expect(JSON.parse(rendered)).toEqual(value);
        const reversed = Object.fromEntries(Object.entries(value).toReversed());
        expect(renderCanonical(reversed)).toBe(rendered);
      }),
    );
  });
});

describe("readCanonical", () => {
  test("reads back what was rendered", () => {
    fc.assert(
      fc.property(data, (value) => {
        expect(readCanonical(renderCanonical(value), 32)).toEqual(JSON.parse(JSON.stringify(value)));
      }),
    );
  });

  test.each([
    '{"b":1,"a":2}',
    '{"a":1,"a":1}',
    '{"a": 1}',
    '{"a":01}',
    '{"a":-0}',
    '{"a":1.0}',
    '{"a":1e3}',
    '{"a":9007199254740992}',
    '{"a":"\\u0061"}',
    '{"a":"\\/"}',
    '{"a":"\\ud800"}',
    '{"a":true}',
    '{"a":null}',
    '{"a":1}x',
    '{"a":[1,]}',
    '{"a"',
    '["',
    "",
    "-",
    '{"a":"\u0001"}',
    '{"a":"\ud800"}',
  ])("refuses %j, which is not canonical or not ours", (line) => {
    expect(readCanonical(line, 32)).toBeNull();
  });

  test("counts levels", () => {
    expect(readCanonical("[[]]", 2)).toEqual([[]]);
    expect(readCanonical("[[]]", 1)).toBeNull();
    expect(readCanonical("[".repeat(100_000), 32)).toBeNull();
  });

  test("takes no text but the canonical one, even one character away", () => {
    const alphabet = fc.constantFrom(...'{}[]",:\\u0123456789abef -+.e\ud83d\ude02');
    fc.assert(
      fc.property(data, fc.nat(), alphabet, fc.nat(1), (value, where, character, removed) => {
        const canonical = renderCanonical(value);
        const at = where % canonical.length;
        const changed = canonical.slice(0, at) + character + canonical.slice(at + removed);
        const read = readCanonical(changed, 32);
        if (read !== null) expect(renderCanonical(read as Data)).toBe(changed);
      }),
      { numRuns: 3_000 },
    );
  });

  test("a key named __proto__ is a key", () => {
    const read = readCanonical('{"__proto__":{"a":1}}', 32) as object;
    expect(Object.getPrototypeOf(read)).toBe(Object.prototype);
    expect(Object.keys(read)).toEqual(["__proto__"]);
  });
});

test("makeWellFormed replaces lone surrogates in strings and keys, and nothing else", () => {
  expect(makeWellFormed({ "k\ud800": ["\udc00x", 5, { a: "ok 🙂" }] })).toEqual({
    "k\ufffd": ["\ufffdx", 5, { a: "ok 🙂" }],
  });
});
