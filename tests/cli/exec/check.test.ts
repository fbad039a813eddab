import { createHash } from "node:crypto";
import { mkdirSync, realpathSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { programLookup } from "../../../daemon/adapters/exec-programs.ts";
import { parseExecProfiles } from "../../../daemon/exec/profile.ts";
import { boundaryctl } from "../../support/boundaryctl.ts";
import { directoryOfFile } from "../../support/directory-of-file.ts";

const HOME = realpathSync(directoryOfFile("exec"));

const BIN = join(HOME, "bin");
mkdirSync(BIN);
writeFileSync(join(BIN, "tool"), "#!/bin/true\n", { mode: 0o755 });
writeFileSync(join(BIN, "plain"), "no program\n", { mode: 0o644 });
symlinkSync(join(BIN, "tool"), join(BIN, "alias"));

const profiles = (more = ""): string => `version: 1
patterns: { name: '[a-z]+' }
profiles:
  - name: default
    modes: [OPEN]
    unlisted: deny
    unresolved: ask
    searchPath: [${BIN}]
    programs:
      - name: [tool]
${more}        rules:
          - id: run
            verdict: allow
            options: '-v --json'
            operands: ['name*']
            match: ['tool -v a']
`;
const file = join(HOME, "exec.yaml");
writeFileSync(file, profiles());

const check = (args: readonly string[], stdin?: string) =>
  boundaryctl(["exec", "check", "--profiles", file, ...args], {}, stdin);

describe("exec check", () => {
  test("0 for allow, 1 for deny, 3 for ask, and says that no daemon was asked", async () => {
    const allowed = await check(["--", "tool", "-v", "a"]);
    expect(allowed).toMatchObject({ code: 0, stderr: "" });
    expect(allowed.stdout).toMatch(
      /^allow\nrule +tool\/run: .*\nby .*no daemon was asked, and nothing was run\n/,
    );
    expect((await check(["--", "other"])).code).toBe(1);
    expect((await check(["--stdin"], "tool $x")).code).toBe(3);
  });

  test("what stands after -- is none of our arguments", async () => {
    const { code, stdout } = await check(["--json", "--", "tool", "--json", "--", "a"]);
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({
      verdict: "allow",
      rule: "tool/run",
      profile: "default",
      mode: "OPEN",
      daemon: "not asked",
    });
    expect(JSON.parse((await check(["--json", "--", "tool", "007", ""])).stdout)).toMatchObject({
      verdict: "deny",
      layers: [{ depth: 0, what: "program", text: "tool 007 ", path: join(BIN, "tool"), verdict: "deny" }],
    });
  });

  test("a line of stdin is judged whole, without the end that every line has", async () => {
    const { code, stdout } = await check(["--stdin", "--json"], "tool a | tool b\n");
    expect(code).toBe(0);
    expect((JSON.parse(stdout) as { layers: unknown[] }).layers).toHaveLength(2);
    expect((await check(["--stdin"], "tool a; other\n")).code).toBe(1);
    expect((await check(["--stdin"], "")).code).toBe(1);
    expect((await check(["--stdin"], "x".repeat(300_000))).code).toBe(2);
  });

  test.each([
    ["no command", []],
    ["a command and a line", ["--stdin", "--", "tool"]],
    ["a command before --", ["tool"]],
    ["a profile that is not there", ["--profile", "other", "--", "tool"]],
    ["a mode that is not there", ["--mode", "AJAR", "--", "tool"]],
    ["a workspace that is not there", ["--workspace", join(HOME, "nowhere"), "--", "tool"]],
  ])("2 for %s", async (_, args) => {
    expect(await check(args)).toMatchObject({ code: 2, stdout: "" });
  });

  test("mode, workspace and environment are what is judged with", async () => {
    expect((await check(["--mode", "LOCKDOWN", "--", "tool", "a"])).code).toBe(1);
    expect((await check(["--workspace", BIN, "--", "tool", "a"])).code).toBe(1);
    expect((await check(["--environment", "CI,TZ", "--", "tool", "a"])).code).toBe(0);
    expect((await check(["--environment", "CI,LD_PRELOAD", "--", "tool", "a"])).code).toBe(1);
  });

  test("a file with a mistake allows nothing, and says where", async () => {
    const bad = join(HOME, "bad.yaml");
    writeFileSync(bad, profiles().replace("unlisted", "unlistd"));
    const { code, stderr } = await boundaryctl(["exec", "check", "--profiles", bad, "--", "tool"]);
    expect(code).toBe(1);
    expect(stderr).toContain("config-invalid");
    expect(stderr).toContain("unlistd");
  });

  test("the shipped file is used without another", async () => {
    const { code, stdout } = await boundaryctl([
      "exec",
      "check",
      "--json",
      "--profile",
      "developer",
      "--",
      "rm",
      "-rf",
      "/",
    ]);
    expect(code).toBe(1);
    expect(JSON.parse(stdout)).toMatchObject({ verdict: "deny", profile: "developer" });
  });
});

describe("looking programs up", () => {
  const look = (text: string) => {
    const parsed = parseExecProfiles(text);
    const profile = parsed.ok ? parsed.value.get("default") : undefined;
    if (profile === undefined) throw new Error("no profile");
    return programLookup(profile);
  };
  const tool = join(BIN, "tool");

  test("by the profile's path, through links, and executable files alone", () => {
    const found = look(profiles());
    expect(found("tool", HOME)).toEqual({ found: tool, real: tool, sha256: null });
    expect(found("alias", HOME)).toEqual({ found: join(BIN, "alias"), real: tool, sha256: null });
    expect(found("./bin/tool", HOME)?.real).toBe(tool);
    expect(["plain", "ls", "../bin", "bin", "."].map((name) => found(name, HOME))).toEqual([
      null,
      null,
      null,
      null,
      null,
    ]);
  });

  test("with a digest where one is listed", () => {
    const sha256 = createHash("sha256").update("#!/bin/true\n").digest("hex");
    const found = look(profiles(`        sha256: ${sha256}\n`));
    expect(found("alias", HOME)?.sha256).toBe(sha256);
    // one that is remembered is the one that is there
    writeFileSync(tool, "#!/bin/false\n", { mode: 0o755 });
    try {
      expect(found("alias", HOME)?.sha256).toBe(createHash("sha256").update("#!/bin/false\n").digest("hex"));
    } finally {
      writeFileSync(tool, "#!/bin/true\n", { mode: 0o755 });
    }
    expect(found("alias", HOME)?.sha256).toBe(sha256);
  });
});
