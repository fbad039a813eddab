import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { renderCanonical } from "../../daemon/audit/canonical.ts";
import { withoutSecrets } from "../../daemon/audit/redaction.ts";
import { MODES } from "../../daemon/core/mode.ts";
import { redactText } from "../../daemon/core/redact.ts";
import { answerRequest } from "../../daemon/policy/answer.ts";
import { decisionFacts, readDecisionFacts } from "../../daemon/policy/decision-facts.ts";
import { explain } from "../../daemon/policy/explain.ts";
import { draftOf, type RawFile } from "../../daemon/policy/policy-files.ts";
import { parseQuestion } from "../../daemon/policy/question-file.ts";
import { replayDecision } from "../../daemon/policy/replay.ts";
import { diffSets } from "../../daemon/policy/set-diff.ts";
import { startHost } from "../support/host.ts";
import { askAs } from "../support/office.ts";
import { file, loadGood, question, registry, shippedFiles, situation, USER } from "../support/policies.ts";

const AGENT = { type: "Agent", id: "coder", roles: [] };
const NETWORK = question("tool.run", ["tool", "curl"], { reach: "network" });

function changed(name: string, from: string, to: string): readonly RawFile[] {
  return shippedFiles().map((one) => {
    const text = Buffer.from(one.bytes).toString();
    if (one.name === name && !text.includes(from)) throw new Error(`${name} has no ${from}`);
    return one.name === name ? file(name, text.replaceAll(from, to)) : one;
  });
}

describe("what a record keeps of a decision", () => {
  const text = fc.string({ maxLength: 20 });
  const properties = fc.dictionary(text, fc.jsonValue({ maxDepth: 2, noUnicodeString: false }), {
    maxKeys: 3,
  });
  const asked = fc.record({
    request: fc.record({
      subject: fc.record({ type: text, id: text, properties: fc.constant({}) }),
      action: fc.record({ name: text, properties }),
      resource: fc.record({ type: text, id: text, properties }),
      context: properties,
    }),
    roles: fc.array(text, { maxLength: 3 }),
    now: fc.record({
      wanted: fc.constantFrom(...MODES),
      applied: fc.constantFrom(null, ...MODES),
      assurance: fc.constantFrom("enforced" as const, "observed" as const, "failed" as const),
      frozen: fc.boolean(),
      trustedInterfaces: fc.array(text, { maxLength: 2 }),
      wallMs: fc.nat(),
      leases: fc.array(text, { maxLength: 2 }),
      approved: fc.boolean(),
      token: fc.boolean(),
    }),
  });
  const ANSWER = {
    decision: "deny",
    code: "policy-denied",
    reasons: ["a"],
    errors: [],
    needsPerson: false,
    advice: "",
  } as const;

  test("is all that another set needs to be asked, and a log can hold it", () => {
    fc.assert(
      fc.property(asked, ({ request, roles, now }) => {
        const who = { type: request.subject.type, id: request.subject.id, roles };
        const { action, resource, context } = request;
        const plain = JSON.stringify({ action, resource, context });
        fc.pre(redactText(plain) === plain); // what looks like a secret ("pwd") is the next test's
        const facts = decisionFacts("00", JSON.parse(JSON.stringify(request)), who, now, ANSWER);
        // canonical JSON of a record takes strings and safe integers alone
        const kept: unknown = JSON.parse(renderCanonical(facts));
        expect(readDecisionFacts(kept)).toEqual({
          answer: "deny",
          by: ["a"],
          request: JSON.parse(JSON.stringify(request)),
          principal: who,
          situation: now,
        });
      }),
    );
  });

  test.each([
    ["a password in a command line", { command: "mysql --password=hunter2secret db" }],
    ["a bearer in a header", { command: `curl -H 'Authorization: Bearer ${"a1B2".repeat(8)}' x` }],
  ])(
    "is not asked in another's place when the written log has it redacted: %s",
    async (_what, properties) => {
      const on = await startHost({ mode: "OPEN", config: { roles: { readonly: { users: [1000] } } } });
      const ask = (more: Readonly<Record<string, string>>) =>
        askAs(on, 1000, "check", {
          action: { name: "command.run" },
          resource: { type: "command", id: "bash", properties: { reach: "file", ...more } },
        });
      await ask(properties);
      await ask({ command: "ls -l" });
      const { set } = await loadGood(shippedFiles());
      const records = on.records.filter(({ kind }) => kind === "decision");
      expect(JSON.stringify(records[0])).toContain("[redacted:");
      const told = records.map((record) => replayDecision(set, registry(set.shapes), record).kind);
      expect(told).toEqual(["unasked", "flipped"]); // answered by a policy that permits all
    },
  );

  test.each(["pwd=a ", '"', "\u6f22", "\u0001", "\\", 'a"\u6f22'])(
    "leaves room in the record, whatever %j does to its length",
    (piece) => {
      for (let length = 15_000; length < 70_000; length += 5_000) {
        const domain = piece.repeat(length).slice(0, length);
        const facts = decisionFacts(
          "00",
          question("recall", ["memory", "n"], { domain }),
          USER,
          situation(),
          ANSWER,
        );
        const kept = withoutSecrets("decision", { data: facts, text: renderCanonical(facts) });
        expect(Buffer.byteLength(kept.text)).toBeLessThan(42_000);
      }
    },
  );

  test("is not read where it does not say all", () => {
    const long = question("recall", ["memory", "n"], { domain: "a".repeat(20_000) });
    const facts = decisionFacts("00", long, USER, situation(), ANSWER);
    expect([facts["asked"], readDecisionFacts(facts)]).toEqual(["", null]);
    const good = decisionFacts("00", NETWORK, USER, situation(), ANSWER);
    for (const name of Object.keys(good)) {
      if (name === "digest" || name === "code") continue;
      const { [name]: _gone, ...rest } = good;
      expect([name, readDecisionFacts(rest)]).toEqual([name, null]);
    }
    for (const odd of [null, "x", [], { ...good, asked: '{"a":1,"a":2}' }, { ...good, wanted: "open" }])
      expect(readDecisionFacts(odd)).toBeNull();
  });
});

test("replay tells a flip from what stays, and from what policy was not asked about", async () => {
  const before = await loadGood(shippedFiles());
  const after = await loadGood([
    ...changed("tools.cedar", 'context.leases.contains("network")', 'context.leases.contains("net")').filter(
      ({ name }) => name !== "tools.cases.yaml",
    ),
    ...changed("tools.cases.yaml", "leases: [network]", "leases: [net]").filter(
      ({ name }) => name === "tools.cases.yaml",
    ),
  ]);
  const known = registry(before.set.shapes);
  const now = situation({ leases: ["network"] });
  const { answer } = answerRequest(before.set, known, NETWORK, AGENT, now);
  const data = { action: "tool.run", policy: decisionFacts(before.set.digest, NETWORK, AGENT, now, answer) };
  const record = { seq: 7, at: "2026-01-01T00:00:00.000Z", data };
  expect(replayDecision(before.set, known, record)).toEqual({ kind: "same" });
  expect(replayDecision(after.set, known, record)).toEqual({
    kind: "flipped",
    flip: {
      seq: 7,
      at: record.at,
      who: "Agent::coder",
      action: "tool.run",
      resource: "tool::curl",
      was: "allow",
      wasBy: ["tools.network"],
      would: "deny",
      wouldBy: ["tools.agent-network"],
    },
  });
  expect(replayDecision(after.set, known, { ...record, data: { action: "tool.run" } })).toEqual({
    kind: "unasked",
  });
});

test("diff: what differs, and which cases flip", async () => {
  const files = {
    a: shippedFiles(),
    b: changed("memory.cedar", "resource.class > 3 }", "resource.class > 2 }").map((one) =>
      one.name === "memory.cases.yaml"
        ? file(
            one.name,
            Buffer.from(one.bytes)
              .toString()
              .replace(
                "class: SECRET }, mode: TRUSTED, assurance: observed, answer: allow, by: [memory.recall]",
                "class: SECRET }, mode: TRUSTED, assurance: observed, answer: deny, by: [memory.observed]",
              ),
          )
        : one,
    ),
  };
  const cases = (raw: readonly RawFile[]) => {
    const drafted = draftOf(raw);
    return "draft" in drafted ? drafted.draft.cases : [];
  };
  const [a, b] = [await loadGood(files.a), await loadGood(files.b)];
  expect(diffSets(a.set, b.set, { a: cases(files.a), b: cases(files.b) })).toMatchObject({
    added: [],
    removed: [],
    changed: ["memory.observed"],
    schemaChanged: false,
    flips: [{ file: "memory.cases.yaml", before: "allow", after: "deny", afterBy: ["memory.observed"] }],
  });
  expect(diffSets(a.set, a.set, { a: cases(files.a), b: cases(files.a) }).flips).toEqual([]);
});

describe("explain", () => {
  test("a verb has no ceiling but its own: role and mode are looked at where it is done", async () => {
    const { set } = await loadGood(shippedFiles());
    const known = registry(set.shapes);
    const request = question("mode.loosen", ["mode", "OPEN"]);
    const asked = { request, situation: situation({ wanted: "TRUSTED", applied: "TRUSTED" }) };
    const found = explain(set, known, { ...asked, principal: { ...USER, roles: ["operator"] } });
    expect(found).toMatchObject({
      decision: "allow",
      ceiling: { rule: "verb" },
      policies: [{ id: "verbs.operator" }],
    });
    const denied = explain(set, known, { ...asked, principal: USER });
    expect(denied.decision).toBe("deny");
    expect(denied.changes).toEqual(["with the role operator", "with the role admin"]);
  });

  test("names the policies, the ceiling, and each single change that turns it round", async () => {
    const { set, registry: known } = await loadGood(shippedFiles());
    const denied = explain(set, known, { request: NETWORK, principal: AGENT, situation: situation() });
    expect(denied).toMatchObject({
      decision: "deny",
      ceiling: { decision: "allow", rule: "mode.network-tools" },
      policy: { needsPerson: true },
      policies: [{ id: "tools.agent-network", effect: "forbid", file: "tools.cedar" }],
      changes: ["with a person's approval", "with a lease network"],
    });
    const allowed = explain(set, known, {
      request: question("recall", ["memory", "n"], { class: "SECRET" }),
      principal: USER,
      situation: situation({ wanted: "TRUSTED", applied: "TRUSTED" }),
    });
    expect([allowed.decision, allowed.changes]).toEqual([
      "allow",
      ["in mode OPEN", "in mode RESTRICTED", "in mode LOCKDOWN", "with assurance failed"],
    ]);
    const tainted = question("model.call", ["model", "m"], { location: "external" }, { taint: ["secret"] });
    expect(
      explain(set, known, { request: tainted, principal: USER, situation: situation() }).changes,
    ).toEqual(["without taint"]);
    const other = explain(set, known, {
      request: question("token.steal", ["token", "t"]),
      principal: USER,
      situation: situation(),
    });
    expect([other.decision, other.ceiling.rule]).toEqual(["deny", "request.action-unknown"]);
  });

  test("the ceiling is asked about what the registry knows", async () => {
    const { set } = await loadGood(shippedFiles());
    const known = registry(set.shapes, {
      resources: [{ type: "memory", id: "plan", groups: [], properties: { class: "TOP_SECRET" } }],
    });
    const found = explain(set, known, {
      request: question("recall", ["memory", "plan"]),
      principal: USER,
      situation: situation(),
    });
    expect(found.ceiling).toMatchObject({ decision: "deny", rule: "mode.memory-ceiling" });
    expect(found.changes).toEqual(["in mode AIRGAP", "in mode COLDROOM"]);
  });
});

test("a question's file is strict JSON of AuthZEN's form", () => {
  const good =
    '{"subject":{"type":"User","id":"1"},"action":{"name":"recall"},"resource":{"type":"memory","id":"n"}}';
  expect(parseQuestion(good)).toEqual({
    request: {
      subject: { type: "User", id: "1", properties: {} },
      action: { name: "recall", properties: {} },
      resource: { type: "memory", id: "n", properties: {} },
      context: {},
    },
  });
  for (const bad of [
    "",
    "{}",
    "[]",
    good.replace("subject", "subjekt"),
    good.replace('"id":"1"', '"id":"1","id":"2"'),
    "[".repeat(99),
  ])
    expect(parseQuestion(bad)).toHaveProperty("problem");
});
