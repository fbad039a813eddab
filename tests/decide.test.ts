import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Data } from "../daemon/audit/record.ts";
import type { AccessRequest, Caller, Situation } from "../daemon/core/access.ts";
import { createEvaluator, type DecideParts, digestOf, type PolicyAnswer } from "../daemon/decide.ts";

const CALLER: Caller = { uid: 1_000, gid: 1_000, pid: 7, groups: [], token: "t1" };
const REQUEST: AccessRequest = {
  subject: { type: "Agent", id: "a", properties: {} },
  action: { name: "tool.run", properties: {} },
  resource: { type: "Tool", id: "grep", properties: { reach: "file", deep: { yes: true, none: null } } },
  context: { taint: ["web"] },
};
const SITUATION: Situation = {
  wanted: "OPEN",
  applied: "OPEN",
  assurance: "enforced",
  frozen: false,
  trustedInterfaces: [],
  wallMs: 0,
};
const PERMIT: PolicyAnswer = { decision: true, reasons: ["p"], errors: [], needsPerson: false, advice: "" };
const FORBID: PolicyAnswer = {
  decision: false,
  reasons: ["f"],
  errors: [],
  needsPerson: false,
  advice: "ask less",
};

function parts(over: Partial<DecideParts> = {}) {
  const written: Data[] = [];
  const denials: Data[] = [];
  const durable = Promise.resolve();
  const all: DecideParts = {
    situation: () => SITUATION,
    room: () => "ok",
    stopping: () => false,
    limit: () => ({ ok: true }),
    authorize: () => ({ ok: true, principal: { type: "Agent", id: "a", roles: [] } }),
    leases: () => [],
    policy: () => PERMIT,
    policyDigest: () => "d",
    approvals: { ask: () => null, redeem: () => "" },
    consume: () => true,
    record: (data) => ({ seq: written.push(data) + 10, durable }),
    denied: (_key, data) => ({ seq: denials.push(data) + 20, durable }),
    failed: () => undefined,
    refused: () => undefined,
    ...over,
  };
  return { ...createEvaluator(all), written, denials };
}

describe("an answer", () => {
  test("that allows is recorded, whole, and has its number", async () => {
    const asked = parts();
    const answer = await asked.evaluate(CALLER, REQUEST);
    expect(answer).toMatchObject({ decision: true, code: "allowed", reason: ["p"], correlationId: "11" });
    expect(asked.written).toMatchObject([
      {
        subject: { type: "Agent", id: "a" },
        by: { uid: 1_000, pid: 7, token: "t1" },
        action: "tool.run",
        resource: { properties: { reach: "file", deep: { yes: { $: "true" }, none: { $: "null" } } } },
        context: { taint: ["web"] },
        decision: "allow",
        policy: "d",
      },
    ]);
    expect(asked.denials).toEqual([]);
  });

  test("whose record does not hold is a denial", async () => {
    const record = () => ({ seq: 3, durable: Promise.reject(new Error("EIO")) });
    const answer = await parts({ record }).evaluate(CALLER, REQUEST);
    expect(answer).toMatchObject({ decision: false, code: "log-unavailable", correlationId: "3" });
  });

  test("waits for its record", async () => {
    let hold: () => void = () => undefined;
    const durable = new Promise<void>((resolve) => {
      hold = resolve;
    });
    let answered = false;
    const asked = parts({ record: () => ({ seq: 1, durable }) }).evaluate(CALLER, REQUEST);
    void asked.then(() => {
      answered = true;
    });
    await new Promise((resolve) => setImmediate(resolve));
    expect(answered).toBe(false);
    hold();
    expect((await asked).decision).toBe(true);
  });

  const NO = { ok: false, code: "role-required", why: "no", wouldAllow: "x" } as const;
  test.each<[string, Partial<DecideParts>, string]>([
    [
      "a limit",
      { limit: () => ({ ...NO, code: "too-many-requests", retryAfterMs: 5 }) },
      "too-many-requests",
    ],
    ["the token", { authorize: () => NO }, "role-required"],
    ["LOCKDOWN", { situation: () => ({ ...SITUATION, wanted: "LOCKDOWN" }) }, "mode-ceiling"],
    ["nothing confirmed", { situation: () => ({ ...SITUATION, applied: null }) }, "mode-ceiling"],
    ["policy", { policy: () => FORBID }, "policy-denied"],
    ["a policy that cannot be evaluated", { policy: () => ({ ...PERMIT, errors: ["q"] }) }, "policy-error"],
    ["policy that is not there", { policy: () => ({ ...PERMIT, code: "internal" }) }, "internal"],
    [
      "a fault of ours",
      {
        leases: () => {
          throw new Error("bug");
        },
      },
      "internal",
    ],
    ["a full disk", { room: () => "low" }, "log-unavailable"],
    ["a stop", { stopping: () => true }, "stopping"],
    ["uses that are gone", { consume: () => false }, "token-spent"],
  ])("is a denial by %s, and nothing is recorded as allowed", async (_name, over, code) => {
    const asked = parts(over);
    expect(await asked.evaluate(CALLER, REQUEST)).toMatchObject({
      decision: false,
      code,
      correlationId: "21",
    });
    expect(asked.written).toEqual([]);
    expect(asked.denials).toMatchObject([{ decision: "deny", code }]);
  });

  test("policy is not asked of what the mode forbids, and the rule is named", async () => {
    let asked = 0;
    const over = { situation: () => ({ ...SITUATION, wanted: "COLDROOM" as const }) };
    const policy = () => {
      asked += 1;
      return PERMIT;
    };
    const answer = await parts({ ...over, policy }).evaluate(CALLER, REQUEST);
    expect(answer).toMatchObject({ code: "mode-ceiling", reason: ["mode.file-tools"], mode: "COLDROOM" });
    expect(asked).toBe(0);
  });
});

describe("what needs a person", () => {
  const policy: DecideParts["policy"] = (_request, _principal, { approved }) =>
    approved ? PERMIT : { ...FORBID, needsPerson: true };

  test("waits for one, and is allowed once after his word", async () => {
    const given = ["a1"];
    const approvals = {
      ask: () => ({ id: "a1" }),
      redeem: (_caller: Caller, digest: string) => (digest === digestOf(REQUEST) ? (given.pop() ?? "") : ""),
    };
    const asked = parts({ policy, approvals });
    expect(await asked.evaluate(CALLER, REQUEST)).toMatchObject({
      decision: true,
      reason: ["p"],
      approval: "a1",
    });
    expect(await asked.evaluate(CALLER, REQUEST)).toMatchObject({
      decision: false,
      code: "approval-required",
      askPerson: true,
      approval: "a1",
      retryable: true,
    });
  });

  test.each<[string, Partial<DecideParts>]>([
    ["on a full disk", { room: () => "low" }],
    ["where his word would change nothing", { policy: () => ({ ...FORBID, needsPerson: true }) }],
    [
      "where a policy cannot be evaluated",
      { policy: () => ({ ...FORBID, needsPerson: true, errors: ["q"] }) },
    ],
  ])("%s uses up no approval, and asks nobody", async (_name, over) => {
    let touched = 0;
    const touch =
      <T>(value: T) =>
      () => {
        touched += 1;
        return value;
      };
    const approvals = { ask: touch({ id: "a1" }), redeem: touch("a1") };
    expect((await parts({ policy, approvals, ...over }).evaluate(CALLER, REQUEST)).decision).toBe(false);
    expect(touched).toBe(0);
  });
});

describe("the digest of a question", () => {
  const text = fc.stringMatching(/^[a-z]{0,4}$/);
  const properties = fc.dictionary(
    text,
    fc.oneof(text, fc.integer(), fc.boolean(), fc.array(text, { maxLength: 3 })),
  );

  test("does not depend on the order of names", () => {
    fc.assert(
      fc.property(properties, (given) => {
        const turned = Object.fromEntries(Object.entries(given).toReversed());
        expect(digestOf({ ...REQUEST, context: given })).toBe(digestOf({ ...REQUEST, context: turned }));
      }),
    );
  });

  test("differs when anything differs", () => {
    fc.assert(
      fc.property(properties, properties, (one, other) => {
        fc.pre(
          JSON.stringify(Object.entries(one).toSorted()) !== JSON.stringify(Object.entries(other).toSorted()),
        );
        expect(digestOf({ ...REQUEST, context: one })).not.toBe(digestOf({ ...REQUEST, context: other }));
      }),
    );
  });
});
