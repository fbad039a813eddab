import { isDeepStrictEqual } from "node:util";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { AccessRequest, Properties } from "../../daemon/core/access.ts";
import { accessDigest, describeAccess } from "../../daemon/core/access-text.ts";

const REQUEST: AccessRequest = {
  subject: { type: "Agent", id: "a1", properties: {} },
  action: { name: "tool.run", properties: { reach: "network" } },
  resource: { type: "tool", id: "curl", properties: { b: 1, a: [true, null, 1.5] } },
  context: { host: "example.org" },
};
const json = fc.jsonValue({ maxDepth: 4 }) as fc.Arbitrary<Properties[string]>;
const properties = fc.dictionary(fc.string({ unit: "binary" }), json, {
  maxKeys: 4,
}) as fc.Arbitrary<Properties>;
const text = fc.string({ unit: "binary" });
const request: fc.Arbitrary<AccessRequest> = fc.record({
  subject: fc.record({ type: text, id: text, properties }),
  action: fc.record({ name: text, properties }),
  resource: fc.record({ type: text, id: text, properties }),
  context: properties,
});

const reversed = (value: unknown): unknown =>
  typeof value !== "object" || value === null || Array.isArray(value)
    ? value
    : Object.fromEntries(
        Object.entries(value)
          .toReversed()
          .map(([name, held]) => [name, reversed(held)]),
      );

describe("accessDigest", () => {
  test("is that of the canonical JSON", () => {
    expect(accessDigest(REQUEST)).toBe(
      // printf %s '{"action":{"name":"tool.run","properties":{"reach":"network"}},"context":…}' | sha256sum
      "c5a60642cb85ca0f077a4496090d0b579dbc645f10188b1fb0bb2ca05b5b7f99",
    );
  });

  test("does not depend on the order of names, and on everything else", () => {
    fc.assert(
      fc.property(request, request, (one, other) => {
        expect(accessDigest(reversed(one) as AccessRequest)).toBe(accessDigest(one));
        const isSame = isDeepStrictEqual(JSON.parse(JSON.stringify(one)), JSON.parse(JSON.stringify(other)));
        expect(accessDigest(one) === accessDigest(other)).toBe(isSame);
      }),
    );
  });

  test.each([
    ["a subject", { subject: { ...REQUEST.subject, id: "a2" } }],
    ["an action", { action: { ...REQUEST.action, name: "io" } }],
    ["a property", { action: { ...REQUEST.action, properties: { reach: "file" } } }],
    ["a resource", { resource: { ...REQUEST.resource, type: "file" } }],
    ["a list's order", { resource: { ...REQUEST.resource, properties: { b: 1, a: [null, true, 1.5] } } }],
    [
      "a number for its text",
      { resource: { ...REQUEST.resource, properties: { b: "1", a: [true, null, 1.5] } } },
    ],
    ["the context", { context: {} }],
    ["half of a pair", { context: { host: "\ud800" } }],
    ["the other half", { context: { host: "\udc00" } }],
  ])("%s makes another", (_name, over) => {
    expect(accessDigest({ ...REQUEST, ...over })).not.toBe(accessDigest(REQUEST));
  });
});

describe("describeAccess", () => {
  test("shows all there is, a line each", () => {
    expect(describeAccess(REQUEST).split("\n")).toEqual([
      'who   Agent "a1"',
      'what  tool.run {"reach":"network"}',
      'to    tool "curl" {"a":[true,null,1.5],"b":1}',
      'while {"host":"example.org"}',
    ]);
  });

  test("no text of a caller makes a line, or steers a terminal", () => {
    fc.assert(
      fc.property(request, (one) => {
        const lines = describeAccess(one).split("\n");
        expect(lines.length).toBe(Object.keys(one.context).length === 0 ? 3 : 4);
        for (const line of lines) expect(line).not.toMatch(/[\p{Cc}\p{Cf}\u2028\u2029]/u);
      }),
    );
  });

  test("two requests that read alike are alike, but for secrets", () => {
    const spoof = { ...REQUEST, resource: { ...REQUEST.resource, id: 'curl" {}\nto    tool "ls' } };
    expect(describeAccess(spoof)).not.toBe(describeAccess(REQUEST));
    expect(describeAccess(spoof).split("\n")).toHaveLength(4);
  });

  test("a secret is not shown", () => {
    const told = describeAccess({
      ...REQUEST,
      context: { password: "hunter2", url: "https://u:example_password@h/" },
    });
    expect(told).not.toMatch(/hunter2|example_password/);
  });
});
