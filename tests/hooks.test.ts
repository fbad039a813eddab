import { createHash } from "node:crypto";
import { symlinkSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { blocking, parseAcknowledged, scanContent } from "./support/credential-scan.ts";
import { noise, PLANTED, pem, whole } from "./support/planted-credentials.ts";
import { makeTempRepo, type TempRepo } from "./support/temp-repo.ts";

const HONEST: readonly (readonly [path: string, content: string])[] = [
  ["daemon/token.ts", "const token = parseTokenOfThePeer(frame, 65536);\n"],
  ["daemon/key.ts", 'const secretName = "the name of a secret";\nconst passwordHint = z.string().min(8);\n'],
  ["package-lock.json", `"integrity": "sha512-${noise(86, "lock")}=="\n`],
  ["docs/keys.md", "A private key begins with a line that says so, and is never printed.\n"],
  ["docs/aws.md", `The key is AKIA¦IOSFODNN7EXAMPLE in their manual.\n`],
  [
    "tests/login.test.ts",
    `const tok¦en = "test_token_4f1c2d3e5a6b7c8d9e0f";\nconst password = "example_password";\n`,
  ],
  ["daemon/db.ts", "`postgres://$¦{user}:$¦{password}@host/db`\n"],
  ["log/root.jsonl", `{"prev":"${createHash("sha256").update("x").digest("hex")}"}\n`],
  ["vkey.txt", `boundary+0123abcd+${noise(44, "vkey")}\n`],
];

describe("the credential scan", () => {
  test.each(PLANTED)("finds %s: %s", (rule, _what, content) => {
    const found = scanContent("daemon/planted.txt", Buffer.from(`first line\n${whole(content)}\n`));
    expect(found.map((one) => one.rule)).toContain(rule);
    expect(found.find((one) => one.rule === rule)?.line).toBe(2);
    expect(blocking(found, new Set())).not.toEqual([]);
  });

  test.each(HONEST)("says nothing about %s", (path, content) => {
    expect(scanContent(path, Buffer.from(whole(content)))).toEqual([]);
  });

  test.each([
    ["daemon/a.ts", `const tok¦en = "test_¦token_4f1c2d3e5a6b7c8d9e0f";`],
    ["tests/a.ts", `const tok¦en = "my_test_¦token_4f1c2d3e5a6b7c8d9e0f";`],
    ["daemon/aws.ts", `AKIA¦IOSFODNN7EXAMPLE`],
    ["tests/aws.ts", `AKIA¦IOSFODNN7EXAMPLE`],
  ])("credentials for tests are allowed in their own place only: %s", (path, content) => {
    expect(scanContent(path, Buffer.from(whole(content)))).not.toEqual([]);
  });

  test("never prints more than the first four characters of a secret", () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 1_000_000 }), (salt) => {
        const secret = noise(40, `mask${salt}`);
        const found = scanContent("a.env", Buffer.from(whole(`pass¦word="${secret}"`)));
        expect(found.length).toBeGreaterThan(0);
        for (const one of found) expect(JSON.stringify(one)).not.toContain(secret.slice(0, 5));
      }),
    );
  });

  test("reads binary and large files, across the edges of its windows", () => {
    const key = pem("RSA ");
    const binary = Buffer.concat([Buffer.from([0, 255, 0, 1]), Buffer.from(key), Buffer.alloc(64)]);
    expect(scanContent("blob.bin", binary).map((one) => one.rule)).toContain("pem-private-key");
    for (const before of [(1 << 20) - 10, (1 << 20) + 5, 3 << 20]) {
      const large = Buffer.concat([Buffer.alloc(before, "x\n"), Buffer.from(key)]);
      const found = scanContent("large.txt", large).filter((one) => one.rule === "pem-private-key");
      expect(found).toHaveLength(1);
    }
  });

  test("takes any bytes without failing", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 4096 }), (bytes) => {
        expect(Array.isArray(scanContent("any", Buffer.from(bytes)))).toBe(true);
      }),
    );
  });

  test("critical and high cannot be acknowledged away, medium can, low only warns", () => {
    const text = [
      `ghp_¦${noise(36, "gh")}`,
      `https://me:${noise(10, "web")}@a.example/`,
      `pass¦word: "simple"`,
    ];
    const found = scanContent("a.txt", Buffer.from(whole(text.join("\n"))));
    expect(found.map((one) => one.severity).toSorted()).toEqual(["critical", "low", "medium"]);
    const all = parseAcknowledged(found.map((one) => `${one.fingerprint} reason`).join("\n"), "");
    expect(
      blocking(found, new Set())
        .map((one) => one.severity)
        .toSorted(),
    ).toEqual(["critical", "medium"]);
    expect(blocking(found, all).map((one) => one.severity)).toEqual(["critical"]);
  });
});

describe("the hooks in a real repository", { timeout: 60_000 }, () => {
  let repo: TempRepo;

  beforeAll(() => {
    repo = makeTempRepo();
  });
  afterAll(() => repo?.remove());

  function commit(path: string, content: string | Buffer, env: Readonly<Record<string, string>> = {}) {
    repo.write(path, content);
    repo.git(["add", "--", path]);
    const ran = repo.git(["commit", "-qm", "area/file: plant a thing"], env);
    if (ran.status !== 0) repo.git(["rm", "-q", "--cached", "-f", "--", path]);
    return ran;
  }

  test("an honest commit passes", () => {
    const ran = commit("daemon/honest.ts", 'export const mode = "AIRGAP";\n');
    expect(ran).toMatchObject({ status: 0 });
    expect(repo.git(["log", "-1", "--format=%s"]).out.trim()).toBe("area/file: plant a thing");
  });

  test.each(PLANTED)("refuses %s: %s", (rule, _what, content) => {
    const ran = commit("notes.txt", whole(content));
    expect(ran.status).not.toBe(0);
    expect(ran.out).toContain(rule);
  });

  test.each(["-n.txt", "--help", "with space.txt", "quote'\".txt", "über.txt", "a\nb.txt"])(
    "the file name %j changes nothing",
    (path) => {
      expect(commit(path, pem("")).out).toContain("pem-private-key");
      expect(commit(path, "- a pattern that begins with a dash\n").status).toBe(0);
    },
  );

  test("what counts is the index, not the work tree", () => {
    repo.write("split.txt", pem(""));
    repo.git(["add", "split.txt"]);
    repo.write("split.txt", "harmless\n");
    expect(repo.git(["commit", "-qm", "area: hide a key"]).status).not.toBe(0);
    repo.git(["add", "split.txt"]);
    repo.write("split.txt", pem(""));
    expect(repo.git(["commit", "-qm", "area: leave a key unstaged"]).status).toBe(0);
  });

  test("a key in the target of a symbolic link is seen", () => {
    symlinkSync(whole(`ghp_¦${noise(36, "link")}`), join(repo.dir, "link"));
    repo.git(["add", "link"]);
    const ran = repo.git(["commit", "-qm", "area: add a link"]);
    repo.git(["rm", "-q", "--cached", "-f", "link"]);
    expect(ran.out).toContain("github-token");
  });

  test("a medium finding passes with its fingerprint, a critical one does not", () => {
    const url = `https://me:${noise(10, "ack")}@example.org/\n`;
    const first = commit("url.txt", url);
    const fingerprint = /BOUNDARY_ACKNOWLEDGE=([0-9a-f]{12})/.exec(first.out)?.[1] ?? "";
    expect(fingerprint).not.toBe("");
    expect(commit("url.txt", url, { BOUNDARY_ACKNOWLEDGE: fingerprint }).status).toBe(0);
    const [critical] = scanContent("key.txt", Buffer.from(pem("")));
    expect(commit("key.txt", pem(""), { BOUNDARY_ACKNOWLEDGE: critical?.fingerprint ?? "" }).status).not.toBe(
      0,
    );
  });

  test.each([
    ["bad form", "export const a   = 1\n", "format"],
    ["a lint error", "export function f(x: unknown) {\n  debugger;\n  return x;\n}\n", "noDebugger"],
    ["a type error", 'export const n: number = "text";\n', "TS2322"],
    ["an enum", "export enum Mode {\n  Open = 1,\n}\n", "noEnum"],
  ])("refuses %s", (_what, content, says) => {
    const ran = commit("daemon/bad.ts", content);
    expect(ran.status).not.toBe(0);
    expect(ran.out).toContain(says);
  });

  test("a file that is renamed and changed is looked at", () => {
    const lines = Array.from({ length: 30 }, (_, n) => `export const n${n} = ${n};\n`).join("");
    expect(commit("daemon/before.ts", lines).status).toBe(0);
    repo.git(["mv", "daemon/before.ts", "daemon/after.ts"]);
    const ran = commit("daemon/after.ts", `${lines}export const bad: number = "text";\n`);
    repo.git(["rm", "-q", "--cached", "-f", "--ignore-unmatch", "daemon/before.ts"]);
    expect(ran.status).not.toBe(0);
    expect(ran.out).toContain("TS2322");
  });

  test.each([
    ["fix things", 1],
    ["core/machine: Added a rule", 1],
    ["core/machine: added a rule", 1],
    ["core/machine: add a rule.", 1],
    [`core: ${"long ".repeat(30)}`, 1],
    ["core/machine: add a rule", 0],
    ["core, protocol: name the kinds", 0],
    [".ci/run: count what ran", 0],
  ])("the message %j: exit %i", (message, status) => {
    const ran = repo.git(["commit", "-q", "--allow-empty", "-m", message]);
    expect(ran.status).toBe(status);
  });
});
