import fc from "fast-check";
import { beforeAll, describe, expect, test } from "vitest";
import { BoundaryError } from "../../daemon/core/errors.ts";
import { derive } from "../../daemon/policy/derived.ts";
import { buildRequest } from "../../daemon/policy/entities.ts";
import {
  createRegistry,
  EMPTY_REGISTRY_TEXT,
  parseRegistry,
  withKnown,
} from "../../daemon/policy/registry.ts";
import type { Shapes } from "../../daemon/policy/schema-shapes.ts";
import { loadGood, NOTHING, question, registry, situation, small, USER } from "../support/policies.ts";

let shapes: Shapes;
beforeAll(async () => {
  const text = '@id("a") forbid (principal, action, resource);';
  shapes = (await loadGood(small(text, NOTHING.replace("by: []", "by: [a]")))).set.shapes;
});

const known = () =>
  registry(shapes, {
    users: [{ id: "1000", groups: ["dev"], workspaces: ["alpha"] }],
    resources: [
      { type: "memory", id: "plan", groups: ["plans"], properties: { class: "SECRET", workspace: "alpha" } },
      { type: "host", id: "db.example.", groups: [], properties: { sensitivity: "high" } },
    ],
  });
const ask = (request: Parameters<typeof buildRequest>[2], principal = USER, now = situation()) =>
  buildRequest(shapes, known(), request, principal, now);
const codeOf = (work: () => unknown): string => {
  try {
    work();
    return "built";
  } catch (error) {
    return error instanceof BoundaryError ? error.code : String(error);
  }
};
const entity = (type: string, id: string) => ({ __entity: { type, id } });

describe("a question in Cedar's words", () => {
  test("has who asks with what the daemon knows of him, and roles only as they were given", () => {
    expect(ask(question("recall", ["memory", "n"]), { ...USER, roles: ["operator"] }).entities[0]).toEqual({
      uid: { type: "User", id: "1000" },
      attrs: { registered: true },
      parents: [
        { type: "Role", id: "readonly" },
        { type: "Role", id: "operator" },
        { type: "Group", id: "dev" },
        { type: "Workspace", id: "alpha" },
      ],
    });
    const asked = question("recall", ["memory", "n"]);
    const stranger = buildRequest(shapes, registry(shapes), asked, USER, situation());
    expect(stranger.entities[0]).toEqual({
      uid: { type: "User", id: "1000" },
      attrs: { registered: false },
      parents: [],
    });
    const roles = (given: readonly string[]) =>
      ask(question("recall", ["memory", "n"]), { ...USER, roles: given }).entities[0]?.parents.flatMap(
        ({ type, id }) => (type === "Role" ? [id] : []),
      );
    expect([roles(["admin"]), roles(["auditor"]), roles(["none"])]).toEqual([
      ["readonly", "operator", "admin"],
      ["auditor"],
      [],
    ]);
  });

  test("has the resource as the registry has it, in one way of writing", () => {
    expect(ask(question("recall", ["memory", "plan"])).entities[1]).toEqual({
      uid: { type: "Memory", id: "plan" },
      attrs: { registered: true, class: 3, workspace: entity("Workspace", "alpha") },
      parents: [{ type: "Group", id: "plans" }],
    });
    const host = ask(question("network.connect", ["host", "DB.Example"], { port: 5432 })).entities[1];
    expect(host).toEqual({
      uid: { type: "Host", id: "db.example" },
      attrs: { registered: true, host: "db.example", port: 5432, sensitivity: entity("Sensitivity", "high") },
      parents: [],
    });
    expect(ask(question("file.read", ["file", "/a/b"])).entities[1]?.attrs).toEqual({
      registered: false,
      path: "/a/b",
    });
  });

  test("has the circumstances as the daemon knows them", () => {
    const now = situation({
      wanted: "TRUSTED",
      applied: "OPEN",
      leases: ["a", "a"],
      trustedInterfaces: ["wg0"],
    });
    expect(
      ask(question("recall", ["memory", "n"], {}, { taint: ["untrusted", "secret", "secret"] }), USER, now)
        .context,
    ).toEqual({
      wanted: entity("ModeName", "TRUSTED"),
      applied: entity("ModeName", "OPEN"),
      privilege: 2,
      isolation: 0,
      assurance: entity("Assurance", "enforced"),
      frozen: false,
      trustedInterfaces: ["wg0"],
      leases: ["a"],
      taint: [entity("Taint", "secret"), entity("Taint", "untrusted")],
      time: { __extn: { fn: "datetime", arg: "2026-01-01T00:00:00.000Z" } },
      approved: false,
      token: false,
    });
    expect(
      ask(question("recall", ["memory", "n"]), USER, situation({ applied: null })).context,
    ).toMatchObject({
      applied: entity("ModeName", "UNKNOWN"),
      privilege: 5,
      isolation: 0,
    });
  });
});

describe("a question that is refused", () => {
  const refused: readonly (readonly [
    what: string,
    request: Parameters<typeof buildRequest>[2],
    code: string,
  ])[] = [
    ["an unknown action", question("recal", ["memory", "n"]), "action-unknown"],
    ["a prototype's name as action", question("constructor", ["memory", "n"]), "action-unknown"],
    ["an unknown type", question("recall", ["memry", "n"]), "resource-unknown"],
    ["Cedar's spelling of a type", question("recall", ["Memory", "n"]), "resource-unknown"],
    ["another action's type", question("recall", ["tool", "n"]), "resource-unknown"],
    ["a type that is asked about by nobody", question("recall", ["role", "admin"]), "resource-unknown"],
    ["an unknown property", question("recall", ["memory", "n"], { size: 1 }), "property-invalid"],
    [
      "a prototype's name as property",
      question("recall", ["memory", "n"], { constructor: "x" }),
      "property-invalid",
    ],
    ["__proto__", question("recall", ["memory", "n"], JSON.parse('{"__proto__":"x"}')), "property-invalid"],
    ["registered", question("recall", ["memory", "n"], { registered: true }), "property-invalid"],
    ["a class as a number", question("recall", ["memory", "n"], { class: 0 }), "property-invalid"],
    ["an unknown class", question("recall", ["memory", "n"], { class: "secret" }), "property-invalid"],
    ["an unknown reach", question("tool.run", ["tool", "n"], { reach: "netwrok" }), "property-invalid"],
    ["a number of parts", question("network.connect", ["host", "a"], { port: 1.5 }), "property-invalid"],
    ["a large number", question("network.connect", ["host", "a"], { port: 2 ** 53 }), "property-invalid"],
    ["no address", question("network.connect", ["host", "a"], { address: "10.0.0.256" }), "property-invalid"],
    ["null", question("recall", ["memory", "n"], { domain: null }), "property-invalid"],
    ["half a pair", question("recall", ["memory", "n"], { domain: "\ud800" }), "property-invalid"],
    ["half a pair as id", question("recall", ["memory", "\udc00"]), "property-invalid"],
    ["a long text", question("recall", ["memory", "n"], { domain: "a".repeat(4_097) }), "property-invalid"],
    ["a long id", question("recall", ["memory", "n".repeat(1_025)]), "property-invalid"],
    ["no id", question("recall", ["memory", ""]), "property-invalid"],
    ["a path that goes up", question("file.read", ["file", "/a/../b"]), "property-invalid"],
    ["a path that is relative", question("file.read", ["file", "a"]), "property-invalid"],
    ["a path with //", question("file.read", ["file", "/a//b"]), "property-invalid"],
    ["a path with NUL", question("file.read", ["file", "/a\0b"]), "property-invalid"],
    ["a path beside the id", question("file.read", ["file", "/a"], { path: "/b" }), "resource-mismatch"],
    ["a type in other letters", question("secret.read", ["\u017fecret", "k"]), "resource-unknown"],
    ["a host with a path", question("network.connect", ["host", "a/b"]), "property-invalid"],
    ["an address in one number", question("network.connect", ["host", "2130706433"]), "property-invalid"],
    ["an address in hexadecimal", question("network.connect", ["host", "0X7f.1."]), "property-invalid"],
    ["an address in octal", question("network.connect", ["host", "0177.0.0.1"]), "property-invalid"],
    ["an address with too much", question("network.connect", ["host", "1.2.3.256"]), "property-invalid"],
    ["an address of five", question("network.connect", ["host", "1.2.3.4.5"]), "property-invalid"],
    ["no IPv6 address", question("network.connect", ["host", "1::2::3"]), "property-invalid"],
    ["a name and a port", question("network.connect", ["host", "a.example:443"]), "property-invalid"],
    ["a name with nothing in it", question("network.connect", ["host", "a..example"]), "property-invalid"],
    ["a program that goes up", question("command.run", ["command", "/a/../b"]), "property-invalid"],
    ["a program that is relative", question("command.run", ["command", "./b"]), "property-invalid"],
    [
      "a program beside the id",
      question("command.run", ["command", "a"], { program: "b" }),
      "resource-mismatch",
    ],
    ["a mode that is none", question("mode.loosen", ["mode", "AJAR"]), "property-invalid"],
    [
      "a mode's rank that is not its own",
      question("mode.loosen", ["mode", "OPEN"], { rank: 5 }),
      "resource-mismatch",
    ],
    [
      "what the registry says otherwise",
      question("recall", ["memory", "plan"], { class: "PUBLIC" }),
      "resource-mismatch",
    ],
    ["another workspace", question("recall", ["memory", "plan"], { workspace: "beta" }), "resource-mismatch"],
    ["an unknown taint", question("recall", ["memory", "n"], {}, { taint: ["secrets"] }), "property-invalid"],
    [
      "a taint that is no list",
      question("recall", ["memory", "n"], {}, { taint: "secret" }),
      "property-invalid",
    ],
    [
      "a circumstance of one's own",
      question("recall", ["memory", "n"], {}, { approved: true }),
      "property-invalid",
    ],
    [
      "an action's property",
      { ...question("recall", ["memory", "n"]), action: { name: "recall", properties: { a: 1 } } },
      "property-invalid",
    ],
    [
      "a subject's property",
      {
        ...question("recall", ["memory", "n"]),
        subject: { type: "User", id: "1000", properties: { role: "admin" } },
      },
      "property-invalid",
    ],
  ];
  test.each(refused)("%s", (_what, request, code) => {
    expect(codeOf(() => ask(request))).toBe(code);
  });

  test.each([
    { type: "Role", id: "admin", roles: [] },
    { type: "user", id: "1000", roles: [] },
    { type: "__proto__", id: "1000", roles: [] },
    { type: "User", id: "", roles: [] },
    { type: "User", id: "1000", roles: ["root"] },
  ])("who asks: %o", (principal) => {
    expect(codeOf(() => ask(question("recall", ["memory", "n"]), principal))).toBe("principal-unknown");
  });

  test("whatever a caller says: refused with a code, or built with parents and circumstances of ours", () => {
    const name = fc.constantFrom(
      "class",
      "reach",
      "workspace",
      "parents",
      "registered",
      "__proto__",
      "toString",
      "taint",
      "approved",
      "port",
      "address",
      "path",
    );
    const value = fc.oneof(
      fc.jsonValue({ maxDepth: 2 }),
      fc.constantFrom(
        "SECRET",
        "network",
        "alpha",
        ["secret"],
        { __entity: { type: "Role", id: "admin" } },
        { __extn: { fn: "ip", arg: "::1" } },
      ),
    );
    const properties = fc
      .array(fc.tuple(name, value), { maxLength: 3 })
      .map((entries) =>
        JSON.parse(
          `{${[...new Map(entries)].map(([key, one]) => `${JSON.stringify(key)}:${JSON.stringify(one)}`).join()}}`,
        ),
      );
    const action = fc.constantFrom(
      "recall",
      "tool.run",
      "file.read",
      "network.connect",
      "mode.loosen",
      "toString",
    );
    const type = fc.constantFrom("memory", "tool", "file", "host", "mode", "user", "__proto__");
    const id = fc.oneof(fc.string({ unit: "binary" }), fc.constantFrom("plan", "/a", "db.example", "OPEN"));
    const codes = ["property-invalid", "action-unknown", "resource-unknown", "resource-mismatch"];
    fc.assert(
      fc.property(action, type, id, properties, properties, (does, kind, named, said, context) => {
        try {
          const built = ask(question(does, [kind, named], said, context));
          expect(built.context["approved"]).toBe(false);
          expect(built.entities[0]?.parents.map((parent) => parent.id)).toEqual(["dev", "alpha"]);
          expect(built.entities[1]?.parents.length).toBe(
            built.resource.id === "plan" && built.resource.type === "Memory" ? 1 : 0,
          );
          expect(built.entities).toHaveLength(2);
        } catch (error) {
          expect(error).toBeInstanceOf(BoundaryError);
          expect(codes).toContain((error as BoundaryError).code);
        }
      }),
      { numRuns: 300 },
    );
  });
});

test.each([
  ["DB.Example.", "db.example"],
  ["10.0.0.1.", "10.0.0.1"],
  ["10.0.0.example", "10.0.0.example"],
  ["0:0::1", "::1"],
  ["::ffff:7f00:1", "127.0.0.1"],
  ["0:0:0:0:0:FFFF:10.1.2.3", "10.1.2.3"],
  ["::10.1.2.3", "::a01:203"],
])("the host %s is %s", (written, host) => {
  expect(ask(question("network.connect", ["host", written])).resource.id).toBe(host);
});

test("a host's one name is its own", () => {
  const groups = fc.array(fc.nat(0xffff), { minLength: 8, maxLength: 8 });
  fc.assert(
    fc.property(
      fc.oneof(
        fc.ipV4(),
        fc.ipV6(),
        groups.map((all) => all.map((n) => n.toString(16)).join(":")),
      ),
      (id) => {
        const once = derive("Host", id);
        if ("problem" in once) throw new Error(id);
        expect(derive("Host", once.id)).toEqual(once);
      },
    ),
  );
});

describe("the registry", () => {
  test("is asked for the ceilings: what it says goes before what a caller says", () => {
    const asked = question("recall", ["memory", "plan"], { class: "PUBLIC", domain: "x" });
    expect(withKnown(shapes, known(), asked).resource.properties).toEqual({
      class: "SECRET",
      workspace: "alpha",
      domain: "x",
    });
    const other = question("recall", ["memory", "other"]);
    expect(withKnown(shapes, known(), other)).toBe(other);
    expect(withKnown(shapes, known(), question("recall", ["__proto__", "x"])).resource.type).toBe(
      "__proto__",
    );
  });

  const faults: readonly (readonly [text: string, problem: RegExp])[] = [
    ["users: [{ id: a }, { id: a }]", /User "a" is there twice/],
    ["resources: [{ type: host, id: A.b }, { type: host, id: a.B. }]", /is there twice/],
    ["resources: [{ type: memry, id: a }]", /no such type/],
    ["resources: [{ type: memory, id: a, properties: { clas: SECRET } }]", /"clas" is no property/],
    ["resources: [{ type: memory, id: a, properties: { __proto__: SECRET } }]", /"__proto__" is no property/],
    ["resources: [{ type: memory, id: a, properties: { class: secret } }]", /class is one of PUBLIC/],
    ["resources: [{ type: file, id: a }]", /absolute path/],
    ["resources: [{ type: file, id: /a, properties: { path: /b } }]", /"path" is no property/],
    ["resources: [{ type: memory, id: a, properties: { registered: true } }]", /"registered" is no property/],
  ];
  test.each(faults)("refuses %s", (text, problem) => {
    const parsed = parseRegistry(text);
    if (!parsed.ok) throw new Error(JSON.stringify(parsed.problems));
    const made = createRegistry(shapes, parsed.value);
    expect("problems" in made ? made.problems.join() : "made").toMatch(problem);
  });

  test("refuses groups where a schema of one's own has none", () => {
    const memory = shapes.entities.get("Memory");
    if (memory === undefined) throw new Error("no Memory");
    const entities = new Map([...shapes.entities, ["Memory", { ...memory, parents: new Set<string>() }]]);
    const resources = [{ type: "memory", id: "a", groups: ["x"], properties: {} }];
    const made = createRegistry({ ...shapes, entities }, { ...EMPTY_REGISTRY_TEXT, resources });
    expect("problems" in made ? made.problems.join() : "made").toMatch(/it can be in no groups/);
  });

  test.each([
    "users: [{ id: a, role: admin }]",
    "users: [{ id: a, roles: [admin] }]",
    "groups: []",
    "users: { a: {} }",
  ])("reads no %s", (text) => {
    expect(parseRegistry(text).ok).toBe(false);
  });

  test("takes names of prototypes for names", () => {
    const text = parseRegistry(
      "users: [{ id: __proto__, groups: [constructor] }]\nresources: [{ type: memory, id: toString, properties: { class: SECRET } }]",
    );
    if (!text.ok) throw new Error("not read");
    const made = registry(shapes, { ...EMPTY_REGISTRY_TEXT, ...text.value });
    expect(made.principal("User", "__proto__")?.groups).toEqual(["constructor"]);
    expect(made.principal("User", "constructor")).toBeUndefined();
    expect(made.resource("Memory", "toString")?.attributes.get("class")).toBe(3);
    expect(made.resource("Memory", "valueOf")).toBeUndefined();
  });
});
