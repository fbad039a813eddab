import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { BoundaryError } from "../../daemon/core/errors.ts";
import { isOver, type Lease, worksIn } from "../../daemon/core/lease.ts";
import { isStricter, MODES } from "../../daemon/core/mode.ts";
import { createSteadyTime } from "../../daemon/core/steady-time.ts";
import type { DecideParts } from "../../daemon/decide.ts";
import { createGrants } from "../../daemon/grants.ts";
import { type PolicyAnswer, refusal } from "../../daemon/policy/answer.ts";
import type { AskedSituation, Principal } from "../../daemon/policy/entities.ts";
import type { LeaseList, LeaseReply, NewToken } from "../../daemon/protocol/grants.ts";
import { settled, startHost } from "../support/host.ts";
import { codeOf, dataOf, officeOf, ROLES_CONFIG, UIDS } from "../support/office.ts";

const TEMPLATES = [
  {
    name: "deploy",
    actions: ["network.connect"],
    resources: ["host::build-*"],
    maxMode: "TRUSTED",
    maxMs: 60_000,
  },
  { name: "look", needs: "policy", maxMode: "AIRGAP", maxMs: 60_000, maxUses: 2 },
];
const ask = { action: { name: "network.connect", properties: {} } };
const onBuild = { ...ask, resource: { type: "host", id: "build-1", properties: {} } };

async function started(
  config: object = {},
  terminal: string | null = "pts/0",
  policies?: DecideParts["policies"],
) {
  const host = await startHost({
    mode: "OPEN",
    config: { roles: ROLES_CONFIG, leases: TEMPLATES, ...config },
    ...(policies === undefined ? {} : { policies }),
  });
  const office = officeOf(host, { terminal });
  const lease = async (...question: Parameters<typeof office.ask>) =>
    dataOf<LeaseReply>(await office.ask(...question)).lease;
  const caller = { uid: UIDS.readonly, token: null, groups: [] };
  const live = () => host.grants.leases.live(caller, host.daemon.state().wanted);
  return { host, ...office, lease, live, caller };
}

const DEPLOY = { template: "deploy", reason: "the release" };

describe("a lease that a person approves", () => {
  test("waits, starts at the approval, and ends by time", async () => {
    const { host, lease, live, ask: request } = await started();
    const asked = await lease(UIDS.readonly, "lease.request", DEPLOY);
    expect(asked).toMatchObject({ state: "pending", until: "", forMs: 60_000 });
    expect(live()).toEqual([]);
    host.clock.pass(30_000);
    const given = await lease(UIDS.operator, "lease.approve", { id: asked.id });
    expect(given).toMatchObject({ state: "live", until: new Date(host.clock.realMs + 60_000).toISOString() });
    expect(live()).toEqual(["deploy"]);
    host.clock.pass(59_999);
    expect(live()).toEqual(["deploy"]);
    host.clock.pass(1);
    expect(live()).toEqual([]);
    host.grants.tick();
    await settled();
    expect(host.last("lease.ended")?.data).toMatchObject({ id: asked.id, why: "time" });
    expect(codeOf(await request(UIDS.operator, "lease.approve", { id: asked.id }))).toBe("lease-settled");
    await host.checkInvariants();
  });

  test("is not approved by who asked, in whichever name", async () => {
    const { ask: request, lease } = await started();
    const asked = await lease(UIDS.operator, "lease.request", DEPLOY);
    expect(codeOf(await request(UIDS.operator, "lease.approve", { id: asked.id }))).toBe("lease-own");
    const first = dataOf<NewToken>(await request(0, "token.bootstrap"));
    const agent = dataOf<NewToken>(await request(0, "token.narrow", { role: "operator" }, first.text));
    const helper = dataOf<NewToken>(await request(0, "token.narrow", { role: "operator" }, first.text));
    const own = await lease(UIDS.none, "lease.request", DEPLOY, agent.text);
    const approve = (uid: number, text: string) => request(uid, "lease.approve", { id: own.id }, text);
    expect(codeOf(await approve(UIDS.none, helper.text))).toBe("lease-own");
    expect(codeOf(await approve(UIDS.operator, helper.text))).toBe("lease-own");
    expect(codeOf(await approve(UIDS.operator, agent.text))).toBe("lease-own");
    expect(codeOf(await request(UIDS.operator, "lease.approve", { id: own.id }))).toBe("");
  });

  test("takes a terminal, unless the configuration says otherwise", async () => {
    for (const [config, code] of [
      [{}, "lease-no-terminal"],
      [{ ceremony: { requireTerminal: false } }, ""],
    ] as const) {
      const { ask: request, lease } = await started(config, null);
      const asked = await lease(UIDS.readonly, "lease.request", DEPLOY);
      expect(codeOf(await request(UIDS.operator, "lease.approve", { id: asked.id }))).toBe(code);
    }
  });

  test("is denied, or not answered for an hour: then it is asked anew", async () => {
    const { host, ask: request, lease } = await started();
    const one = await lease(UIDS.readonly, "lease.request", DEPLOY);
    expect(await lease(UIDS.readonly, "lease.request", DEPLOY)).toEqual(one); // the same question is one
    expect(await lease(UIDS.operator, "lease.deny", { id: one.id })).toMatchObject({ state: "denied" });
    const two = await lease(UIDS.readonly, "lease.request", DEPLOY);
    expect(two.id).not.toBe(one.id);
    host.clock.pass(3_600_000);
    expect(codeOf(await request(UIDS.operator, "lease.approve", { id: two.id }))).toBe("lease-settled");
    host.grants.tick();
    await settled();
    expect(host.last("lease.ended")?.data).toMatchObject({ id: two.id, why: "not answered" });
    await host.checkInvariants();
  });

  test("works for who asked, for that user with that token, and nobody else", async () => {
    const { host, ask: request, lease } = await started();
    const first = dataOf<NewToken>(await request(0, "token.bootstrap"));
    const agent = dataOf<NewToken>(await request(0, "token.mint", { principal: "Agent::a" }, first.text));
    const child = dataOf<NewToken>(await request(UIDS.none, "token.narrow", {}, agent.text));
    const asked = await lease(UIDS.none, "lease.request", DEPLOY, agent.text);
    await lease(UIDS.operator, "lease.approve", { id: asked.id });
    const live = (uid: number, token: string | null) =>
      host.grants.leases.live({ uid, token, groups: [] }, "OPEN");
    expect(live(UIDS.none, agent.token.id)).toEqual(["deploy"]);
    expect(live(UIDS.none, null)).toEqual([]);
    expect(live(UIDS.none, child.token.id)).toEqual([]);
    expect(live(UIDS.readonly, agent.token.id)).toEqual([]);
    // others neither see nor end it
    const seen = dataOf<LeaseList>(await request(UIDS.none, "lease.list", {}, child.text));
    expect(seen.leases).toEqual([]);
    expect(codeOf(await request(UIDS.none, "lease.revoke", { id: asked.id }, child.text))).toBe(
      "role-required",
    );
    expect(dataOf<LeaseList>(await request(UIDS.none, "lease.list", {}, agent.text)).leases).toHaveLength(1);
    expect(await lease(UIDS.none, "lease.revoke", { id: asked.id }, agent.text)).toMatchObject({
      state: "revoked",
    });
    expect(live(UIDS.none, agent.token.id)).toEqual([]);
  });

  test("is for its template's actions and resources, where a question is given", async () => {
    const { host, lease, caller } = await started();
    const asked = await lease(UIDS.readonly, "lease.request", DEPLOY);
    await lease(UIDS.operator, "lease.approve", { id: asked.id });
    const live = (question: typeof onBuild) => host.grants.leases.live(caller, "OPEN", question);
    expect(live(onBuild)).toEqual(["deploy"]);
    expect(live({ ...onBuild, resource: { ...onBuild.resource, id: "other" } })).toEqual([]);
    expect(live({ ...onBuild, action: { name: "recall", properties: {} } })).toEqual([]);
  });
});

describe("the mode", () => {
  test("suspends what it is too strict for, and lets it work again: both recorded", async () => {
    const { host, lease, live, ask: request } = await started();
    const asked = await lease(UIDS.readonly, "lease.request", DEPLOY);
    await lease(UIDS.operator, "lease.approve", { id: asked.id });
    const sight = dataOf<{ leases: { shown: string[] } }>(
      await request(UIDS.operator, "mode.preflight", { mode: "AIRGAP" }),
    );
    expect(sight.leases).toEqual({ shown: [`${asked.id} deploy (uid ${UIDS.readonly})`], more: 0 });
    await host.set("TRUSTED");
    expect(live()).toEqual(["deploy"]);
    await host.set("AIRGAP");
    expect(live()).toEqual([]); // before any tick
    host.grants.tick();
    host.grants.tick();
    expect(dataOf<LeaseList>(await request(UIDS.operator, "lease.list")).leases).toMatchObject([
      { state: "suspended" },
    ]);
    await host.set("OPEN");
    expect(live()).toEqual(["deploy"]);
    host.grants.tick();
    await settled();
    const told = host.records.filter(({ kind }) => kind.startsWith("lease."));
    expect(told.map(({ kind }) => kind)).toEqual([
      "lease.requested",
      "lease.granted",
      "lease.suspended",
      "lease.resumed",
    ]);
    await host.checkInvariants();
  });

  test("LOCKDOWN suspends all, and grants nothing", async () => {
    const { host, ask: request, live } = await started();
    dataOf(await request(UIDS.readonly, "lease.request", { template: "look", reason: "x" }));
    const asked = dataOf<LeaseReply>(await request(UIDS.readonly, "lease.request", DEPLOY)).lease;
    expect(live()).toEqual(["look"]);
    await host.set("LOCKDOWN");
    expect(live()).toEqual([]);
    expect(codeOf(await request(UIDS.operator, "lease.approve", { id: asked.id }))).toBe("lockdown");
    expect(codeOf(await request(UIDS.operator, "lease.request", DEPLOY))).toBe("lockdown");
  });

  test("that is stricter than the template allows refuses both the question and the approval", async () => {
    const { host, ask: request, lease } = await started();
    const asked = await lease(UIDS.readonly, "lease.request", DEPLOY);
    await host.set("AIRGAP");
    expect(codeOf(await request(UIDS.operator, "lease.approve", { id: asked.id }))).toBe("lease-mode");
    expect(codeOf(await request(UIDS.operator, "lease.request", DEPLOY))).toBe("lease-mode");
  });
});

describe("a lease that policy grants", () => {
  test("is live at once, for as many allowed answers as the template says", async () => {
    const { host, lease, live, caller } = await started();
    const given = await lease(UIDS.readonly, "lease.request", {
      template: "look",
      reason: "x",
      forMs: 10_000,
    });
    expect(given).toMatchObject({ state: "live", uses: 2, forMs: 10_000 });
    for (const left of [1, 0]) {
      const leases = host.grants.leases.used(caller, "OPEN", onBuild);
      expect(leases).toEqual([given.id]);
      host.log.append({ kind: "decision", data: { decision: "allow", leases } });
      host.log.append({ kind: "decision", data: { decision: "deny", leases } });
      expect(host.log.fold().grants.leases.size).toBe(1);
      expect(live()).toEqual(left === 0 ? [] : ["look"]);
    }
    host.grants.tick();
    await settled();
    expect(host.last("lease.ended")?.data).toMatchObject({ why: "used up" });
  });

  test("is not asked for without end", async () => {
    const many = Array.from({ length: 9 }, (_, n) => ({ name: `t${n}`, needs: "policy" }));
    const { ask: request } = await started({ leases: many });
    const codes = [];
    for (const { name } of many)
      codes.push(codeOf(await request(UIDS.readonly, "lease.request", { template: name, reason: "x" })));
    expect(codes).toEqual([...Array.from({ length: 8 }, () => ""), "lease-limit"]);
    expect(codeOf(await request(UIDS.operator, "lease.request", { template: "t0", reason: "x" }))).toBe("");
  });

  test("of a template that nobody knows is refused", async () => {
    const { ask: request } = await started();
    expect(codeOf(await request(UIDS.readonly, "lease.request", { template: "no", reason: "x" }))).toBe(
      "lease-unknown",
    );
    expect(codeOf(await request(UIDS.operator, "lease.approve", { id: "0".repeat(16) }))).toBe(
      "lease-unknown",
    );
  });
});

describe("policy", () => {
  const PERMIT: PolicyAnswer = {
    decision: "allow",
    code: "allowed",
    reasons: ["p"],
    errors: [],
    needsPerson: false,
    advice: "",
  };
  const FORBID: PolicyAnswer = { ...PERMIT, decision: "deny", code: "policy-denied", reasons: ["f"] };
  const NONE = refusal(new BoundaryError("policy-unavailable", ""));
  const LOOK = { template: "look", reason: "x" };

  /** Policies that say of leases what they are told to, and allow all else. */
  function policiesThat(settled: Promise<void> = Promise.resolve()) {
    const asked: [Parameters<DecideParts["policies"]["answer"]>[0], Principal, AskedSituation][] = [];
    const now = { answer: PERMIT };
    const policies: DecideParts["policies"] = {
      answer: (...question) => {
        if (question[0].action.name !== "lease.grant") return PERMIT;
        asked.push(question);
        return now.answer;
      },
      digest: () => "d",
      withKnown: (request) => request,
      settled: () => settled,
    };
    return { policies, asked, now };
  }

  test("is asked, with the template and whom it is for, and its answer stands before the lease", async () => {
    const { policies, asked } = policiesThat();
    const { host, lease } = await started({}, null, policies);
    await lease(UIDS.readonly, "lease.request", { ...LOOK, forMs: 10_000 });
    const [[request, principal, now] = []] = asked;
    expect(request).toMatchObject({
      action: { name: "lease.grant" },
      resource: { type: "lease", id: "look", properties: { forMs: 10_000, holder: "User::1002" } },
    });
    expect(principal).toEqual({ type: "User", id: "1002", roles: ["readonly"] });
    expect(now).toMatchObject({ wanted: "OPEN", leases: [], approved: false, token: false });
    const told = host.kinds().filter((kind) => kind === "decision" || kind.startsWith("lease."));
    expect(told).toEqual(["decision", "lease.requested", "lease.granted"]);
    expect(host.last("decision")?.data).toMatchObject({
      verb: "lease.request",
      action: "lease.grant",
      decision: "allow",
      reason: ["p"],
    });
    await host.checkInvariants();
  });

  test("is asked of a token's holder as whom it stands for", async () => {
    const { policies, asked } = policiesThat();
    const { ask: request, lease } = await started({}, null, policies);
    const first = dataOf<NewToken>(await request(0, "token.bootstrap"));
    const agent = dataOf<NewToken>(await request(0, "token.mint", { principal: "Agent::a" }, first.text));
    await lease(UIDS.admin, "lease.request", LOOK, agent.text);
    expect(asked[0]?.[1]).toEqual({ type: "Agent", id: "a", roles: ["none"] });
    expect(asked[0]?.[0].resource.properties).toMatchObject({ holder: "Agent::a" });
    expect(asked[0]?.[2].token).toBe(true);
  });

  test.each([
    ["does not permit it", FORBID, "policy-denied"],
    ["is not there", NONE, "policy-unavailable"],
  ])("that %s grants nothing", async (_, answer, code) => {
    const { policies, now } = policiesThat();
    now.answer = answer;
    const { host, ask: request, live } = await started({}, null, policies);
    expect(codeOf(await request(UIDS.readonly, "lease.request", LOOK))).toBe(code);
    expect(live()).toEqual([]);
    await settled();
    expect(host.kinds().filter((kind) => kind.startsWith("lease."))).toEqual([]);
    expect(host.last("decision")?.data).toMatchObject({ action: "lease.grant", decision: "deny", code });
    await host.checkInvariants();
  });

  test("that is still being loaded is waited for, and not by what a person approves", async () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    const { policies, asked } = policiesThat(promise);
    const { ask: request, lease } = await started({}, null, policies);
    const waiting = request(UIDS.readonly, "lease.request", LOOK);
    expect(await lease(UIDS.readonly, "lease.request", DEPLOY)).toMatchObject({ state: "pending" });
    expect(asked).toEqual([]);
    resolve();
    expect(codeOf(await waiting)).toBe("");
    expect(asked).not.toEqual([]);
  });

  test("suspends what it granted as soon as it would not grant it, and lets it work again", async () => {
    const { policies, now } = policiesThat();
    const { host, ask: request, lease, live } = await started({}, null, policies);
    const { id } = await lease(UIDS.readonly, "lease.request", LOOK);
    for (const answer of [FORBID, NONE]) {
      now.answer = answer;
      expect(live()).toEqual([]); // before any tick
      host.grants.tick();
      host.grants.tick();
      expect(dataOf<LeaseList>(await request(UIDS.operator, "lease.list")).leases).toMatchObject([
        { id, state: "suspended" },
      ]);
      now.answer = PERMIT;
      expect(live()).toEqual(["look"]);
      host.grants.tick();
    }
    await settled();
    const told = host.records.filter(({ kind }) => kind === "lease.suspended" || kind === "lease.resumed");
    expect(told.map(({ kind, data }) => [kind, data["why"]])).toEqual([
      ["lease.suspended", "policy"],
      ["lease.resumed", undefined],
      ["lease.suspended", "policy"],
      ["lease.resumed", undefined],
    ]);
    await host.checkInvariants();
  });

  test("has the last word when the mode would let it work again", async () => {
    const { policies, now } = policiesThat();
    const { host, lease, live } = await started({}, null, policies);
    await lease(UIDS.readonly, "lease.request", LOOK);
    await host.set("COLDROOM");
    host.grants.tick();
    now.answer = FORBID;
    await host.set("OPEN");
    host.grants.tick();
    expect(live()).toEqual([]);
    expect(host.last("lease.resumed")).toBeUndefined();
    now.answer = PERMIT;
    expect(live()).toEqual(["look"]);
    host.grants.tick();
    await settled();
    expect(host.last("lease.suspended")?.data).toMatchObject({ why: "mode" });
    expect(host.last("lease.resumed")).toBeDefined();
  });

  test("after a restart: asked by whoever uses it, and nothing is told of a user who has not been seen", async () => {
    const { policies, now } = policiesThat();
    const { host, lease, caller } = await started({}, null, policies);
    await lease(UIDS.readonly, "lease.request", LOOK);
    await settled();
    const again = createGrants({
      fold: host.log.fold,
      record: host.daemon.record,
      state: host.daemon.state,
      clock: host.clock,
      config: host.config,
      policy: { ...host.governor, settled: () => Promise.resolve() },
    });
    now.answer = FORBID;
    again.tick();
    await settled();
    expect(host.last("lease.suspended")).toBeUndefined();
    expect(again.leases.live(caller, "OPEN")).toEqual([]);
    again.tick();
    await settled();
    expect(host.last("lease.suspended")?.data).toMatchObject({ why: "policy" });
  });

  test("is not asked about a lease that a person approved", async () => {
    const { policies, asked } = policiesThat();
    const { lease, live } = await started({}, "pts/0", policies);
    const waits = await lease(UIDS.readonly, "lease.request", DEPLOY);
    await lease(UIDS.operator, "lease.approve", { id: waits.id });
    expect(live()).toEqual(["deploy"]);
    expect(asked).toEqual([]);
  });
});

describe("a restart", () => {
  test("goes on with what the log says, under the configuration of today", async () => {
    const { host, lease, caller } = await started();
    const asked = await lease(UIDS.readonly, "lease.request", DEPLOY);
    await lease(UIDS.operator, "lease.approve", { id: asked.id });
    await settled();
    const again = (leases: object[]) =>
      createGrants({
        fold: host.log.fold,
        record: host.daemon.record,
        state: host.daemon.state,
        clock: host.clock,
        config: { ...host.config, leases: leases as typeof host.config.leases },
        policy: { ...host.governor, settled: () => Promise.resolve() },
      });
    const { leases } = host.config;
    expect(again(leases).leases.live(caller, "OPEN")).toEqual(["deploy"]);
    expect(again([]).leases.live(caller, "OPEN")).toEqual([]);
    const closer = leases.map((each) => ({ ...each, maxMode: "RESTRICTED" }));
    expect(again(closer).leases.live(caller, "TRUSTED")).toEqual([]);
    expect(again(leases).leases.live(caller, "TRUSTED")).toEqual(["deploy"]);
    host.clock.realMs -= 30 * 86_400_000; // set back while nobody looked
    host.clock.monoMs += 60_000;
    expect(again(leases).leases.live(caller, "OPEN")).toEqual([]);
  });
});

describe("time", () => {
  const lease = (over: Partial<Lease>): Pick<Lease, "start" | "forMs" | "uses" | "state"> => ({
    start: { wallMs: 1_000, monoMs: 100, boot: "b" },
    forMs: 50,
    uses: null,
    state: "granted",
    ...over,
  });

  test("a lease is over by whichever clock says so first", () => {
    const at = (wallMs: number, monoMs: number, boot = "b") => isOver(lease({}), { wallMs, monoMs, boot });
    expect([at(1_049, 149), at(1_050, 149), at(0, 150), at(0, 150, "another")]).toEqual([
      false,
      true,
      true,
      false,
    ]);
    expect(isOver(lease({ uses: 0 }), { wallMs: 1_000, monoMs: 100, boot: "b" })).toBe(true);
  });

  test("never goes back, and goes on at least as fast as the monotonic clock", () => {
    fc.assert(
      fc.property(
        fc.nat(1_000),
        fc.array(fc.record({ wallMs: fc.nat(10_000), passMs: fc.nat(100) }), { minLength: 1 }),
        (atLeastMs, looks) => {
          const boot = "b";
          const steady = createSteadyTime({ wallMs: atLeastMs, monoMs: 0, boot });
          let monoMs = 0;
          let before = atLeastMs;
          for (const { wallMs, passMs } of looks) {
            monoMs += passMs;
            const now = steady({ wallMs, monoMs, boot });
            expect(now).toBeGreaterThanOrEqual(Math.max(wallMs, before + passMs));
            before = now;
          }
        },
      ),
    );
  });

  test("a lease works in its mode and looser ones, and never in LOCKDOWN", () => {
    for (const maxMode of MODES)
      for (const mode of MODES)
        expect(worksIn({ maxMode }, mode)).toBe(mode !== "LOCKDOWN" && !isStricter(mode, maxMode));
  });
});
