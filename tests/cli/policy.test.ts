import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { answerRequest } from "../../daemon/policy/answer.ts";
import { decisionFacts } from "../../daemon/policy/decision-facts.ts";
import { boundaryctl } from "../support/boundaryctl.ts";
import { fakeDaemon } from "../support/fake-daemon.ts";
import { loadGood, question, registry, shippedFiles, situation } from "../support/policies.ts";
import { sampleLog } from "../support/sample-log.ts";

const SHIPPED = join(import.meta.dirname, "../../policies");
const AGENT = { type: "Agent", id: "coder", roles: [] };
const NETWORK = question("tool.run", ["tool", "curl"], { reach: "network" });

let base: string;
let candidate: string;
let asked: string;
beforeAll(() => {
  base = mkdtempSync(join(tmpdir(), "boundary-policy-"));
  candidate = join(base, "candidate");
  cpSync(SHIPPED, candidate, { recursive: true });
  // "observed" suffices one class less, and its case with it
  edit("memory.cedar", "resource.class > 3 }", "resource.class > 2 }");
  edit(
    "memory.cases.yaml",
    "assurance: observed, answer: allow, by: [memory.recall]",
    "assurance: observed, answer: deny, by: [memory.observed]",
  );
  asked = join(base, "question.json");
  writeFileSync(asked, JSON.stringify({ ...NETWORK, subject: { type: "Agent", id: "coder" } }));
});
afterAll(() => rmSync(base, { recursive: true, force: true }));

function edit(name: string, from: string, to: string): void {
  const path = join(candidate, name);
  const text = readFileSync(path, "utf8");
  expect(text).toContain(from);
  writeFileSync(path, text.replace(from, to));
}
const policy = (...args: string[]) => boundaryctl(["policy", ...args]);

describe("without a daemon", () => {
  test("check: 0 and the digest, or 1 and where", async () => {
    const good = await policy("check");
    expect(good).toMatchObject({ code: 0, stderr: "" });
    expect(good.stdout).toMatch(
      /^\d+ policies, \d+ cases, each as Cedar itself answers it\ndigest [0-9a-f]{64}\n$/,
    );
    const broken = join(base, "broken");
    cpSync(SHIPPED, broken, { recursive: true });
    writeFileSync(
      join(broken, "x.cedar"),
      '@id("x")\nforbid (principal, action, resource) when { contxt.frozen };',
    );
    const bad = await policy("check", broken, "--json");
    expect(bad.code).toBe(1);
    expect(JSON.parse(bad.stdout)).toMatchObject({
      ok: false,
      problems: [{ file: "x.cedar", line: 1, column: 1, problem: expect.stringContaining("x.cases.yaml") }],
    });
    writeFileSync(
      join(broken, "x.cases.yaml"),
      'cases: [{ who: "User::1", action: recall, resource: "memory::n", mode: OPEN, answer: deny, by: [] }]',
    );
    expect(await policy("check", broken)).toMatchObject({
      code: 1,
      stdout: expect.stringMatching(/^x\.cedar:2:45: .*contxt/),
    });
    expect(await policy("check", join(base, "none"))).toMatchObject({
      code: 1,
      stderr: expect.stringContaining("config-unreadable"),
    });
  }, 60_000);

  test("test: each case, and what none of them proves", async () => {
    const ran = await policy("test", candidate);
    expect(ran).toMatchObject({ code: 0, stdout: expect.stringMatching(/\n\d+ passed, 0 failed\n$/) });
    expect(ran.stdout).toContain(
      "ok     memory.cases.yaml 0: User::1000 recall memory::n in OPEN: allow by memory.recall",
    );
    const json = JSON.parse((await policy("test", SHIPPED, "--json")).stdout);
    expect([json.ok, json.unproven, json.cases.length > 100]).toEqual([true, [], true]);
  }, 60_000);

  test("explain: 0 or 1, and what would change it", async () => {
    const denied = await policy("explain", asked, "--mode", "open");
    expect(denied).toMatchObject({ code: 1, stderr: "" });
    expect(denied.stdout).toContain("policy     deny by tools.agent-network");
    expect(denied.stdout).toMatch(/\nallowed:\n {2}with a person's approval\n {2}with a lease network\n$/);
    const allowed = await policy("explain", asked, "--mode", "OPEN", "--lease", "network", "--json");
    expect([allowed.code, JSON.parse(allowed.stdout).changes.includes("without the lease network")]).toEqual([
      0,
      true,
    ]);
    expect(await policy("explain", join(base, "none"), "--mode", "OPEN")).toMatchObject({ code: 2 });
    expect(await policy("explain", asked, "--runtime-dir", join(base, "no-daemon"))).toMatchObject({
      code: 3,
    });
  }, 60_000);

  test("diff: 0 alike, 1 not", async () => {
    expect(await policy("diff", SHIPPED, SHIPPED)).toMatchObject({ code: 0, stdout: "no difference\n" });
    const ran = await policy("diff", SHIPPED, candidate);
    expect([ran.code, ran.stdout.split("\n")[0]]).toEqual([1, "changed  memory.observed"]);
    expect(ran.stdout).toMatch(
      /flips {4}memory\.cases\.yaml \d+: User::1000 recall memory::n: allow by memory\.recall; then deny by memory\.observed/,
    );
  }, 60_000);

  test("replay: each decision of the signed log that a candidate flips", async () => {
    const { set } = await loadGood(shippedFiles());
    const now = situation({ wanted: "TRUSTED", applied: "TRUSTED", assurance: "observed" });
    const facts = (memoryClass: string) => {
      const request = question("recall", ["memory", "n"], { class: memoryClass });
      const { answer } = answerRequest(set, registry(set.shapes), request, AGENT, now);
      return decisionFacts(set.digest, request, AGENT, now, answer);
    };
    const secret = question("secret.read", ["secret", "db-password"], { workspace: "alpha" });
    const denied = answerRequest(set, registry(set.shapes), secret, AGENT, now).answer;
    const kinds = [
      { policy: facts("SECRET") },
      { policy: facts("PUBLIC") },
      { policy: decisionFacts(set.digest, secret, AGENT, now, denied) },
      { decision: "deny" },
    ];
    const log = await sampleLog(2, (batch, n) => kinds[batch === 1 && n === 2 ? 3 : n] ?? {});
    try {
      const args = [log.logDir, "--key", log.vkey];
      const ran = await policy("replay", candidate, ...args);
      expect(ran).toMatchObject({ code: 1, stderr: "" });
      const lines = ran.stdout.trimEnd().split("\n");
      expect(lines).toHaveLength(3);
      expect(lines[0]).toMatch(
        /^1 .* Agent::coder recall memory::n: allow by memory\.recall; would be deny by memory\.observed$/,
      );
      expect(lines[2]).toBe(
        "5 decisions asked anew, 2 flip; 1 on which policy was not asked, or which do not say all",
      );
      expect(await policy("replay", SHIPPED, ...args, "--json")).toMatchObject({ code: 0 });
      const later = await policy("replay", candidate, ...args, "--since", "2100-01-01", "--json");
      expect([later.code, JSON.parse(later.stdout)]).toMatchObject([0, { asked: 0, flips: [] }]);
      expect(await policy("replay", candidate, ...args, "--since", "yesterday")).toMatchObject({ code: 2 });
    } finally {
      log.remove();
    }
  }, 60_000);
});

describe("with one", () => {
  test("reload says what is taken up; explain takes the mode from it", async () => {
    const mode = { wanted: "AIRGAP", applied: null };
    const daemon = await fakeDaemon({
      "policy.reload": { data: { digest: "ab", policies: 3, changed: true } },
      status: {
        data: { mode, assurance: "failed", frozen: "", controls: [], sensors: [], log: {}, daemon: {} },
      },
    });
    try {
      const at = ["--runtime-dir", daemon.runtimeDir];
      expect(await policy("reload", ...at)).toMatchObject({
        code: 0,
        stdout: "3 policies, another set than before\ndigest ab\n",
      });
      const ran = await policy("explain", asked, ...at);
      expect(ran).toMatchObject({
        code: 1,
        stdout: expect.stringContaining("ceiling    deny by mode.lockdown"),
      });
      expect(daemon.requests.map(({ verb }) => verb)).toEqual(["policy.reload", "status"]);
    } finally {
      await daemon.stop();
    }
  });
});
