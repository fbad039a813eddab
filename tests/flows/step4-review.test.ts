import { describe, expect, test } from "vitest";
import { createApprovals } from "../../daemon/approvals.ts";
import { renderCanonical } from "../../daemon/audit/canonical.ts";
import { emptyFold, fold } from "../../daemon/audit/fold.ts";
import { renderSnapshot } from "../../daemon/audit/snapshot.ts";
import { describeAccess } from "../../daemon/core/access-text.ts";
import { approve, ask } from "../../daemon/core/approval.ts";
import { tokenData } from "../../daemon/core/grant-data.ts";
import { createLimits } from "../../daemon/core/limit.ts";
import { stateData } from "../../daemon/core/limit-memory.ts";
import { renderUsbMemory } from "../../daemon/core/usb-memory.ts";
import { createEndpoints } from "../../daemon/decide-endpoints.ts";
import { createSearch } from "../../daemon/decide-search.ts";
import { createGrants } from "../../daemon/grants.ts";
import { readDecisionFacts } from "../../daemon/policy/decision-facts.ts";
import { searchAnswer } from "../../daemon/protocol/authzen-reply.ts";
import { callerOf, decisionsOf, PERMIT, recall, startedOffice } from "../support/decisions-of.ts";
import { FakeClock, settled, type startHost, trip } from "../support/host.ts";
import { codeOf, dataOf, UIDS } from "../support/office.ts";
import { openDoor } from "../support/open-door.ts";
import { recordOf, START_MS, tokenOf } from "../support/tokens.ts";

/** Review of step 4, half A: who may do what. Each test says what should hold; it does not. */

const CHECK = {
  action: { name: "recall" },
  resource: { type: "memory", id: "note-1", properties: { class: "PUBLIC" } },
};
const MINUTE_MS = 60_000;

const started = (config: object = {}, terminal: string | null = "pts/1") =>
  startedOffice(config, {
    terminal,
    tripwires: [trip("link", "network.link"), trip("probing", "peer.probing", { action: { kind: "note" } })],
  });

describe("an allow that has not been told yet", () => {
  test("lapses when the host has been closed meanwhile", async () => {
    const { host, ask } = await started();
    host.store.behaviour = "holds";
    const reply = ask(0, "check", CHECK);
    await settled();
    host.signal("network.link", { interface: "eth1", change: "up" });
    await settled();
    expect(host.daemon.state().wanted).toBe("LOCKDOWN");
    host.store.release();
    expect(dataOf(await reply)).toMatchObject({ decision: false });
  });

  test("lapses when its token has been revoked meanwhile", async () => {
    const { host, ask, make, admin } = await started();
    const agent = await make(0, "token.mint", { principal: "Agent::a" }, admin);
    host.store.behaviour = "holds";
    const reply = ask(UIDS.none, "check", CHECK, agent.text);
    await settled();
    const revoked = ask(0, "token.revoke", { id: agent.token.id });
    await settled();
    host.store.release();
    await revoked;
    expect(dataOf(await reply)).toMatchObject({ decision: false });
  });
});

describe("what only a person may say yes to (policies/people.cedar)", () => {
  test("is not approved by an agent's token, whatever its role", async () => {
    const { host, ask, make, admin } = await started();
    const agent = await make(0, "token.mint", { principal: "Agent::helper", role: "operator" }, admin);
    const asker = { uid: UIDS.readonly, tokenId: "", tree: "", principal: "User 1002" };
    const asked = host.approvals.ask(asker, recall("n"));
    if (!asked.ok) throw new Error(asked.why);
    const said = await ask(UIDS.none, "approvals.approve", { id: asked.id }, agent.text);
    expect(codeOf(said)).not.toBe("");
  });

  test("is not done with a token whose scope has no approval.approve and no mode.loosen", async () => {
    const { host, ask, make, admin } = await started();
    const narrow = await make(
      0,
      "token.mint",
      { principal: "Service::ci", role: "operator", actions: ["recall"] },
      admin,
    );
    dataOf(await ask(UIDS.operator, "mode.set", { mode: "AIRGAP", reason: "test" }));
    const asker = { uid: UIDS.readonly, tokenId: "", tree: "", principal: "User 1002" };
    const asked = host.approvals.ask(asker, recall("n"));
    if (!asked.ok) throw new Error(asked.why);
    const approved = await ask(UIDS.none, "approvals.approve", { id: asked.id }, narrow.text);
    const loosened = await ask(UIDS.none, "mode.set", { mode: "OPEN", reason: "test" }, narrow.text);
    expect([codeOf(approved), codeOf(loosened)]).not.toContain("");
  });
});

describe("minting", () => {
  test("an admin token for one user and two uses makes none for everybody, without end", async () => {
    const { ask, make, admin } = await started();
    const wish = { principal: "Service::deploy", role: "admin", uid: UIDS.admin, uses: 2 };
    const bound = await make(0, "token.mint", wish, admin);
    const escaped = await ask(
      UIDS.admin,
      "token.mint",
      { principal: "Service::deploy", role: "admin", forMs: 3_000 * 86_400_000 },
      bound.text,
    );
    expect(codeOf(escaped)).toBe("token-wider");
  });
});

describe("what a holder without a role may do without limit", () => {
  const TIGHT = { limits: { token: { requests: 10 }, uid: { requests: 10 } } };

  test("revoking the same token again and again is one record, or is limited", async () => {
    const { host, ask, make, admin } = await started(TIGHT);
    const agent = await make(0, "token.mint", { principal: "Agent::a" }, admin);
    const child = await make(UIDS.none, "token.narrow", {}, agent.text);
    for (let n = 0; n < 500; n++)
      await ask(UIDS.none, "token.revoke", { id: child.token.id, reason: `again ${n}` }, agent.text);
    await settled();
    expect(host.kinds().filter((kind) => kind === "token.revoked").length).toBeLessThanOrEqual(10);
  });

  test("cannot end the log: while the disk is slow, 8,000 requests of 64 on 125 connections", async () => {
    const { host, ask, make, admin } = await started(TIGHT);
    const agent = await make(0, "token.mint", { principal: "Agent::a" }, admin);
    const child = await make(UIDS.none, "token.narrow", {}, agent.text);
    await settled();
    host.store.behaviour = "holds";
    const params = { id: child.token.id, reason: "\u6f22".repeat(200) };
    const all = Array.from({ length: 8_000 }, () => ask(UIDS.none, "token.revoke", params, agent.text));
    await settled();
    const [state, { wanted }] = [host.log.state(), host.daemon.state()];
    host.store.release();
    await Promise.all(all);
    expect([state, wanted]).toEqual(["writing", "OPEN"]);
  });
});

describe("time", () => {
  test("a token that has ended stays ended, when the clock is set back and the daemon started twice", () => {
    const HOUR_MS = 3_600_000;
    const token = tokenOf("t", { expiresAtMs: START_MS + HOUR_MS });
    const liveAt = (state: ReturnType<typeof emptyFold>, wallMs: number): boolean => {
      const clock = new FakeClock();
      clock.realMs = wallMs;
      const { tokens } = createGrants({
        fold: () => state,
        record: () => ({ seq: -1, durable: Promise.resolve() }),
        state: () => ({ wanted: "OPEN", applied: "OPEN", frozen: null, room: "ok" }) as never,
        clock,
        config: {
          tokens: { warnMs: MINUTE_MS },
          leases: [],
          ceremony: { coolDownMs: 0, lifeMs: 0, people: 1, requireTerminal: false },
        } as never,
        policy: { settled: never, permit: never, permits: never },
      });
      return tokens.standing(token.id, { uid: 0, privilege: "OPEN" }).ok;
    };
    let state = fold(emptyFold(), recordOf("token.minted", { grant: tokenData(token), by: { uid: 0 } }));
    state = fold(state, recordOf("log.alive", {}, START_MS + 2 * HOUR_MS));
    const back = START_MS - 10 * HOUR_MS; // a host without a clock battery
    expect(liveAt(state, back)).toBe(false);
    // the first start after it writes with the wrong time
    state = fold(state, recordOf("log.alive", {}, back + MINUTE_MS));
    expect(liveAt(state, back + MINUTE_MS)).toBe(false);
  });
});

describe("decide.sock", () => {
  const FORBID = { ...PERMIT, decision: "deny", code: "policy-denied", reasons: ["f"] } as const;

  test("a search counts against the limits as a question does", async () => {
    const { host, make, admin } = await started({ limits: { token: { requests: 3, blockMs: 300_000 } } });
    const agent = await make(0, "token.mint", { principal: "Agent::a" }, admin);
    const service = decisionsOf(host, () => PERMIT);
    const caller = callerOf(UIDS.none, agent.token.id);
    for (let n = 0; n < 5; n++) await service.evaluator.evaluate(caller, recall(`n-${n}`));
    expect(await service.evaluator.evaluate(caller, recall("x"))).toMatchObject({ code: "rate-limited" });
    const told: unknown[] = [];
    for (let n = 0; n < 100; n++) {
      const { subject, resource, context } = recall(`secret-${n}`);
      const query = { kind: "action", subject, resource, context } as const;
      const found = await service.search(caller, query, { after: null, limit: 50 });
      if (found.ok && found.ids.length > 0) told.push(found.ids);
    }
    expect(told.length).toBe(0); // blocked, and told 100 allows that no record has
  });

  test("what a search finds out by being refused counts as probing", async () => {
    const { host, make, admin } = await started();
    const agent = await make(0, "token.mint", { principal: "Agent::a" }, admin);
    const service = decisionsOf(host, () => FORBID);
    const { subject, resource, context } = recall("s");
    for (let n = 0; n < 100; n++)
      await service.search(
        callerOf(UIDS.none, agent.token.id),
        { kind: "action", subject, resource: { ...resource, id: `s-${n}` }, context },
        { after: null, limit: 50 },
      );
    await settled();
    expect(host.records.filter(({ seq }) => seq > 6).map(({ kind }) => kind)).toContain("decision");
  });

  describe("what a search found", () => {
    async function searching() {
      const { host, ask, make, admin } = await started();
      const agent = await make(0, "token.mint", { principal: "Agent::a" }, admin);
      const service = decisionsOf(host, () => PERMIT);
      const search = (token: string | null, id = "a") => {
        const { subject, resource, context } = recall("s", { type: token === null ? "User" : "Agent", id });
        const query = { kind: "action", subject, resource, context } as const;
        return service.search({ ...callerOf(UIDS.none, ""), token }, query, { after: null, limit: 50 });
      };
      expect(await search(agent.token.id)).toMatchObject({ ok: true });
      return { host, ask, agent: agent.token.id, search };
    }

    test("is not told when the host is closed while it is recorded", async () => {
      const { host, search } = await searching();
      host.store.behaviour = "holds";
      const found = search(null, String(UIDS.none));
      await settled();
      host.signal("network.link", { interface: "eth1", change: "up" });
      await settled();
      host.store.release();
      expect(await found).toMatchObject({ ok: false, code: "answer-lapsed" });
      await settled();
      const recorded = (code: string) => host.records.findLast(({ data }) => data["code"] === code);
      expect(recorded("answer-lapsed")?.data).toMatchObject({
        decision: "deny",
        lapsed: recorded("allowed")?.seq,
        search: recorded("allowed")?.data["search"],
      });
    });

    test("is not told when its token is revoked while it is recorded", async () => {
      const { host, ask, agent, search } = await searching();
      host.store.behaviour = "holds";
      const found = search(agent);
      await settled();
      const revoked = ask(0, "token.revoke", { id: agent });
      await settled();
      host.store.release();
      await revoked;
      expect(await found).toMatchObject({ ok: false, code: "answer-lapsed" });
    });

    test("is not told when that cannot be recorded, or there is no room to", async () => {
      const { host, agent, search } = await searching();
      host.disk.freeBytes = 0;
      host.daemon.tick();
      expect(await search(agent)).toMatchObject({ ok: false, code: "log-unavailable" });
      await settled();
      expect(host.last("decision")?.data).toMatchObject({ decision: "deny", code: "log-unavailable" });
      host.disk.freeBytes = 1e12;
      host.daemon.tick();
      expect(await search(agent)).toMatchObject({ ok: true });
      host.store.behaviour = "fails";
      expect(await search(agent)).toMatchObject({ ok: false, code: "log-unavailable" });
    });
  });

  test("a token that was revoked uses up nothing of those that live", async () => {
    const { host, make, ask, admin } = await started({
      limits: { token: { requests: 5, blockMs: 300_000 } },
    });
    const agent = await make(0, "token.mint", { principal: "Agent::a" }, admin);
    const child = await make(UIDS.none, "token.narrow", {}, agent.text);
    dataOf(await ask(0, "token.revoke", { id: child.token.id }));
    const service = decisionsOf(host, () => PERMIT);
    for (let n = 0; n < 10; n++)
      await service.evaluator.evaluate(callerOf(UIDS.readonly, child.token.id), recall(`n-${n}`));
    expect(await service.evaluator.evaluate(callerOf(UIDS.none, agent.token.id), recall("m"))).toMatchObject({
      decision: true,
    });
  });

  test("what the limits refuse is no probing (docs/LIMITS.md)", async () => {
    const { host, make, admin } = await started({ limits: { token: { requests: 1, blockMs: 300_000 } } });
    const agent = await make(0, "token.mint", { principal: "Agent::a" }, admin);
    const service = decisionsOf(host, () => PERMIT);
    const seen: string[] = [];
    for (let n = 0; n < 40; n++) {
      const { code } = await service.evaluator.evaluate(callerOf(UIDS.none, agent.token.id), recall("n"));
      seen.push(code);
    }
    await settled();
    expect(seen.filter((code) => code === "rate-limited").length).toBeGreaterThanOrEqual(39);
    expect(probes(host)).toBe(0);
  });

  test("a token that nobody knows is recorded, as on the control socket", async () => {
    const { host } = await started();
    const before = host.records.length;
    const endpoints = createEndpoints({
      service: decisionsOf(host, () => PERMIT),
      identifier: "https://pdp.example.com",
      opLog: { info: () => undefined, warn: () => undefined, error: () => undefined },
    });
    for (let n = 0; n < 100; n++)
      endpoints(
        {
          method: "POST",
          target: "/access/v1/evaluation",
          authorization: `Bearer bd_${String(n).padStart(43, "A")}`,
          contentType: "application/json",
          contentEncoding: null,
        },
        { uid: UIDS.none, gid: 1, pid: 1, groups: [1] },
      );
    await settled();
    expect(host.records.slice(before).map(({ kind }) => kind)).toContain("request.refused");
  });
});

describe("probing", () => {
  test("is noticed when each of his own children is shown for a few of the denials", async () => {
    const { host, make, admin } = await started();
    const agent = await make(0, "token.mint", { principal: "Agent::a" }, admin);
    const service = decisionsOf(host, () => ({ ...PERMIT, decision: "deny", code: "policy-denied" }));
    for (let n = 0; n < 10; n++) {
      const child = await make(UIDS.none, "token.narrow", {}, agent.text);
      for (let m = 0; m < 9; m++)
        await service.evaluator.evaluate(callerOf(UIDS.none, child.token.id), recall(`n-${n}-${m}`));
    }
    await settled();
    expect(probes(host)).toBeGreaterThan(0); // 90 denials of one tree and one uid; the limit is 30
  });
});

/** What a tripwire that notes would have been told of. */
function probes(host: Awaited<ReturnType<typeof startHost>>): number {
  return host.kinds().filter((kind) => kind.startsWith("tripwire.")).length;
}

describe("a denial", () => {
  test("is in the log, whatever was asked", async () => {
    const { host, make, admin } = await started();
    const agent = await make(0, "token.mint", { principal: "Agent::a" }, admin);
    const service = decisionsOf(host, () => ({ ...PERMIT, decision: "deny", code: "policy-denied" }));
    // each becomes four times as long when the log takes it out: the record is too large, and there is none
    const filler = "pwd=a ".repeat(1_300);
    const stuffed = {
      ...recall(`crown ${"pwd=a ".repeat(168)}`),
      context: { a: filler, b: filler.slice(0, 6_900) },
    };
    await service.evaluator.evaluate(callerOf(UIDS.none, agent.token.id), stuffed);
    await settled();
    expect(host.last("decision")?.data).toMatchObject({ decision: "deny" });
  });
});

describe("the record of an allow", () => {
  test("can be replayed from the log", async () => {
    const { host, ask } = await started();
    dataOf(await ask(0, "check", CHECK));
    await settled();
    expect(readDecisionFacts(host.last("decision")?.data["policy"])).not.toBeNull();
  });
});

describe("an approval", () => {
  test("whose question could not be recorded is given to nobody", () => {
    let fails = true;
    const clock = new FakeClock();
    const approvals = createApprovals({
      settings: { lifeMs: 600_000, useMs: 300_000, maxPending: 12, maxPerCaller: 4 },
      requireTerminal: false,
      memory: [],
      clock,
      mode: () => ({ epoch: 0, lockdown: false }),
      obstacle: () => null,
      append: () => {
        const durable = fails ? Promise.reject(new Error("too many wait for the disk")) : Promise.resolve();
        durable.catch(() => undefined);
        return { seq: fails ? -1 : 7, durable };
      },
    });
    const by = { uid: 1000, tokenId: "", tree: "", principal: "User 1000" };
    const asked = approvals.ask(by, recall("n"));
    fails = false; // the disk is quick again
    if (asked.ok) {
      const decider = { uid: 1001, tokenId: "", tree: "", name: "bob", terminal: "pts/1" };
      approvals.approve(asked.id, decider);
    }
    expect(approvals.redeem(by, recall("n"))).toBeNull();
  });
});

describe("a search's page token", () => {
  test("names nothing that the caller may not see", async () => {
    const hidden = "project-of-which-nobody-knows";
    const search = createSearch({
      door: openDoor,
      candidates: () => ["a", hidden, "z"],
      probe: (_, { resource }) => resource.id !== hidden,
    });
    const { subject, action, resource, context } = recall("");
    const query = { kind: "resource", subject, action, resource, context } as const;
    const all = createSearch({
      door: openDoor,
      candidates: () => Array.from({ length: 1_001 }, (_, n) => `${hidden}-${String(n).padStart(4, "0")}`),
      probe: () => false,
    });
    expect(await search(callerOf(1, "t"), query, { after: null, limit: 9 })).toMatchObject({
      ids: ["a", "z"],
    });
    const found = await all(callerOf(1, "t"), query, { after: null, limit: 9 });
    const page = JSON.stringify(
      searchAnswer({ query, page: { after: null, limit: 9 } }, found).body ?? found,
    );
    const texts = [
      page,
      ...[...page.matchAll(/[A-Za-z0-9_-]{16,}/g)].map(([t]) => Buffer.from(t, "base64url").toString()),
    ];
    expect(texts.filter((text) => text.includes(hidden))).toEqual([]);
  });
});

describe("what loosens", () => {
  test("cannot be used up by somebody whose role it is not", async () => {
    const { ask } = await started();
    dataOf(await ask(UIDS.operator, "mode.set", { mode: "AIRGAP", reason: "test" }));
    for (let n = 0; n < 12; n++) await ask(UIDS.none, "clock.clear", { reason: "not mine to clear" });
    expect(codeOf(await ask(UIDS.operator, "mode.set", { mode: "OPEN", reason: "test" }))).toBe("");
  });
});

describe("room for tokens", () => {
  const NO_LIMITS = { limits: { token: { requests: 0 }, uid: { requests: 0 }, overall: { requests: 0 } } };
  /** Some 360 children of one agent, each as large as may be, for a minute. */
  async function filled() {
    const { ask, make, admin, host } = await started(NO_LIMITS);
    const agent = await make(0, "token.mint", { principal: "Agent::a", uid: UIDS.none }, admin);
    const resources = Array.from({ length: 32 }, (_, n) => `memory::${String(n).padStart(256, "x")}`);
    for (const wish of [{ resources }, { resources: resources.slice(0, 1) }, {}]) {
      const more = async () =>
        (await ask(UIDS.none, "token.narrow", { ...wish, forMs: 60_000 }, agent.text)).ok;
      while (await more());
    }
    await settled();
    return { ask, make, admin, host };
  }

  test("is not taken up by one holder without a role", async () => {
    const { ask, admin } = await filled();
    expect(
      codeOf(
        await ask(0, "token.mint", { principal: "Service::other", label: "an admin needs it now" }, admin),
      ),
    ).toBe("");
  });

  test("is there again a day after they have ended", async () => {
    const { ask, admin, host } = await filled();
    host.clock.pass(3 * 86_400_000);
    expect(
      codeOf(
        await ask(0, "token.mint", { principal: "Service::other", label: "an admin needs it now" }, admin),
      ),
    ).toBe("");
  });
});

describe("a snapshot", () => {
  test("fits into a record when what it holds is at its own bounds: without one a segment cannot be pruned, ever", () => {
    const boot = "00000000-0000-0000-0000-000000000000";
    const now = { wallMs: START_MS, monoMs: 100_000_000, boot, epoch: 1, lockdown: false };
    let state = emptyFold();
    for (let n = 0; n < 16; n++) {
      const subject = { type: "Agent", id: `${"x".repeat(860)}${n}`, properties: {} };
      const by = {
        uid: 1000 + n,
        tokenId: "0".repeat(16),
        tree: "0".repeat(16),
        principal: `Agent::${subject.id}`,
      };
      const question = {
        id: `0123456789${n}`,
        digest: "a".repeat(64),
        what: describeAccess({ ...recall("n"), subject }),
        by,
      };
      const asked = ask([], question, now, { lifeMs: 600_000, maxPending: 16, maxPerCaller: 16 });
      const decider = { uid: 1, tokenId: "1".repeat(16), tree: "", name: "ana", terminal: "pts/1" };
      const given = approve(
        asked.held,
        { id: question.id, by: decider, useMs: 300_000, requireTerminal: true },
        now,
      );
      for (const { kind, data } of [...asked.records, ...given.records])
        state = fold(state, recordOf(kind, data));
    }
    const limits = createLimits(4_096);
    for (let n = 0; n < 180; n++) {
      const name = `0123456789abcd${n % 60}`;
      limits.take(
        [{ kind: "token", name, rate: { requests: 2, windowMs: MINUTE_MS, blockMs: 300_000 } }],
        1_000,
      );
    }
    state = fold(state, recordOf("limit.state", stateData(limits, { ...now, monoMs: 3_000 })));
    const one = {
      port: "3-1.4.2",
      id: "1d6b:0002",
      key: "a".repeat(32),
      kind: "other",
      plug: `${boot} 3-1.4.2 12 1234`,
    } as const;
    const grant = {
      ...one,
      target: "allow",
      by: "ana",
      fromMs: START_MS,
      untilMs: null,
      mode: "OPEN",
      storage: "no",
    } as const;
    const usb = renderUsbMemory({
      boot,
      closed: true,
      known: Array.from({ length: 128 }, () => ({ ...one, authorized: true })),
      more: 0,
      awaited: Array.from({ length: 64 }, () => one),
      grants: Array.from({ length: 64 }, () => grant),
      rules: "a".repeat(64),
    });
    state = fold(state, recordOf("usb.state", usb));
    const frontier = { size: 0, subtrees: [] };
    expect(Buffer.byteLength(renderCanonical(renderSnapshot({ fold: state, frontier })))).toBeLessThan(
      64_511,
    );
  });
});

describe("whoever asked", () => {
  test("does not approve through a token that stands for himself, shown by another uid", async () => {
    const { host, ask, make, admin } = await started();
    const own = await make(0, "token.mint", { principal: `User::${UIDS.readonly}`, role: "operator" }, admin);
    const asker = { uid: UIDS.readonly, tokenId: "", tree: "", principal: `User::${UIDS.readonly}` };
    const asked = host.approvals.ask(asker, recall("n"));
    if (!asked.ok) throw new Error(asked.why);
    // a uid of the asker's own range (/etc/subuid) is enough
    expect(codeOf(await ask(100_001, "approvals.approve", { id: asked.id }, own.text))).toBe("approval-own");
  });
});

describe("a token shown by users whose it is not", () => {
  test("is in the log once for each of them", async () => {
    const { host, make, admin } = await started();
    const agent = await make(0, "token.mint", { principal: "Agent::a", uid: UIDS.none }, admin);
    const service = decisionsOf(host, () => PERMIT);
    for (const uid of [UIDS.readonly, UIDS.operator, UIDS.admin])
      await service.evaluator.evaluate(callerOf(uid, agent.token.id), recall("n"));
    await settled();
    const uids = host.records
      .filter(({ kind, data }) => kind === "decision" && !("verb" in data))
      .map(({ data }) => Reflect.get(data["by"] as object, "uid"));
    expect(uids).toEqual([UIDS.readonly, UIDS.operator, UIDS.admin]);
  });
});

function never(): never {
  throw new Error("not asked");
}
