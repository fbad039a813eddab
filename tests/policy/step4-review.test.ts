import { afterEach, describe, expect, test } from "vitest";
import { renderCanonical } from "../../daemon/audit/canonical.ts";
import { withoutSecrets } from "../../daemon/audit/redaction.ts";
import type { AccessRequest } from "../../daemon/core/access.ts";
import { accessDigest } from "../../daemon/core/access-text.ts";
import { scopeOf } from "../../daemon/core/token-standing.ts";
import { answerRequest } from "../../daemon/policy/answer.ts";
import { decisionFacts, readDecisionFacts } from "../../daemon/policy/decision-facts.ts";
import { derive } from "../../daemon/policy/derived.ts";
import { entityTypeOf, parseRegistry } from "../../daemon/policy/registry.ts";
import { loadGood, question, registry, shippedFiles, situation, USER } from "../support/policies.ts";
import { ASKED, good, judgeAs, startPolicies, stopPolicies } from "../support/policies-host.ts";
import { tokenOf } from "../support/tokens.ts";

/** Review of step 4, half A: who may do what. Each test says what should hold; it does not. */

afterEach(stopPolicies);

const later = () => new Promise((resolve) => setTimeout(resolve, 20));

describe("a set that Cedar disagreed about", () => {
  test("answers nothing when it is loaded again after another one", async () => {
    const { policies, host, answer, disagreed } = startPolicies({ judge: judgeAs("somebody-else") });
    await policies.load("test");
    answer();
    await later();
    expect([disagreed.length, answer().code]).toEqual([1, "policy-disagreed"]);
    host.files = good("b");
    host.judge = judgeAs("b");
    await policies.load("test");
    host.files = good("a");
    await policies.load("test");
    expect(answer().decision).toBe("deny");
  });
});

describe("the referee", () => {
  test("that never works is told in the log, not in a status row alone", async () => {
    const { policies, answer, records, disagreed } = startPolicies({
      judge: () => Promise.reject(new Error("it cannot be asked")),
    });
    await policies.load("test");
    for (let n = 0; n < 1_000; n++) answer();
    await later();
    const kinds = records.map(({ kind }) => kind).filter((kind) => kind !== "policy.loaded");
    expect(kinds.length + disagreed.length).toBeGreaterThan(0);
  });

  test("judges some of everybody's questions: nobody can ask between them", async () => {
    const judged: string[] = [];
    const { policies } = startPolicies({
      refereeEvery: 100,
      random: Math.random,
      judge: (questions) => {
        for (const { resource } of questions) judged.push(resource.id);
        return judgeAs("a")(questions);
      },
    });
    await policies.load("test");
    const about = (id: string) => policies.answer(question("recall", ["memory", id]), USER, situation());
    for (let n = 0; n < 3_000; n++) {
      about((n + 1) % 100 === 0 ? "harmless" : "wanted");
      if (n % 500 === 0) await later();
    }
    await later();
    expect(judged).toContain("wanted"); // 2,970 of them, none looked at
  });
});

describe("one thing under two names", () => {
  test("a command's path goes around neither a token's scope nor the registry", () => {
    const token = tokenOf("t", { resources: [{ type: "command", id: "/opt/tools/*" }] });
    const tokens = { size: 1, shards: new Map([[token.id.slice(0, 2), new Map([[token.id, token]])]]) };
    const asked: AccessRequest = {
      subject: { type: "User", id: "0", properties: {} },
      action: { name: "command.run", properties: {} },
      resource: { type: "command", id: "/opt/tools/../../usr/bin/env", properties: {} },
      context: {},
    };
    const covered = scopeOf(tokens, token.id, asked) === null;
    const derived = derive("Command", asked.resource.id);
    expect(covered && "id" in derived && derived.id === asked.resource.id).toBe(false);
  });

  test.each([
    ["169.254.169.254", "2852039166"],
    ["169.254.169.254", "0xa9fea9fe"],
    ["169.254.169.254", "169.254.43518"],
    ["169.254.169.254", "::ffff:169.254.169.254"],
    ["2001:db8::1", "2001:0db8:0:0:0:0:0:1"],
  ])("a host is known by every way to write its address: %s as %s", (known, alias) => {
    const derived = derive("Host", alias);
    if ("problem" in derived) return; // refused does as well
    expect(derived.id).toBe(known);
  });

  test("a type of resource is written in one way", async () => {
    const { set } = await loadGood(shippedFiles());
    expect(entityTypeOf(set.shapes, "secret")).toBe("Secret");
    const alias = "\u017fecret";
    const [one, other] = ["secret", alias].map((type) => accessDigest(question("secret.read", [type, "k"])));
    expect(one).not.toBe(other);
    // a denied question is asked of a person again under another digest
    expect(entityTypeOf(set.shapes, alias)).toBeNull();
  });
});

describe("the registry", () => {
  test("gives no roles: one that says so is refused, and not passed over", () => {
    expect(parseRegistry('users: [{ id: "1000", roles: [auditor] }]').ok).toBe(false);
  });
});

describe("what a decision record keeps", () => {
  test("can be read again after the log has taken the secrets out", async () => {
    const { set } = await loadGood(good("a"));
    const asked = situation({ token: true });
    const { answer } = answerRequest(set, registry(set.shapes), ASKED, USER, asked);
    const data = { policy: decisionFacts(set.digest, ASKED, USER, asked, answer) };
    const kept = withoutSecrets("decision", { data, text: renderCanonical(data) });
    expect(readDecisionFacts(kept.data["policy"])).not.toBeNull();
  });
});

describe("the shipped policies", () => {
  const known = {
    users: [{ id: "1000", groups: [], workspaces: ["alpha"] }],
    resources: [{ type: "secret", id: "loose", groups: [], properties: {} }],
  };

  test("whose a secret is says the registry: who names his own workspace reads none that has no owner", async () => {
    const { set } = await loadGood(shippedFiles());
    const asked = question("secret.read", ["secret", "loose"], { workspace: "alpha" });
    const { answer } = answerRequest(set, registry(set.shapes, known), asked, USER, situation());
    expect(answer.decision).toBe("deny");
  });

  test.each([
    ["file.write", "/var/run/boundary-daemon/control.sock"], // /var/run is /run
    ["file.read", "/proc/self/root/var/lib/boundary-daemon/key"],
    ["file.write", "/proc/self/root/etc/boundary-daemon/config.yaml"],
  ])("what the boundary keeps is nobody's: %s %s", async (action, path) => {
    const { set } = await loadGood(shippedFiles());
    const who = { type: "User", id: "1000", roles: ["operator"] };
    const asked = question(action, ["file", path]);
    const { answer } = answerRequest(set, registry(set.shapes), asked, who, situation());
    expect(answer.decision).toBe("deny");
  });

  test.each(["/etc", "/var/spool/cron/crontabs/root", "/var/run/x", "/home/ana/.ssh/authorized_keys"])(
    "an agent writes %s with a person's approval only",
    async (path) => {
      const { set } = await loadGood(shippedFiles());
      const who = { type: "Agent", id: "a", roles: [] };
      const { answer } = answerRequest(
        set,
        registry(set.shapes),
        question("file.write", ["file", path]),
        who,
        situation(),
      );
      expect(answer.decision).toBe("deny");
    },
  );
});
