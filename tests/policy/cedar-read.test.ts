import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { BoundaryError } from "../../daemon/core/errors.ts";
import { compilePolicies } from "../../daemon/policy/cedar-decide.ts";
import { createEntities } from "../../daemon/policy/cedar-entities.ts";
import { readPolicySet } from "../../daemon/policy/cedar-json.ts";
import { readRecord, readValue, type ValueType } from "../../daemon/policy/cedar-read.ts";
import { readSchema } from "../../daemon/policy/cedar-schema.ts";
import { equals } from "../../daemon/policy/cedar-value.ts";
import { world } from "./cedar-arbitrary.ts";

const read = (json: unknown, type: ValueType | null = null) => readValue(json, "here", type);
const UID = { type: "User", id: "a" };

function refusal(work: () => unknown): string {
  try {
    work();
  } catch (error) {
    return error instanceof BoundaryError ? `${error.code}: ${error.message}` : String(error);
  }
  return "taken";
}

describe("a value", () => {
  test.each([
    ["an entity", { __entity: UID }, { kind: "entity", type: "User", id: "a" }],
    ["an extension value", { __extn: { fn: "decimal", arg: "1.5" } }, { kind: "decimal", scaled: 15_000 }],
    [
      "an extension value of several arguments",
      {
        __extn: {
          fn: "offset",
          args: [
            { __extn: { fn: "datetime", arg: "1970-01-01" } },
            { __extn: { fn: "duration", arg: "1s" } },
          ],
        },
      },
      { kind: "datetime", ms: 1_000 },
    ],
    ["a plain record that looks like an entity", UID, { kind: "record" }],
    ["an integer beyond 2^53", 2n ** 60n, 2n ** 60n],
    ["a bigint that is small", 5n, 5],
    ["minus zero", -0, 0],
  ])("%s", (_what, json, expected) => {
    const value = read(json);
    if (typeof expected === "object") expect(value).toMatchObject(expected);
    else expect(value).toBe(expected);
  });

  test.each([
    ["null", null],
    ["undefined", undefined],
    ["a fraction", 1.5],
    ["a number that may have been rounded", 2 ** 53],
    ["an infinity", Number.POSITIVE_INFINITY],
    ["an integer of more than 64 bits", 2n ** 63n],
    ["half a character", "\ud800"],
    ["half a character in a name", { "\udc00": 1 }],
    ["an unknown escape", { __expr: "1 + 1" }],
    ["an escape beside another field", { __entity: UID, a: 1 }],
    ["an entity of no type", { __entity: { type: "", id: "a" } }],
    ["an entity of a type that is no name", { __entity: { type: 'a"b', id: "a" } }],
    ["an entity with one field more", { __entity: { ...UID, more: 1 } }],
    ["an entity without an id", { __entity: { type: "User", name: "a" } }],
    ["an unknown function", { __extn: { fn: "toString", arg: "a" } }],
    ["an argument too many", { __extn: { fn: "ip", args: ["::1", "::1"] } }],
    ["arg and args", { __extn: { fn: "ip", arg: "::1", args: ["::1"] } }],
    ["no address", { __extn: { fn: "ip", arg: "::x" } }],
    ["one nested too deep", JSON.parse(`${"[".repeat(80)}${"]".repeat(80)}`)],
  ])("is not %s", (_what, json) => {
    expect(refusal(() => read(json))).toMatch(/^policy-invalid: here: /);
    expect(refusal(() => read([json]))).toMatch(/^policy-invalid: here: /);
  });

  test("is written plainly where a schema says its type", () => {
    const ip: ValueType = { kind: "extension", name: "ipaddr" };
    const user: ValueType = { kind: "entity", name: "User" };
    const record: ValueType = {
      kind: "record",
      fields: new Map<string, ValueType>([
        ["ips", { kind: "set", element: ip }],
        ["by", user],
      ]),
    };
    const plain = read({ ips: ["::1", { fn: "ip", arg: "::1" }], by: UID, other: UID }, record);
    const escaped = read({
      ips: [{ __extn: { fn: "ip", arg: "::1" } }],
      by: { __entity: UID },
      other: UID,
    });
    expect(equals(plain, escaped)).toBe(true);
    expect(refusal(() => read("::x", ip))).toMatch(/^policy-invalid/);
    expect(refusal(() => read({ a: 1 }, user))).toMatch(/^policy-invalid/);
  });

  test("is compared in time however deep its sets are", () => {
    const nested = (depth: number): unknown => (depth === 0 ? [1, 2] : [nested(depth - 1)]);
    expect(equals(read(nested(60)), read(nested(60)))).toBe(true);
    expect(equals(read(nested(60)), read(nested(59)))).toBe(false);
    expect(equals(read([{ a: nested(60) }]), read([{ a: nested(60) }, { a: nested(60) }]))).toBe(true);
  });

  test("keeps fields of any name", () => {
    const { fields } = readRecord(JSON.parse('{"__proto__": 1, "constructor": {"toString": 2}}'), "here");
    expect([...fields.keys()]).toEqual(["__proto__", "constructor"]);
    expect(fields.get("hasOwnProperty")).toBeUndefined();
  });

  test("of any JSON is read, or refused by name", () => {
    fc.assert(
      fc.property(fc.jsonValue(), (json) => {
        expect(refusal(() => read(json))).toMatch(/^(?:taken$|policy-invalid: here: )/);
        expect(refusal(() => readSchema(json))).toMatch(/^(?:taken$|policy-invalid: )/);
        expect(refusal(() => createEntities([json]))).toMatch(/^policy-invalid: /);
      }),
    );
  });
});

const SCOPE = { principal: { op: "All" }, action: { op: "All" }, resource: { op: "All" } };
const POLICY = { effect: "permit", ...SCOPE, conditions: [] as unknown[] };
const when = (body: unknown) => ({ ...POLICY, conditions: [{ kind: "when", body }] });
const set = (policy: unknown) => ({ staticPolicies: { p: policy } });

function nested(depth: number): unknown {
  let body: unknown = { Value: true };
  for (let at = 0; at < depth; at++) body = { "!": { arg: body } };
  return body;
}

describe("a policy set", () => {
  test.each([
    ["no object", []],
    ["an unknown part", { staticPolicies: {}, more: {} }],
    ["an unknown field", set({ ...POLICY, more: 1 })],
    ["an unknown effect", set({ ...POLICY, effect: "allow" })],
    ["an unknown condition", set({ ...POLICY, conditions: [{ kind: "if", body: { Value: true } }] })],
    ["no conditions", set({ effect: "permit", ...SCOPE })],
    ["no head", set({ effect: "permit", conditions: [] })],
    ["an unknown head", set({ ...POLICY, principal: { op: "like", entity: UID } })],
    ["a head with two targets", set({ ...POLICY, principal: { op: "==", entity: UID, slot: "?principal" } })],
    ["a head with a field too many", set({ ...POLICY, principal: { op: "All", entity: UID } })],
    ["several principals", set({ ...POLICY, principal: { op: "in", entities: [UID] } })],
    ["an action of a type", set({ ...POLICY, action: { op: "is", entity_type: "Action" } })],
    ["an action that is a slot", set({ ...POLICY, action: { op: "==", slot: "?principal" } })],
    ["a slot that nothing fills", set({ ...POLICY, principal: { op: "==", slot: "?principal" } })],
    ["a template without a slot", { templates: { t: POLICY } }],
    [
      "a slot in a condition",
      { templates: { t: { ...when({ Slot: "?principal" }), principal: { op: "==", slot: "?principal" } } } },
    ],
    ["the other slot", { templates: { t: { ...POLICY, principal: { op: "==", slot: "?resource" } } } }],
    ["an action that is none", set({ ...POLICY, action: { op: "==", entity: UID } })],
    ["an unknown expression", set(when({ Unknown: [{ Value: "x" }] }))],
    ["an unknown function", set(when({ unknown: [{ Value: "x" }] }))],
    ["a function by the name of an object's own", set(when({ toString: [] }))],
    ["an expression of two kinds", set(when({ Value: true, Var: "action" }))],
    ["an expression of none", set(when({}))],
    ["an unknown variable", set(when({ Var: "subject" }))],
    ["an operator with one operand", set(when({ "==": { left: { Value: 1 } } }))],
    [
      "an operator with three",
      set(when({ "==": { left: { Value: 1 }, right: { Value: 1 }, arg: { Value: 1 } } })),
    ],
    ["an empty path", set(when({ has: { left: { Var: "context" }, attr: [] } }))],
    ["an unknown pattern", set(when({ like: { left: { Value: "" }, pattern: ["Any"] } }))],
    ["a number that was rounded", set(when({ "==": { left: { Value: 2 ** 63 }, right: { Value: 1 } } }))],
    ["an annotation that is no text", set({ ...POLICY, annotations: { id: 1 } })],
    ["expressions nested without end", set(when(nested(2_000)))],
    ["a link to no template", { templateLinks: [{ templateId: "t", newId: "l", values: {} }] }],
    [
      "a link by a policy's name",
      {
        ...set(POLICY),
        templates: { t: { ...POLICY, principal: { op: "==", slot: "?principal" } } },
        templateLinks: [{ templateId: "t", newId: "p", values: { "?principal": UID } }],
      },
    ],
    [
      "a link that fills too many slots",
      {
        templates: { t: { ...POLICY, principal: { op: "==", slot: "?principal" } } },
        templateLinks: [{ templateId: "t", newId: "l", values: { "?principal": UID, "?resource": UID } }],
      },
    ],
    [
      "a template by a policy's name",
      { ...set(POLICY), templates: { p: { ...POLICY, principal: { op: "==", slot: "?principal" } } } },
    ],
    [
      "a link that fills another slot",
      {
        templates: { t: { ...POLICY, principal: { op: "==", slot: "?principal" } } },
        templateLinks: [{ templateId: "t", newId: "l", values: { "?resource": UID } }],
      },
    ],
  ])("with %s is refused when it is compiled", (_what, json) => {
    expect(refusal(() => compilePolicies(json))).toMatch(/^policy-invalid: /);
  });

  test("of any JSON is read, or refused by name; and so is a good one with anything in it changed", () => {
    fc.assert(
      fc.property(fc.jsonValue(), (json) => {
        expect(refusal(() => readPolicySet(json))).toMatch(/^(?:taken$|policy-invalid: )/);
        expect(refusal(() => readPolicySet(set(when(json))))).toMatch(/^policy-invalid: /);
      }),
    );
    fc.assert(
      fc.property(world, fc.nat(), fc.jsonValue(), ({ policies }, place, junk) => {
        expect(refusal(() => compilePolicies(policies))).toBe("taken");
        expect(refusal(() => compilePolicies(replaced(policies, place, junk)))).toMatch(
          /^(?:taken$|policy-invalid: )/,
        );
      }),
    );
  });

  test("names nothing that it does not have itself", () => {
    const json = { staticPolicies: JSON.parse(`{"__proto__": ${JSON.stringify(POLICY)}}`) as unknown };
    expect(compilePolicies(json).policies.map(({ id }) => id)).toEqual(["__proto__"]);
  });
});

/** The same with one of its values exchanged. */
function replaced(json: unknown, place: number, junk: unknown): unknown {
  let count = 0;
  const target = place % (sizeOf(json) || 1);
  const visit = (value: unknown): unknown => {
    if (count++ === target) return junk;
    if (Array.isArray(value)) return value.map(visit);
    if (typeof value !== "object" || value === null) return value;
    return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, visit(inner)]));
  };
  return visit(json);
}

function sizeOf(json: unknown): number {
  if (typeof json !== "object" || json === null) return 1;
  return Object.values(json).reduce<number>((sum, inner) => sum + sizeOf(inner), 1);
}
