import { readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Profile, parseExecProfiles } from "../../daemon/exec/profile.ts";
import { judge } from "../../daemon/exec/verdict.ts";
import { facts, WORKSPACE } from "../support/exec-host.ts";

const ROOT = join(import.meta.dirname, "../..");

const base = `
version: 1
patterns: { name: '[a-z]+' }
profiles:
  - name: p
    modes: [OPEN]
    unlisted: deny
    unresolved: ask
    searchPath: [/usr/bin]
    programs:
      - name: [tool]
        rules:
          - id: run
            verdict: allow
            options: '-v -n:number'
            operands: ['name*']
            match: ['tool -v a', 'tool -n5 a']
            not_match: ['tool -x', 'tool A']
`;

function profileOf(text: string): Profile {
  const parsed = parseExecProfiles(text);
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.problems));
  const [first] = parsed.value.values();
  if (first === undefined) throw new Error("no profile");
  return first;
}

const problems = (text: string) => {
  const parsed = parseExecProfiles(text);
  return parsed.ok ? [] : parsed.problems.map(({ at, problem }) => `${at}: ${problem}`);
};
const say = (text: string, ...argv: string[]) =>
  judge({ argv, cwd: WORKSPACE, environmentNames: [], profile: profileOf(text) }, facts()).verdict;

describe("a file of profiles", () => {
  test("the shipped one is good, and names no file that is not there", () => {
    const text = readFileSync(join(ROOT, "policies/exec.yaml"), "utf8");
    expect(problems(text)).toEqual([]);
    const named = [...text.matchAll(/(?:docs|policies|tests)\/[\w./]+\w/g)].map(([path]) => path);
    expect(named).toContain("docs/EXEC.md");
    const places = text.split("\n").filter((line) => line.startsWith("#"));
    for (const path of named.filter((one) => places.some((line) => line.includes(one))))
      expect(() => readFileSync(join(ROOT, path))).not.toThrow();
  });

  test("what it says is what is judged", () => {
    expect(say(base, "tool", "-v", "a", "b")).toBe("allow");
    expect(say(base, "tool", "-vn", "5")).toBe("allow");
    expect(say(base, "tool", "--", "a")).toBe("allow");
    expect(say(base, "tool", "--", "-v")).toBe("deny");
    expect(say(base, "tool", "-n", "five")).toBe("deny");
    expect(say(base, "other")).toBe("deny");
  });

  test.each([
    ["a key that is not known", base.replace("unlisted:", "unlistd:")],
    ["a verdict that is none", base.replace("verdict: allow", "verdict: alow")],
    ["a mode that is none", base.replace("[OPEN]", "[OPN]")],
    ["a kind that is none", base.replace("'name*'", "'nam*'")],
    ["an option that is none", base.replace("'-v -n:number'", "'v -n:number'")],
    ["an option of a kind that is none", base.replace("-n:number", "-n:nmber")],
    ["a pattern that is none", base.replace("'[a-z]+'", "'[a-z+'")],
    ["an example that does not match", base.replace("'tool -v a'", "'tool -w a'")],
    ["an example that should not match", base.replace("'tool -x'", "'tool -v'")],
    ["an example of another program", base.replace("'tool -x'", "'tol -x'")],
    ["an example that is more than words", base.replace("'tool -x'", "'tool $x'")],
    ["an example that is missing", base.replace("match: ['tool -v a', 'tool -n5 a']", "match: []")],
    ["no rules", base.replace(/rules:.*/s, "rules: []\n")],
    ["a path that is not plain", base.replace("[/usr/bin]", "[/usr/../bin]")],
    ["a path that is relative", base.replace("[/usr/bin]", "[bin]")],
    ["a name twice", `${base}${base.slice(base.indexOf("  - name: p"))}`],
    [
      "an environment that makes programs do something else",
      base.replace("    unlisted", "    environment: [LD_PRELOAD]\n    unlisted"),
    ],
    ["an include of what is not further up", base.replace("    unlisted", "    includes: [q]\n    unlisted")],
    ["a name in notPaths that is no pattern", `${base}notPaths: [nme]\n`],
    ["exact beside options", base.replace("options:", "exact: ['a']\n            options:")],
    ["a version that is not known", base.replace("version: 1", "version: 2")],
  ])("refused: %s", (_, text) => {
    expect(text).not.toBe(base);
    expect(problems(text).length).toBeGreaterThan(0);
  });

  test("empty lists allow nothing", () => {
    const programs = base.replace(/programs:.*/s, "programs: []\n");
    const modes = base.replace("[OPEN]", "[]");
    const path = base.replace("[/usr/bin]", "[]");
    expect([programs, modes, path].map((text) => say(text, "tool", "-v"))).toEqual(["deny", "deny", "deny"]);
  });

  test("a digest that is not the listed one, or was not taken, is refused", () => {
    const text = base.replace("        rules:", `        sha256: ${"a".repeat(64)}\n        rules:`);
    const given = (sha256: string | null) =>
      judge(
        { argv: ["tool", "-v"], cwd: WORKSPACE, environmentNames: [], profile: profileOf(text) },
        { ...facts(), resolveProgram: () => ({ found: "/usr/bin/tool", real: "/usr/bin/tool", sha256 }) },
      );
    expect(given("a".repeat(64)).verdict).toBe("allow");
    expect(given("b".repeat(64))).toMatchObject({ verdict: "deny", rule: "digest" });
    expect(given(null)).toMatchObject({ verdict: "deny", rule: "digest" });
  });

  test("the strictest of the rules that fit counts, but for one that counts last", () => {
    const rule = (more: string) => `${base}          - id: second
            verdict: ask
${more}            options: '-v'
            operands: ['text*']
            match: ['tool -v a']
`;
    expect(say(rule(""), "tool", "-v", "a")).toBe("ask");
    expect(say(rule("            last: true\n"), "tool", "-v", "a")).toBe("allow");
    expect(say(rule("            last: true\n"), "tool", "-v", "A")).toBe("ask");
  });

  test("whatever is given is profiles or problems", () => {
    fc.assert(
      fc.property(fc.oneof(fc.string({ unit: "binary" }), fc.json()), (text) => {
        expect(parseExecProfiles(text).ok).toBe(false);
      }),
    );
  });
});
