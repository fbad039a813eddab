import { describe, expect, test } from "vitest";
import { compilePolicies } from "../../daemon/policy/cedar-decide.ts";
import { createEntities } from "../../daemon/policy/cedar-entities.ts";
import { answerText, parseExact, writable } from "../../daemon/policy/cedar-exact.ts";
import { EMPTY_RECORD } from "../../daemon/policy/cedar-value.ts";
import { policyJson, templateJson } from "./cedar-oracle.ts";

const uid = (type: string, id: string) => ({ type, id });
const ENTITIES = createEntities([
  { uid: uid("User", "ann"), attrs: {}, parents: [uid("Group", "staff")] },
  { uid: uid("Doc", "d"), attrs: {}, parents: [uid("Folder", "f")] },
  { uid: uid("Action", "view"), attrs: {}, parents: [uid("Action", "read"), uid("Action", "any")] },
]);

function ask(policies: Readonly<Record<string, string>>, action = "view") {
  const texts = Object.entries(policies).map(([id, text]) => [id, policyJson(text)] as const);
  const compiled = compilePolicies({ staticPolicies: Object.fromEntries(texts) });
  return compiled.decide(
    {
      principal: uid("User", "ann"),
      action: uid("Action", action),
      resource: uid("Doc", "d"),
      context: EMPTY_RECORD,
    },
    ENTITIES,
  );
}

const PERMIT = "permit(principal, action, resource);";
const FORBID = "forbid(principal, action, resource);";
const ERRING = (effect: string) => `${effect}(principal, action, resource) when { context.absent };`;

describe("an answer", () => {
  test("denies without a policy", () => {
    expect(ask({})).toEqual({ decision: "deny", reasons: [], errors: [] });
  });

  test("names all permits in order", () => {
    expect(ask({ b: PERMIT, a: PERMIT, c: PERMIT.replace("principal", "principal is Doc") })).toEqual({
      decision: "allow",
      reasons: ["a", "b"],
      errors: [],
    });
  });

  test("is the forbids' as soon as one holds, and names only these", () => {
    expect(ask({ a: PERMIT, z: FORBID, y: FORBID })).toEqual({
      decision: "deny",
      reasons: ["y", "z"],
      errors: [],
    });
  });

  test("tells of every policy that errs, and leaves it out: also a forbid, so an allow with errors is not to be trusted", () => {
    const { decision, reasons, errors } = ask({ a: PERMIT, y: ERRING("forbid"), x: ERRING("permit") });
    expect({ decision, reasons }).toEqual({ decision: "allow", reasons: ["a"] });
    expect(errors).toEqual([
      { policy: "x", message: 'there is no attribute "absent"' },
      { policy: "y", message: 'there is no attribute "absent"' },
    ]);
  });

  test("has a permit's error also where a forbid holds", () => {
    expect(ask({ f: FORBID, p: ERRING("permit") }).errors.map(({ policy }) => policy)).toEqual(["p"]);
  });

  test("is not reached by an error behind a condition that does not hold", () => {
    const text = "permit(principal, action, resource) when { false } when { context.absent };";
    expect(ask({ a: text }).errors).toEqual([]);
    expect(ask({ a: "permit(principal, action, resource) unless { 1 };" }).errors).toHaveLength(1);
  });
});

describe("a head", () => {
  test.each([
    ["principal, action, resource", true],
    ['principal == User::"ann", action, resource', true],
    ['principal == User::"bob", action, resource', false],
    ['principal in Group::"staff", action, resource', true],
    ['principal in User::"ann", action, resource', true],
    ['principal in Group::"other", action, resource', false],
    ["principal is User, action, resource", true],
    ["principal is Group, action, resource", false],
    ['principal is User in Group::"staff", action, resource', true],
    ['principal is User in Group::"other", action, resource', false],
    ['principal, action == Action::"view", resource', true],
    ['principal, action == Action::"read", resource', false],
    ['principal, action in Action::"read", resource', true],
    ['principal, action in [Action::"read", Action::"any", Action::"view"], resource', true],
    ["principal, action in [], resource", false],
    ['principal, action in [Action::"edit"], resource', false],
    ['principal, action, resource == Doc::"d"', true],
    ['principal, action, resource in Folder::"f"', true],
    ['principal, action, resource is Doc in Folder::"f"', true],
    ['principal, action, resource is Folder in Folder::"f"', false],
    ['principal == User::"bob", action, resource == Doc::"d"', false],
    ['principal in Group::"other", action, resource in Folder::"f"', false],
    ['principal in Group::"staff", action in Action::"any", resource in Folder::"f"', true],
  ])("(%s): %s", (head, holds) => {
    const { reasons } = ask({ p: `permit(${head});`, q: `permit(${head});` });
    expect(reasons).toEqual(holds ? ["p", "q"] : []);
  });

  test("is found among a thousand others, once", () => {
    const others = Array.from({ length: 1_000 }, (_, at) => [
      `other${at}`,
      `permit(principal == User::"u${at}", action in [Action::"view", Action::"a${at}"], resource in Folder::"f${at}");`,
    ]);
    const mine = 'permit(principal, action in [Action::"view", Action::"read", Action::"any"], resource);';
    expect(ask({ ...Object.fromEntries(others), mine }).reasons).toEqual(["mine"]);
  });
});

describe("a template", () => {
  const template = templateJson(
    '@kind("share") permit(principal == ?principal, action, resource in ?resource);',
  );
  const link = (newId: string, who: string) => ({
    templateId: "t",
    newId,
    values: { "?principal": uid("User", who), "?resource": uid("Folder", "f") },
  });

  test("decides by its links alone, each under its own name", () => {
    const alone = compilePolicies({ templates: { t: template } });
    const linked = compilePolicies({
      templates: { t: template },
      templateLinks: [link("l1", "ann"), link("l2", "bob")],
    });
    const request = {
      principal: uid("User", "ann"),
      action: uid("Action", "view"),
      resource: uid("Doc", "d"),
      context: EMPTY_RECORD,
    };
    expect(alone.decide(request, ENTITIES).decision).toBe("deny");
    expect(linked.decide(request, ENTITIES)).toEqual({ decision: "allow", reasons: ["l1"], errors: [] });
    expect(linked.policies).toEqual([
      { id: "l1", effect: "permit", annotations: new Map([["kind", "share"]]), template: "t" },
      { id: "l2", effect: "permit", annotations: new Map([["kind", "share"]]), template: "t" },
    ]);
  });
});

describe("integers on their way from and to cedar-wasm", () => {
  test("stay exact", () => {
    const text = '{"a":[9223372036854775807,-9007199254740993,12,1.5,"9223372036854775807"]}';
    const json = parseExact(text);
    expect(json).toEqual({ a: [2n ** 63n - 1n, -9007199254740993n, 12, 1.5, "9223372036854775807"] });
    expect(JSON.stringify(writable(json))).toBe(text);
    expect(JSON.stringify(writable(writable(json)))).toBe(text);
    expect(answerText(() => JSON.parse(text))).toBe(text);
  });

  test("leave the global reader as it was, also when the call fails", () => {
    const before = JSON.parse;
    expect(() =>
      answerText(() => {
        throw new Error("a trap");
      }),
    ).toThrow("a trap");
    expect(() => answerText(() => 1)).toThrow("gave no JSON");
    expect(JSON.parse).toBe(before);
  });

  test("keep fields of any name", () => {
    expect(JSON.stringify(writable(JSON.parse('{"__proto__":{"a":1}}')))).toBe('{"__proto__":{"a":1}}');
  });
});
