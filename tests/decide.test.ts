import { describe, expect, test } from "vitest";
import type { Data } from "../daemon/audit/record.ts";
import { type AccessRequest, type Caller, VERB_ACTIONS } from "../daemon/core/access.ts";
import { BoundaryError } from "../daemon/core/errors.ts";
import { initialState, type State } from "../daemon/core/state.ts";
import { createEvaluator, type DecideParts, limited } from "../daemon/decide.ts";
import type { PolicyAnswer } from "../daemon/policy/answer.ts";
import { PERMIT } from "./support/decisions-of.ts";

const CALLER: Caller = { uid: 1_000, gid: 1_000, pid: 7, groups: [], token: null };
const REQUEST: AccessRequest = {
  subject: { type: "User", id: "1000", properties: {} },
  action: { name: "tool.run", properties: {} },
  resource: { type: "tool", id: "grep", properties: { reach: "file" } },
  context: {},
};
const OPEN: State = {
  ...initialState("OPEN", 0, { kind: "initial", why: "" }),
  applied: "OPEN",
  how: "kernel",
};
const FORBID: PolicyAnswer = {
  ...PERMIT,
  decision: "deny",
  code: "policy-denied",
  reasons: ["f"],
  advice: "less",
};
const NOBODY = { uids: [], gids: [] };
const READER = { uids: [1_000], gids: [] };

type Over = {
  readonly state?: Partial<State>;
  readonly stopping?: boolean;
  readonly durable?: Promise<unknown>;
  readonly policy?: DecideParts["policies"]["answer"];
  readonly parts?: Partial<DecideParts>;
};

const STANDS = () => ({ ok: true, token: {} as never }) as const;

function setUp({
  state = {},
  stopping = false,
  durable = Promise.resolve(),
  policy = () => PERMIT,
  parts = {},
}: Over = {}) {
  const written: Data[] = [];
  const denials: { readonly digest: string; readonly data: Data }[] = [];
  durable.catch(() => undefined);
  const all: DecideParts = {
    daemon: {
      state: () => ({ ...OPEN, ...state }),
      assurance: () => "enforced",
      stopping: () => stopping,
      record: ({ data }) => ({ seq: written.push(data) + 10, durable }),
    },
    trustedInterfaces: [],
    roles: { readonly: READER, operator: NOBODY, admin: NOBODY, auditor: NOBODY },
    ownUid: 5,
    tokens: {
      authorize: () => never(),
      useOf: () => ({}),
      standing: STANDS,
      rootOf: () => null,
      lineOf: () => [],
    },
    leases: { live: () => [], used: () => [] },
    policies: {
      answer: policy,
      digest: () => "d",
      withKnown: (request) => request,
      settled: () => Promise.resolve(),
    },
    approvals: { ask: () => never(), redeem: () => never() },
    denials: {
      record: (_caller, { digest, data }) => ({ seq: denials.push({ digest, data }) + 20, durable }),
    },
    wallMs: () => 0,
    opLog: { info: () => undefined, warn: () => undefined, error: () => undefined },
    ...parts,
  };
  return { ...createEvaluator(all), all, written, denials };
}

function never(): never {
  throw new Error("not asked");
}

test.each(Object.entries(VERB_ACTIONS))("nobody asks for the verb %s", async (name, type) => {
  const request = {
    ...REQUEST,
    action: { name, properties: {} },
    resource: { type, id: "OPEN", properties: {} },
  };
  const policy = () => never();
  expect(await setUp({ policy }).evaluate(CALLER, request)).toMatchObject({
    decision: false,
    code: "request-invalid",
    reason: ["request.action-unknown"],
  });
  expect(setUp({ policy }).probe(CALLER, request)).toBe(false);
});

describe("an answer", () => {
  test("that allows is recorded, with all that it was given on, and has its number", async () => {
    const asked = setUp();
    const answer = await asked.evaluate(CALLER, REQUEST);
    expect(answer).toMatchObject({ decision: true, code: "allowed", reason: ["p"], correlationId: "11" });
    expect(asked.written).toMatchObject([
      {
        subject: { type: "User", id: "1000" },
        by: { uid: 1_000, pid: 7 },
        action: "tool.run",
        decision: "allow",
        policy: { digest: "d", roles: ["readonly"], approved: "no", wanted: "OPEN" },
      },
    ]);
    expect(asked.denials).toEqual([]);
  });

  test("whose record does not hold is a denial", async () => {
    const durable = Promise.reject(new Error("EIO"));
    const answer = await setUp({ durable }).evaluate(CALLER, REQUEST);
    expect(answer).toMatchObject({ decision: false, code: "log-unavailable", correlationId: "11" });
  });

  test("waits for its record", async () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    let answered = false;
    const asked = setUp({ durable: promise }).evaluate(CALLER, REQUEST);
    void asked.then(() => {
      answered = true;
    });
    await new Promise((done) => setImmediate(done));
    expect(answered).toBe(false);
    resolve();
    expect((await asked).decision).toBe(true);
  });

  test.each<[string, Over, string]>([
    ["LOCKDOWN", { state: { wanted: "LOCKDOWN" } }, "mode-ceiling"],
    ["nothing confirmed", { state: { applied: null } }, "mode-ceiling"],
    ["policy", { policy: () => FORBID }, "policy-denied"],
    [
      "a policy that cannot be evaluated",
      { policy: () => ({ ...FORBID, code: "policy-failed" }) },
      "policy-failed",
    ],
    ["a policy that contradicts itself", { policy: () => ({ ...FORBID, code: "allowed" }) }, "internal"],
    ["a fault of ours", { parts: { leases: { live: never, used: never } } }, "internal"],
    ["a full disk", { state: { room: "low" } }, "log-unavailable"],
    ["a stop", { stopping: true }, "stopping"],
  ])("is a denial by %s, and nothing is recorded as allowed", async (_name, over, code) => {
    const asked = setUp(over);
    expect(await asked.evaluate(CALLER, REQUEST)).toMatchObject({
      decision: false,
      code,
      correlationId: "21",
    });
    expect(asked.written).toEqual([]);
    expect(asked.denials).toMatchObject([{ data: { decision: "deny", code } }]);
    expect(asked.probe(CALLER, REQUEST) && code !== "log-unavailable").toBe(false);
  });

  test("policy is not asked of what the mode forbids, nor where what is known of the resource forbids it", async () => {
    const known = { ...REQUEST, resource: { ...REQUEST.resource, properties: { reach: "network" } } };
    const policies = { ...setUp().all.policies, answer: never, withKnown: () => known };
    const asked = setUp({ state: { wanted: "AIRGAP" }, parts: { policies } });
    const answer = await asked.evaluate(CALLER, REQUEST);
    expect(answer).toMatchObject({ code: "mode-ceiling", reason: ["mode.network-tools"], mode: "AIRGAP" });
  });

  test("on a full disk denials are told apart by action alone", async () => {
    const asked = setUp({ state: { room: "low" } });
    await asked.evaluate(CALLER, REQUEST);
    expect(asked.denials).toMatchObject([{ digest: "tool.run" }]);
  });

  test("waits for the first load of the policies", async () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    const policies = { ...setUp().all.policies, settled: () => promise };
    const asked = setUp({ parts: { policies } });
    const answer = asked.evaluate(CALLER, REQUEST);
    await new Promise((done) => setImmediate(done));
    expect(asked.written).toEqual([]);
    resolve();
    expect((await answer).decision).toBe(true);
  });
});

describe("for whom", () => {
  test.each([
    ["another user", { type: "User", id: "1001" }],
    ["an agent", { type: "Agent", id: "1000" }],
    ["root", { type: "User", id: "0" }],
  ])("without a token nobody asks for %s", async (_name, subject) => {
    const asked = setUp();
    const request = { ...REQUEST, subject: { ...subject, properties: {} } };
    expect(await asked.evaluate(CALLER, request)).toMatchObject({ decision: false, code: "token-needed" });
    expect(asked.probe(CALLER, request)).toBe(false);
  });

  test.each([
    ["in its own name", { type: "Service", id: "s" }, ["operator"]],
    ["not in another's", { type: "Agent", id: "a" }, []],
  ])("a token's role counts %s", async (_name, subject, roles) => {
    const seen: (readonly string[])[] = [];
    const policy: NonNullable<Over["policy"]> = (_request, principal) => {
      seen.push(principal.roles);
      return PERMIT;
    };
    const token = { id: "t", principal: { type: "Service", id: "s" }, role: "operator" } as never;
    const tokens = {
      authorize: () => ({ ok: true, token }) as const,
      useOf: () => ({ tokenId: "t" }),
      standing: STANDS,
      rootOf: () => null,
      lineOf: () => [token],
    };
    const asked = setUp({ policy, parts: { tokens } });
    const request = { ...REQUEST, subject: { ...subject, properties: {} } };
    expect(await asked.evaluate({ ...CALLER, token: "t" }, request)).toMatchObject({ decision: true });
    expect(seen).toEqual([roles]);
    expect(asked.written).toMatchObject([{ tokenId: "t" }]);
  });

  test("a token that does not do says what would", async () => {
    const no = { ok: false, code: "token-scope", why: "not that", wouldAllow: "this" } as const;
    const tokens = {
      authorize: () => no,
      useOf: () => never(),
      standing: STANDS,
      rootOf: () => null,
      lineOf: () => [],
    };
    const answer = await setUp({ parts: { tokens } }).evaluate({ ...CALLER, token: "t" }, REQUEST);
    expect(answer).toMatchObject({ decision: false, code: "token-scope", wouldAllow: "this" });
  });
});

describe("what needs a person", () => {
  const policy: NonNullable<Over["policy"]> = (_request, _principal, { approved }) =>
    approved ? PERMIT : { ...FORBID, needsPerson: true };

  test("waits for one, and is allowed once after his word", async () => {
    const given = ["a1"];
    const approvals = {
      ask: () => ({ ok: true, id: "a1", state: "pending" }) as const,
      redeem: () => given.pop() ?? null,
    };
    const asked = setUp({ policy, parts: { approvals } });
    expect(await asked.evaluate(CALLER, REQUEST)).toMatchObject({
      decision: true,
      reason: ["p"],
      approval: "a1",
    });
    expect(asked.written).toMatchObject([{ approval: "a1", policy: { approved: "yes" } }]);
    expect(await asked.evaluate(CALLER, REQUEST)).toMatchObject({
      decision: false,
      code: "approval-required",
      askPerson: true,
      approval: "a1",
      retryable: true,
    });
  });

  test("is denied as it was where no more may wait", async () => {
    const full = { ok: false, code: "rate-limited", why: "", retryAfterMs: 7 } as never;
    const approvals = { ask: () => full, redeem: () => null };
    const answer = await setUp({ policy, parts: { approvals } }).evaluate(CALLER, REQUEST);
    expect(answer).toMatchObject({
      decision: false,
      code: "policy-denied",
      askPerson: false,
      retryAfterMs: 7,
    });
  });

  test.each<[string, Over]>([
    ["on a full disk", { policy, state: { room: "low" } }],
    ["where his word would change nothing", { policy: () => ({ ...FORBID, needsPerson: true }) }],
    ["where a search looks", { policy }],
  ])("%s no approval is used up, and nobody is asked", async (name, over) => {
    const asked = setUp(over); // its approvals throw when they are touched
    if (name === "where a search looks") expect(asked.probe(CALLER, REQUEST)).toBe(false);
    else expect(await asked.evaluate(CALLER, REQUEST)).toMatchObject({ decision: false, code: /denied|log/ });
  });
});

describe("at the door of decide.sock", () => {
  test("who is over his limit is denied, learns when, and is not decided about", async () => {
    const asked = setUp({ policy: never });
    const no = { ok: false, code: "rate-limited", why: "too many", retryAfterMs: 300 } as const;
    const seen: unknown[] = [];
    const limits = {
      take: (what: unknown) => {
        seen.push(what);
        return no;
      },
    };
    const answer = await limited(asked, limits, asked.all).evaluate(CALLER, REQUEST);
    expect(answer).toMatchObject({
      decision: false,
      code: "rate-limited",
      retryAfterMs: 300,
      wouldAllow: "too many",
    });
    expect(seen).toEqual([{ uid: 1_000, token: null, tokenLabel: "", verb: "check", kind: "decision" }]);
    expect(asked.denials).toHaveLength(1);
  });

  test("a token counts with its whole tree", async () => {
    const seen: unknown[] = [];
    const limits = {
      take: (what: unknown) => {
        seen.push(what);
        return { ok: true } as const;
      },
    };
    const root = { id: "root", label: "svc" } as never;
    const tokens = {
      authorize: () => {
        throw new BoundaryError("internal", "x");
      },
      useOf: () => ({}),
      standing: STANDS,
      rootOf: () => root,
      lineOf: () => [],
    };
    const asked = setUp({ parts: { tokens } });
    await limited(asked, limits, asked.all).evaluate({ ...CALLER, token: "t" }, REQUEST);
    expect(seen).toMatchObject([{ token: "root", tokenLabel: "svc" }]);
  });
});
