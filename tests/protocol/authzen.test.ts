import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { SearchQuery } from "../../daemon/core/access.ts";
import { readPageToken, renderPageToken, stableText } from "../../daemon/core/search-page.ts";
import {
  MAX_EVALUATIONS,
  readEvaluation,
  readEvaluations,
  readSearch,
} from "../../daemon/protocol/authzen.ts";

const bytes = (value: unknown) => Buffer.from(typeof value === "string" ? value : JSON.stringify(value));
const subject = { type: "user", id: "alice" };
const action = { name: "read" };
const resource = { type: "record", id: "record-1" };
const question = { subject, action, resource };
const withProperty = (literal: string) =>
  bytes(
    `{"subject":{"type":"user","id":"a"},"action":{"name":"read"},"resource":{"type":"r","id":"1","properties":{"p":${literal}}}}`,
  );
const codeOf = (read: { ok: boolean; code?: string }) => (read.ok ? "read" : read.code);

describe("what a body may hold", () => {
  const refused: readonly [what: string, body: Buffer, code: string][] = [
    ["a byte order mark", Buffer.concat([Buffer.from([0xef, 0xbb, 0xbf]), bytes(question)]), "json-invalid"],
    ["invalid UTF-8", Buffer.concat([bytes('{"a":"'), Buffer.from([0xff]), bytes('"}')]), "frame-not-utf8"],
    [
      "an encoded surrogate",
      Buffer.concat([bytes('{"a":"'), Buffer.from([0xed, 0xa0, 0x80]), bytes('"}')]),
      "frame-not-utf8",
    ],
    ["a key twice", bytes('{"subject":1,"subject":2}'), "json-duplicate-key"],
    ["a key twice, once escaped", bytes('{"subject":1,"\\u0073ubject":2}'), "json-duplicate-key"],
    ["deep nesting", bytes("[".repeat(33) + "]".repeat(33)), "json-too-deep"],
    ["very deep nesting", bytes("[".repeat(30_000)), "json-too-deep"],
    ["two values", bytes("{}{}"), "json-invalid"],
    ["a comment", bytes("{}//"), "json-invalid"],
    ["NaN", withProperty("NaN"), "json-invalid"],
    ["null", bytes("null"), "request-invalid"],
    ["a list", bytes("[]"), "request-invalid"],
    ["text", bytes('"x"'), "request-invalid"],
    ["an empty id", bytes({ ...question, subject: { type: "user", id: "" } }), "request-invalid"],
    [
      "a long id",
      bytes({ ...question, subject: { type: "user", id: "x".repeat(1_025) } }),
      "request-invalid",
    ],
    [
      "an id that is half a character",
      bytes('{"subject":{"type":"user","id":"\\ud800"}}'),
      "request-invalid",
    ],
    ["properties that are a list", bytes({ ...question, context: [] }), "request-invalid"],
    ["properties that are null", bytes({ ...question, context: null }), "request-invalid"],
  ];
  test.each(refused)("%s is refused", (_what, body, code) => {
    expect(codeOf(readEvaluation(body))).toBe(code);
    expect(codeOf(readEvaluations(body))).toBe(code);
  });

  const literals: readonly [literal: string, taken: boolean][] = [
    ["0", true],
    ["-1", true],
    ["9007199254740991", true],
    ["-9007199254740991", true],
    ["9007199254740992", false],
    ["9007199254740993", false],
    ["-9007199254740992", false],
    ["9007199254740990.6", false],
    ["0.99999999999999999999999", false],
    ["1.0", false],
    ["1e3", false],
    ["1E3", false],
    ["1e400", false],
    ["1e-400", false],
    ["-0", false],
    ["1.5", false],
    ['"1.5"', true],
    ['"1e400"', true],
    ["null", true],
    ["true", true],
    ['"\\ud83d\\ude00"', true],
    ['"\\ud800"', false],
    ['{"__proto__":1}', false],
    ['{"constructor":1,"prototype":2,"toString":3}', true],
    ['{"\\u005f_proto__":1}', false],
    ['{"":1}', false],
    ['{"\\ud800":1}', false],
    [`"${"x".repeat(8_192)}"`, true],
    [`"${"x".repeat(8_193)}"`, false],
    [`[${Array(256).fill("1").join(",")}]`, true],
    [`[${Array(257).fill("1").join(",")}]`, false],
    [`${"[".repeat(7)}${"]".repeat(7)}`, true],
    [`${"[".repeat(9)}${"]".repeat(9)}`, false],
  ];
  test.each(literals)("a property %s is taken: %s", (literal, taken) => {
    expect(codeOf(readEvaluation(withProperty(literal)))).toBe(taken ? "read" : "request-invalid");
    // where a number elsewhere is no plain integer, numbers are read another way: to the same end
    const beside = Buffer.from(withProperty(literal).toString().replace("{", '{"later":1.5,'));
    expect(codeOf(readEvaluation(beside))).toBe(taken ? "read" : "request-invalid");
  });

  test("a number that is not to be had is no obstacle where nobody uses it", () => {
    expect(
      readEvaluation(bytes(`{"later":1.5,"__proto__":{"subject":1},${JSON.stringify(question).slice(1)}`)),
    ).toEqual({
      ok: true,
      value: {
        subject: { ...subject, properties: {} },
        action: { ...action, properties: {} },
        resource: { ...resource, properties: {} },
        context: {},
      },
    });
  });

  test("a name of Object.prototype is no field", () => {
    const read = readEvaluation(bytes(`{"__proto__":${JSON.stringify(question)}}`));
    expect(codeOf(read)).toBe("request-invalid");
    const item = readEvaluations(bytes(`{"evaluations":[{"__proto__":${JSON.stringify(question)}}]}`));
    expect(item.ok && item.value.kind === "many" && item.value.items.map(codeOf)).toEqual([
      "request-invalid",
    ]);
  });

  const json = fc.jsonValue({ maxDepth: 6 });
  const text = fc.oneof(
    json.map((value) => JSON.stringify(value)),
    fc.string({ unit: "binary" }),
    fc.string(),
    fc.constantFrom('{"a":', "1e400", '"\\ud800"', "﻿{}", "[[[[", '{"__proto__":{}}'),
  );
  const near = fc.record(
    {
      subject: fc.oneof(fc.constant(subject), json),
      action: fc.oneof(fc.constant(action), json),
      resource: fc.oneof(fc.constant(resource), json),
      context: json,
      evaluations: fc.oneof(fc.array(fc.oneof(fc.constant(question), json), { maxLength: 4 }), json),
      options: json,
      page: json,
    },
    { requiredKeys: [] },
  );

  test("whatever comes is read, or refused with a reason; nothing is thrown", () => {
    const any = fc.oneof(
      fc.uint8Array({ maxLength: 200 }).map((raw) => Buffer.from(raw)),
      text.map((each) => Buffer.from(each)),
      near.map(bytes),
    );
    fc.assert(
      fc.property(any, (body) => {
        const all = [
          readEvaluation(body),
          readEvaluations(body),
          ...(["subject", "resource", "action"] as const).map((kind) => readSearch(kind, body)),
        ];
        for (const read of all) {
          if (!read.ok) expect(read.why.length).toBeGreaterThan(0);
          else expect(typeof read.value).toBe("object");
        }
      }),
      { numRuns: 1_000 },
    );
  });

  test("what is read is what was sent", () => {
    const plain = fc.oneof(
      fc.boolean(),
      fc.constant(null),
      fc.maxSafeInteger().map((n) => n + 0),
      fc.string({ unit: "grapheme", maxLength: 20 }),
    );
    const name = fc
      .string({ unit: "grapheme", minLength: 1, maxLength: 8 })
      .filter((each) => each !== "__proto__");
    const properties = fc.dictionary(name, fc.oneof(plain, fc.array(plain, { maxLength: 3 })), {
      maxKeys: 4,
    });
    fc.assert(
      fc.property(properties, properties, name, (first, second, id) => {
        const sent = {
          subject: { type: "user", id, properties: first },
          action: { name: id, properties: {} },
          resource: { type: "record", id, properties: second },
          context: first,
        };
        const read = readEvaluation(bytes(sent));
        expect(read.ok && stableText(read.value)).toBe(stableText(JSON.parse(JSON.stringify(sent))));
      }),
    );
  });
});

describe("evaluations", () => {
  const itemsOf = (body: object) => {
    const read = readEvaluations(bytes(body));
    if (!read.ok || read.value.kind !== "many") throw new Error("not many");
    return read.value.items;
  };

  test("an entity of an item replaces the default's, its properties too", () => {
    const [item] = itemsOf({
      ...question,
      subject: { ...subject, properties: { role: "admin" } },
      context: { ip: "a" },
      evaluations: [{ subject: { id: "bob" }, context: {} }],
    });
    expect(item).toMatchObject({
      ok: true,
      value: { subject: { type: "user", id: "bob", properties: {} }, context: {} },
    });
    expect(item?.ok && Object.keys(item.value.subject.properties)).toEqual([]);
    expect(item?.ok && Object.keys(item.value.context)).toEqual([]);
  });

  test("null is not nothing: it takes no default", () => {
    const bad = [
      { subject: null },
      { action: null },
      { resource: null },
      { context: null },
      null,
      5,
      [],
      "x",
    ];
    expect(itemsOf({ ...question, evaluations: bad }).map(codeOf)).toEqual(bad.map(() => "request-invalid"));
  });

  test("a hundred, and no more", () => {
    const many = (count: number) => ({ ...question, evaluations: Array.from({ length: count }, () => ({})) });
    expect(itemsOf(many(MAX_EVALUATIONS))).toHaveLength(MAX_EVALUATIONS);
    expect(codeOf(readEvaluations(bytes(many(MAX_EVALUATIONS + 1))))).toBe("request-invalid");
  });

  test.each([
    ["an unknown semantic", { options: { evaluations_semantic: "all" } }],
    ["options that are text", { options: "execute_all" }],
    ["evaluations that are an object", { evaluations: {} }],
    ["a default that is text", { subject: "alice", evaluations: [{}] }],
  ])("%s is refused as a whole", (_what, more) => {
    expect(codeOf(readEvaluations(bytes({ ...question, evaluations: [{}], ...more })))).toBe(
      "request-invalid",
    );
  });
});

describe("page tokens", () => {
  const query: SearchQuery = {
    kind: "action",
    subject: { ...subject, properties: {} },
    resource: { ...resource, properties: {} },
    context: {},
  };

  test("go round, for their own question only", () => {
    fc.assert(
      fc.property(fc.string({ unit: "grapheme" }), fc.nat(1_000), (after, limit) => {
        const token = renderPageToken(query, { after, limit });
        expect(readPageToken(query, token)).toEqual({ after, limit });
        expect(readPageToken({ ...query, context: { ip: 1 } }, token)).toBeNull();
      }),
    );
  });

  test("whatever else comes is none", () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.base64String(), fc.json().map(encoded)), (token) => {
        expect(readPageToken(query, token)).toBeNull();
      }),
    );
  });
});

function encoded(text: string): string {
  return Buffer.from(text).toString("base64url");
}
