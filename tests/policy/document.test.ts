import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { ACTIONS, GOVERNED_VERBS } from "../../daemon/core/access.ts";
import { parseRegistry } from "../../daemon/policy/registry.ts";
import { file, loadGood, registry, shippedFiles } from "../support/policies.ts";

const TEXT = readFileSync(join(import.meta.dirname, "../../docs/POLICY.md"), "utf8");
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

test("docs/POLICY.md names every action, type and lease", async () => {
  const { set } = await loadGood(shippedFiles());
  for (const name of [...ACTIONS, ...GOVERNED_VERBS]) expect(TEXT).toContain(`\`${name}\``);
  for (const { resources } of set.shapes.actions.values())
    for (const type of resources)
      expect(TEXT).toContain(`\`${type.charAt(0).toLowerCase()}${type.slice(1)}\``);
  const leases = [...set.notes.values()].flatMap(({ text }) => [
    ...text.matchAll(/leases\.contains\("([^"]+)"\)/g),
  ]);
  expect(leases.length).toBeGreaterThan(5);
  for (const [, lease] of leases) expect(TEXT).toContain(`\`${lease}\``);
});
