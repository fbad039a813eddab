import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { ACTIONS, VERB_ACTIONS } from "../../daemon/core/access.ts";
import { parseRegistry } from "../../daemon/policy/registry.ts";
import { PARAMS } from "../../daemon/protocol/messages.ts";
import { tableBelow } from "../support/dependency-rules.ts";
import { file, loadGood, registry, shippedFiles } from "../support/policies.ts";

const TEXT = readFileSync(join(import.meta.dirname, "../../docs/POLICY.md"), "utf8");
const words = (cell: string) => [...cell.matchAll(/`([a-z.]+)`/g)].map(([, word = ""]) => word);
const blocks = (language: string) =>
  [...TEXT.matchAll(new RegExp(`\`\`\`${language}\n([^\`]*)\`\`\``, "g"))].map((hit) => hit[1] ?? "");

test("docs/POLICY.md: its example is taken up beside the shipped policies, and its registry fits", async () => {
  const [policy = ""] = blocks("cedar");
  const [cases = "", known = ""] = blocks("yaml");
  const { set, runs } = await loadGood([
    ...shippedFiles(),
    file("backups.cedar", policy),
    file("backups.cases.yaml", cases),
  ]);
  expect(runs.filter((run) => run.file === "backups.cases.yaml")).toHaveLength(2);
  const parsed = parseRegistry(known);
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.problems));
  expect(registry(set.shapes, parsed.value).resources).toHaveLength(2);
});

test("docs/POLICY.md says of every verb what policy is asked before it, or why it is not", () => {
  const asked = tableBelow(TEXT, "Verbs").filter(({ length }) => length === 3);
  const actions = asked.flatMap(([cell = ""]) => words(cell));
  expect(actions.toSorted()).toEqual(Object.keys(VERB_ACTIONS).toSorted());
  for (const [actionCell = "", , resource = ""] of asked)
    for (const action of words(actionCell))
      if (resource !== "the same" && !resource.startsWith("the same;"))
        expect([action, words(resource)[0]]).toEqual([action, Reflect.get(VERB_ACTIONS, action)]);
  const why = [
    ...(TEXT.split("Never asked, by design:")[1]
      ?.split("\n## ")[0]
      ?.matchAll(/^\|([^|]+)\|/gm) ?? []),
  ];
  const before = asked.flatMap(([action = "", when = ""]) =>
    when === "the verb" ? words(action) : words(when),
  );
  const told = new Set([...before, ...why.flatMap(([, cell = ""]) => words(cell))]);
  expect(Object.keys(PARAMS).filter((verb) => !told.has(verb))).toEqual([]);
});

test("docs/POLICY.md names every action, type and lease", async () => {
  const { set } = await loadGood(shippedFiles());
  for (const name of ACTIONS) expect(TEXT).toContain(`\`${name}\``);
  for (const { resources } of set.shapes.actions.values())
    for (const type of resources)
      expect(TEXT).toContain(`\`${type.charAt(0).toLowerCase()}${type.slice(1)}\``);
  const leases = [...set.notes.values()].flatMap(({ text }) => [
    ...text.matchAll(/leases\.contains\("([^"]+)"\)/g),
  ]);
  expect(leases.length).toBeGreaterThan(5);
  for (const [, lease] of leases) expect(TEXT).toContain(`\`${lease}\``);
});
