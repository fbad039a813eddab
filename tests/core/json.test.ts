import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { decodeUtf8, parseStrictJson } from "../../daemon/core/json.ts";

const limits = { maxDepth: 4 };

describe("parseStrictJson", () => {
  test.each([
    ["null", null],
    [" 12.5e3 ", 12_500],
    ['"a:b{[,\\"\\\\"', 'a:b{[,"\\'],
    ['{"a":{"a":[1,{"a":2}]},"b":{"a":3}}', { a: { a: [1, { a: 2 }] }, b: { a: 3 } }],
    ['{"":{}}', { "": {} }],
  ])("reads %s", (text, value) => {
    expect(parseStrictJson(text, limits)).toEqual({ ok: true, value });
  });

  test.each([
    ["", "json-invalid", 0],
    ['{"a":1,}', "json-invalid", 7],
    ['{"a":1} {}', "json-invalid", 8],
    ['"open', "json-invalid", 5],
    ["\ufeff{}", "json-invalid", 3],
    ["[[[[[]]]]]", "json-too-deep", 4],
    ['{"a":[{"b":[{', "json-too-deep", 12],
    ['{"a":1,"a":1}', "json-duplicate-key", 7],
    ['{"a":1,"\\u0061":2}', "json-duplicate-key", 7],
    ['{"x":{"a":1,"b":2,"a":3}}', "json-duplicate-key", 18],
    ['[{"a":1},{"a":"a:","a" : 3}]', "json-duplicate-key", 19],
    ['{"__proto__":1,"__proto__":2}', "json-duplicate-key", 15],
  ])("refuses %j with %s at %i", (text, code, at) => {
    expect(parseStrictJson(text, limits)).toEqual({ ok: false, code, at });
  });

  test("takes prototype names as plain keys", () => {
    const result = parseStrictJson('{"__proto__":{"admin":1},"constructor":{},"toString":1}', limits);
    expect(result.ok && Object.keys(Object(result.value))).toEqual(["__proto__", "constructor", "toString"]);
    expect(result.ok && Object.getPrototypeOf(result.value)).toBe(Object.prototype);
    expect("admin" in {}).toBe(false);
  });

  test("a text of nothing but opened brackets neither overflows nor takes long", () => {
    expect(parseStrictJson("[".repeat(1_000_000), limits)).toMatchObject({ code: "json-too-deep" });
    expect(parseStrictJson(`"${'\\"'.repeat(200_000)}"`, limits)).toMatchObject({ ok: true });
  });

  test("agrees with JSON.parse on everything that has no duplicate keys", () => {
    fc.assert(
      fc.property(fc.jsonValue({ maxDepth: 3 }), (value) => {
        const text = JSON.stringify(value);
        expect(parseStrictJson(text, { maxDepth: 32 })).toEqual({ ok: true, value: JSON.parse(text) });
      }),
    );
  });

  test("finds every duplicated key, wherever it is", () => {
    const objects = fc.dictionary(fc.string(), fc.jsonValue({ maxDepth: 2 }), { minKeys: 1 });
    fc.assert(
      fc.property(objects, fc.nat(), fc.nat(), (object, which, depth) => {
        const members = Object.entries(object).map(
          ([key, value]) => `${JSON.stringify(key)}:${JSON.stringify(value)}`,
        );
        const twice = [...members, members[which % members.length]].join(",");
        const text = `${'{"k":['.repeat(depth % 5)}{${twice}}${"]}".repeat(depth % 5)}`;
        expect(parseStrictJson(text, { maxDepth: 32 })).toMatchObject({ code: "json-duplicate-key" });
      }),
    );
  });

  test("never throws, and takes nothing that JSON.parse refuses", () => {
    const noise = fc.string({
      unit: fc.constantFrom(...'{}[]",:\\u0123456789abcdefnult -+.e\ud800é'),
      maxLength: 60,
    });
    fc.assert(
      fc.property(noise, (text) => {
        const result = parseStrictJson(text, limits);
        if (result.ok) expect(result.value).toEqual(JSON.parse(text));
        else expect(result.at).toBeGreaterThanOrEqual(0);
      }),
      { numRuns: 2_000 },
    );
  });
});

describe("decodeUtf8", () => {
  test("decodes what is UTF-8, byte order mark and all", () => {
    expect(decodeUtf8(Buffer.from("\ufeffgrün 🙂"))).toEqual({ ok: true, value: "\ufeffgrün 🙂" });
    expect(decodeUtf8(new Uint8Array(Buffer.from("xabcx")).subarray(1, 4))).toEqual({
      ok: true,
      value: "abc",
    });
  });

  test.each(["ff", "c0af", "eda080", "f4908080", "e282", "61e28261"])("refuses the bytes %s", (hex) => {
    expect(decodeUtf8(Buffer.from(hex, "hex"))).toEqual({ ok: false, code: "frame-not-utf8" });
  });
});
