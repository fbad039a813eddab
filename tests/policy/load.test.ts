import { beforeAll, describe, expect, test } from "vitest";
import type { RawFile } from "../../daemon/policy/policy-files.ts";
import { isPolicyFile, renderFileProblem } from "../../daemon/policy/policy-files.ts";
import { file, load, loadGood, NOTHING, shippedFiles, small } from "../support/policies.ts";

async function problems(files: readonly RawFile[]): Promise<readonly string[]> {
  const loaded = await load(files);
  return loaded.ok ? ["loaded"] : loaded.problems.map(renderFileProblem);
}

const FORBID = '@id("a")\nforbid (principal, action == Action::"recall", resource);\n';
const FORBIDDEN = NOTHING.replace("by: []", "by: [a]");

test("what Cedar says of a type at length is told in short: a status has room for it", async () => {
  const fields = Array.from({ length: 8_000 }, (_, n) => `a${n}:{b:Long}`).join();
  const loaded = await load([
    file(
      "schema.cedarschema",
      `entity User; entity T { big: {${fields}} }; action go appliesTo { principal: [User], resource: [T], context: {} };`,
    ),
    ...small('@id("a") permit (principal, action, resource) when { resource.big == 1 };', FORBIDDEN).slice(1),
  ]);
  const [problem] = loaded.ok ? [] : loaded.problems;
  expect(problem?.problem).toMatch(/^the types .* …$/s);
  expect(problem?.problem.length).toBeLessThan(2_100);
});

describe("a set that is taken up", () => {
  test("whatever its files' order, and with the same digest", async () => {
    const files = small(FORBID, FORBIDDEN);
    const one = await loadGood(files);
    const other = await loadGood(files.toReversed());
    expect(one.set.digest).toMatch(/^[0-9a-f]{64}$/);
    expect(other.set.digest).toBe(one.set.digest);
    const more = await loadGood(small(`${FORBID}// `, FORBIDDEN));
    expect(more.set.digest).not.toBe(one.set.digest);
    expect((await loadGood(small(FORBID, `${FORBIDDEN}\n# `))).set.digest).not.toBe(one.set.digest);
  });

  test("knows of each policy where it stands and what it says of itself", async () => {
    const text = `// é\n\n@id("a") @needs("person")\n@advice("no")\nforbid (principal, action in [Action::"recall", Action::"io"], resource);`;
    const { set } = await loadGood(small(text, FORBIDDEN));
    expect(set.notes.get("a")).toMatchObject({
      effect: "forbid",
      needsPerson: true,
      advice: "no",
      file: "a.cedar",
      line: 3,
      actions: ["recall", "io"],
    });
  });

  test("may have words of its own beside the daemon's", async () => {
    const files = small(
      '@id("a")\npermit (principal, action == Action::"paint", resource) when { resource.colour == Colour::"red" };',
      'cases: [{ who: "User::1", action: paint, resource: "wall::n", properties: { colour: red }, mode: OPEN, answer: allow, by: [a] }]',
    );
    const more = `entity Colour enum ["red", "blue"]; entity Wall { registered: Bool, colour: Colour };
      action paint appliesTo { principal: [User, Service, Agent], resource: [Wall], context: Situation };`;
    const schema = files.map((one) =>
      one.name === "schema.cedarschema"
        ? file(one.name, `${Buffer.from(one.bytes).toString()}\n${more}`)
        : one,
    );
    expect((await loadGood(schema)).runs).toHaveLength(1);
  });
});

describe("a set that is not", () => {
  const broken: readonly (readonly [what: string, text: string, problem: RegExp])[] = [
    [
      "a syntax error",
      '@id("a")\npermit (principal, action, resource) when { foo };',
      /^a\.cedar:2:45: .*invalid variable: foo/,
    ],
    [
      "a syntax error behind é",
      '@id("a") @advice("é🙂")\npermit (principal, action, resource) when { foo };',
      /^a\.cedar:2:45: /,
    ],
    [
      "an unknown attribute",
      '@id("a")\nforbid (principal, action, resource) unless { context.approvd };',
      /^a\.cedar:2:47: .*approvd.*did you mean `approved`/,
    ],
    [
      "a type error",
      '@id("a")\nforbid (principal, action, resource) when { context.privilege == "x" };',
      /^a\.cedar:2:45: /,
    ],
    [
      "an impossible policy",
      '@id("a")\npermit (principal, action == Action::"recall", resource) when { 1 == 2 };',
      /^a\.cedar:1:1: policy is impossible/,
    ],
    [
      "an unknown action",
      '@id("a")\npermit (principal, action == Action::"recal", resource);',
      /^a\.cedar:\d:\d+: .*recal/,
    ],
    [
      "a role with a typo",
      '@id("a")\nforbid (principal in Role::"opertor", action, resource);',
      /^a\.cedar:\d:\d+: .*opertor/,
    ],
    ["no @id", "permit (principal, action, resource);", /^a\.cedar:1:1: every policy has an @id/],
    [
      "a bad @id",
      '@id("A b")\nforbid (principal, action, resource);',
      /^a\.cedar:1:1: an @id has lower case/,
    ],
    ["an @id twice", `${FORBID}${FORBID}`, /^a\.cedar:3:1: the @id a is used twice/],
    [
      "an annotation with a typo",
      '@id("a") @need("person")\nforbid (principal, action, resource);',
      /^a\.cedar:1:1: there is no annotation @need;/,
    ],
    [
      "@needs of nobody",
      '@id("a") @needs("persn")\nforbid (principal, action, resource);',
      /@needs takes "person"/,
    ],
    [
      "@needs on a permit",
      '@id("a") @needs("person")\npermit (principal, action, resource);',
      /@needs belongs to a forbid/,
    ],
    [
      "a template",
      '@id("a")\nforbid (principal == ?principal, action, resource);',
      /^a\.cedar:2:\d+: .*template/,
    ],
    ["something behind the last ;", `${FORBID}permit`, /^a\.cedar:3:1: no ';' ends this/],
    [
      "two policies in one statement",
      `@id("a") permit (principal, action, resource) forbid (principal, action, resource);`,
      /^a\.cedar:1:\d+: .*unexpected token/,
    ],
    [
      "a look-alike letter",
      '@id("a")\nforbid (principal, action, resource) when { context.leases.contains("nеtwork") };',
      /a\.cedar:2:\d+: /,
    ],
  ];
  test.each(broken)("%s", async (_what, text, problem) => {
    expect((await problems(small(text, NOTHING))).join("\n")).toMatch(problem);
  });

  const files: readonly (readonly [what: string, files: () => readonly RawFile[], problem: RegExp])[] = [
    ["no schema", () => small(FORBID, FORBIDDEN).slice(1), /^schema\.cedarschema:1:1: is missing/],
    [
      "a schema with an error",
      () => [file("schema.cedarschema", "entity User;\nentty A;")],
      /^schema\.cedarschema:2:1: .*entty/,
    ],
    [
      "a schema without our words",
      () => [file("schema.cedarschema", "entity User;")],
      /action "recall" is missing/,
    ],
    [
      "a policy file without cases",
      () => small(FORBID, FORBIDDEN).slice(0, 2),
      /^a\.cedar:1:1: has no cases beside it: a\.cases\.yaml/,
    ],
    ["no cases at all", () => small(FORBID, "cases: []"), /^a\.cases\.yaml:1:8: cases: no cases/],
    [
      "a case with a typo",
      () => small(FORBID, FORBIDDEN.replace("mode:", "mod: OPEN, mode:")),
      /^a\.cases\.yaml:1:\d+: cases\[0\]\.mod: unknown key/,
    ],
    [
      "a case that fails",
      () => small(FORBID, NOTHING),
      /^a\.cases\.yaml:1:9: cases\[0\]: it is deny by a, not deny by no policy/,
    ],
    [
      "a case that cannot be asked",
      () => small(FORBID, FORBIDDEN.replace("memory::n", "memry::n")),
      /cases\[0\]: policy could not answer: resource-unknown/,
    ],
    [
      "a registry that does not fit",
      () =>
        small(
          FORBID,
          `${FORBIDDEN}\nregistry: { resources: [{ type: memory, id: x, properties: { size: 1 } }] }`,
        ),
      /registry: memory "x": "size" is no property/,
    ],
    [
      "text that is not UTF-8",
      () => [...small(FORBID, FORBIDDEN), { name: "b.cedar", bytes: Buffer.from([0x40, 0xff]) }],
      /^b\.cedar:1:1: is not UTF-8/,
    ],
    ["a strange name", () => [...small(FORBID, FORBIDDEN), file("b\n.cedar", "")], /a policy file is named/],
    [
      "more than a quarter of a megabyte",
      () => small(FORBID, FORBIDDEN).concat(file("b.cedar", "//".padEnd(262_145))),
      /^more than 262144 bytes in all/,
    ],
    [
      "too many files",
      () => Array.from({ length: 257 }, (_, index) => file(`${index}.cedar`, "")),
      /^more than 256 files/,
    ],
    [
      "one name twice",
      () => [...small(FORBID, FORBIDDEN), file("a.cedar", "")],
      /^a\.cedar:1:1: is there twice/,
    ],
  ];
  test.each(files)("%s", async (_what, made, problem) => {
    expect((await problems(made())).join("\n")).toMatch(problem);
  });

  test("tells every fault, not the first alone", async () => {
    const text =
      '@id("a")\nforbid (principal, action, resource) when { foo };\n@id("b")\nforbid (principal, action, resource) when { bar };';
    expect(await problems(small(text, NOTHING))).toHaveLength(2);
  });
});

describe("a schema has to have the daemon's words", () => {
  let schema: string;
  beforeAll(() => {
    schema = shippedFiles()
      .filter(({ name }) => name === "schema.cedarschema")
      .map(({ bytes }) => Buffer.from(bytes).toString())
      .join("");
  });
  const changes: readonly (readonly [from: string, to: string, problem: RegExp])[] = [
    ["  approved: Bool,", "", /action "recall": its context has to have approved: Bool/],
    [
      "  approved: Bool,",
      "  approved?: Bool, extra: Long,",
      /the daemon has no extra to put into its context/,
    ],
    [', "auditor"];', "];", /entity Role enum has to have "auditor"/],
    ['action "io" applies', 'action "oi" applies', /action "io" is missing/],
    [
      "entity Agent in [Role, Group, Workspace]",
      "entity Agent in [Role, Group]",
      /entity Agent has to be in Workspace/,
    ],
    [
      "entity Agent in [Role, Group, Workspace] { registered: Bool }",
      "entity Agent in [Role, Group, Workspace] { registered: Bool, age: Long }",
      /the daemon knows no age of it/,
    ],
    ['action "mode.loosen" applies', 'action "mode.open" applies', /action "mode\.loosen" is missing/],
    [
      'action "mode.loosen" appliesTo { principal: [User, Service, Agent]',
      'action "mode.loosen" appliesTo { principal: [User]',
      /action "mode\.loosen" has to be for a Service/,
    ],
    [
      'action "approval.approve" appliesTo { principal: [User, Service, Agent], resource: [Approval]',
      'action "approval.approve" appliesTo { principal: [User, Service, Agent], resource: [Lease]',
      /action "approval\.approve" has to be about Approval/,
    ],
    ["storage: Bool, permanent", "storage: String, permanent", /entity Usb has to have storage: Bool/],
    [
      "registered: Bool, holder: String }",
      "registered: Bool }",
      /entity Approval has to have holder: String/,
    ],
    ["item: String }", "item: String, size: Long }", /entity Vault: the daemon knows no size of it/],
    ["rank: Long };", "rank: String };", /Mode.*rank.* Long/],
    ['TokenRole enum ["none", ', "TokenRole enum [", /entity TokenRole enum has to have "none"/],
    [
      "entity Memory in [Group] {",
      "entity Memory in [Group] { nested: { a: Long },",
      /an attribute is a plain value/,
    ],
  ];
  test.each(changes)("without %s", async (from, to, problem) => {
    expect(schema).toContain(from);
    const changed = small(FORBID, FORBIDDEN).map((one) =>
      one.name === "schema.cedarschema" ? file(one.name, schema.replace(from, to)) : one,
    );
    expect((await problems(changed)).join("\n")).toMatch(problem);
  });
});

test("what is in a directory beside the policies is not looked at", () => {
  const names = [
    "a.cedar",
    "a.cases.yaml",
    "usb.cases.yaml",
    "usb.rules",
    "schema.cedarschema",
    "README.md",
    ".a.cedar",
  ];
  expect(names.filter((name) => isPolicyFile(name, names))).toEqual([
    "a.cedar",
    "a.cases.yaml",
    "schema.cedarschema",
    ".a.cedar",
  ]);
});
