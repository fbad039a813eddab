import { describe, expect, test } from "vitest";
import type { Reply } from "../../daemon/requests.ts";
import { FakeClock, settled, startHost, trip } from "../support/host.ts";
import { askAs } from "../support/office.ts";

const ANA = 1000;
const ROLES = { roles: { readonly: { users: [ANA] }, operator: { users: [1001, 1002] } } };
const question = (memoryClass: string, id = "m") => ({
  action: { name: "recall" },
  resource: { type: "memory", id, properties: { class: memoryClass } },
});
type Host = Awaited<ReturnType<typeof startHost>>;
const host = (limits: object = {}, over: Parameters<typeof startHost>[0] = {}) =>
  startHost({ mode: "RESTRICTED", ...over, config: { ...ROLES, limits } });
const list = (on: Host, uid = ANA) => askAs(on, uid, "tripwire.list");
const setMode = (on: Host, mode: string, uid = 1001) => askAs(on, uid, "mode.set", { mode, reason: "test" });
const code = (reply: Reply) => (reply.ok ? "ok" : reply.problem.code);
const count = (on: Host, kind: string) => on.kinds().filter((each) => each === kind).length;

describe("limits", () => {
  test("who asks too often is blocked, learns for how long, and it is one record of each sort", async () => {
    const on = await host({ uid: { requests: 5, blockMs: 300_000 } });
    for (let n = 0; n < 5; n++) expect(code(await list(on))).toBe("ok");
    on.clock.pass(1_000);
    for (let n = 0; n < 1_000; n++) {
      const reply = await list(on);
      expect(reply.ok ? null : reply.problem).toMatchObject({ code: "rate-limited", retryAfterMs: 300_000 });
    }
    expect(code(await list(on, 1001))).toBe("ok");
    on.clock.pass(299_999);
    expect(await list(on)).toMatchObject({ ok: false, problem: { retryAfterMs: 1 } });
    on.clock.pass(1);
    expect(code(await list(on))).toBe("ok");
    await settled();
    expect(on.last("limit.blocked")?.data).toMatchObject({ kind: "uid", name: "1000", blockMs: 300_000 });
    expect(count(on, "limit.blocked")).toBe(1);
    expect(count(on, "request.refused")).toBe(1);
    await on.checkInvariants();
  });

  test("all together: one user cannot keep the others out, and many cannot get more", async () => {
    const on = await host();
    const taken = (uid: number) =>
      on.limits.take({ uid, token: null, tokenLabel: "", verb: "status", kind: "verb" }).ok;
    let own = 0;
    while (taken(ANA)) own += 1;
    expect([own, taken(1001)]).toEqual([500, true]);
    let others = 1;
    for (let n = 0; n < 10_000; n++) if (taken(1001 + (n % 50))) others += 1;
    expect(own + others).toBe(1_000);
  });

  test("ten loosenings a minute; a tightening is never refused, and neither is a trip", async () => {
    const on = await host({ uid: { requests: 0 } }, { tripwires: [trip("link", "network.link")] });
    let done = 0;
    for (let n = 0; n < 30; n++) {
      expect(code(await setMode(on, "TRUSTED"))).toBe("ok");
      const loosened = await setMode(on, "RESTRICTED");
      if (loosened.ok) done += 1;
      else expect(loosened.problem).toMatchObject({ code: "rate-limited" });
    }
    expect(done).toBe(10);
    expect([on.firewall.mode, count(on, "mode.changed")]).toEqual(["TRUSTED", 21]);
    for (const mode of ["AIRGAP", "COLDROOM"]) expect(code(await setMode(on, mode))).toBe("ok");
    on.signal("network.link", { interface: "eth1", change: "up" });
    await settled();
    expect(on.firewall.mode).toBe("LOCKDOWN");
    await on.checkInvariants();
  });

  test("a blocked operator can tighten, and cancel what is going to open; nothing else", async () => {
    const on = await host({ uid: { requests: 3 } });
    for (let n = 0; n < 4; n++) await list(on, 1001);
    expect(code(await setMode(on, "OPEN"))).toBe("rate-limited");
    expect(code(await askAs(on, 1001, "ceremony.cancel"))).not.toBe("rate-limited");
    expect(code(await setMode(on, "AIRGAP"))).toBe("ok");
    expect(on.firewall.mode).toBe("AIRGAP");
    expect(code(await setMode(on, "AIRGAP"))).toBe("ok");
    expect(code(await askAs(on, 1001, "mode.set", { mode: "AIRGAP", reason: "r", forMs: 60_000 }))).toBe(
      "rate-limited",
    );
    await on.checkInvariants();
  });

  test("who may not tighten is limited like anybody, whatever he asks", async () => {
    const on = await host({ uid: { requests: 3 } });
    const codes = [];
    for (let n = 0; n < 5; n++) codes.push(code(await setMode(on, "LOCKDOWN", ANA)));
    expect(codes).toEqual([
      "role-required",
      "role-required",
      "role-required",
      "rate-limited",
      "rate-limited",
    ]);
    const bad = await host({ uid: { requests: 1 } });
    for (let n = 0; n < 3; n++) codes.push(code(await askAs(bad, 1001, "mode.set", { mode: "NONE" })));
    expect(codes.slice(5)).toEqual(["request-invalid", "rate-limited", "rate-limited"]);
  });

  test("a service with a row of its own asks as often as that says, and costs the others nothing", async () => {
    const on = await host({ overall: { requests: 2 }, services: [{ uid: ANA, requests: 50 }] });
    for (let n = 0; n < 50; n++) expect(code(await list(on))).toBe("ok");
    expect(code(await list(on))).toBe("rate-limited");
    for (let n = 0; n < 2; n++) expect(code(await list(on, 1001))).toBe("ok");
    expect(code(await list(on, 1002))).toBe("rate-limited");
  });

  test("a restart clears nothing: neither a block nor a count", async () => {
    const clock = new FakeClock();
    const limits = { uid: { requests: 5, blockMs: 300_000 }, overall: { requests: 8 } };
    const on = await host(limits, { clock });
    for (let n = 0; n < 6; n++) await list(on);
    expect(await on.daemon.stop("test")).toBe("recorded");
    expect(on.kinds().slice(-2)).toEqual(["limit.state", "daemon.stopped"]);
    clock.pass(10_000);
    const again = await host(limits, { clock, before: on.log.fold() });
    expect(await list(again)).toMatchObject({ ok: false, problem: { retryAfterMs: 290_000 } });
    const codes = [];
    for (let n = 0; n < 4; n++) codes.push(code(await list(again, 1001)));
    expect(codes).toEqual(["ok", "ok", "ok", "rate-limited"]);
  });

  test("while it stops nothing is recorded after the stop", async () => {
    const on = await host({ uid: { requests: 1 } });
    await list(on);
    const stopping = on.daemon.stop("test");
    expect(code(await list(on))).toBe("stopping");
    on.limits.take({ uid: ANA, token: null, tokenLabel: "", verb: "status", kind: "verb" });
    on.daemon.tick();
    expect(await stopping).toBe("recorded");
    expect(on.kinds().at(-1)).toBe("daemon.stopped");
    expect(on.log.fold().stop).toBe("clean");
  });
});

describe("denials", () => {
  const NONE = { uid: { requests: 0 }, overall: { requests: 0 } };

  test("a thousand identical ones are one record and a count; allows are a record each", async () => {
    const on = await host(NONE);
    const answers = [];
    for (let n = 0; n < 1_000; n++) answers.push(await askAs(on, ANA, "check", question("SECRET")));
    expect(new Set(answers.map((reply) => JSON.stringify(reply))).size).toBe(1);
    for (let n = 0; n < 20; n++) await askAs(on, ANA, "check", question("PUBLIC"));
    on.clock.pass(60_000);
    on.daemon.tick();
    await settled();
    const decisions = on.records.filter(({ kind }) => kind === "decision");
    expect(decisions.map(({ data }) => data["decision"])).toEqual([
      "deny",
      ...Array.from({ length: 20 }, () => "allow"),
    ]);
    expect(on.last("decision.repeated")?.data).toMatchObject({
      caller: "uid 1000",
      count: 999,
      first: decisions[0]?.seq,
    });
    await on.checkInvariants();
  });

  test("a flood of different ones: the log is bounded, and another caller's denial is recorded", async () => {
    const on = await host({ ...NONE, probing: { denials: 0 } });
    for (let n = 0; n < 5_000; n++) await askAs(on, ANA, "check", question("SECRET", `m${n}`));
    await askAs(on, 1001, "check", question("SECRET", "mine"));
    await settled();
    const recorded = on.records.filter(({ kind }) => kind === "decision");
    expect(recorded.length).toBeLessThanOrEqual(34);
    expect(recorded.at(-1)?.data["subject"]).toMatchObject({ id: "1001" });
    await on.checkInvariants();
  });

  test("a mode that changes makes it another answer", async () => {
    const on = await host(NONE);
    for (const mode of ["AIRGAP", "COLDROOM", "AIRGAP"]) {
      await askAs(on, ANA, "check", question("CROWN_JEWEL"));
      await setMode(on, mode);
    }
    await settled();
    const denied = on.records.filter(({ kind, data }) => kind === "decision" && data["decision"] === "deny");
    expect(denied.map(({ data }) => data["mode"])).toEqual(["RESTRICTED", "AIRGAP"]);
  });

  test.each([
    ["is noted", "note", "RESTRICTED"],
    ["trips where it is configured", "trip", "AIRGAP"],
  ] as const)("probing %s, once a window", async (_name, action, mode) => {
    const wire =
      action === "note"
        ? { action: { kind: "note" as const } }
        : { action: { kind: "trip" as const, to: "AIRGAP" as const } };
    const on = await host(
      { ...NONE, probing: { denials: 30, windowMs: 60_000 } },
      { tripwires: [trip("probing", "peer.probing", wire)] },
    );
    for (let n = 0; n < 29; n++) await askAs(on, ANA, "check", question("TOP_SECRET", `m${n}`));
    await settled();
    expect(count(on, "tripwire.noted") + count(on, "tripwire.fired")).toBe(0);
    for (let n = 0; n < 100; n++) await askAs(on, ANA, "mode.set", { mode: "OPEN", reason: "let me" });
    await settled();
    expect([on.firewall.mode, count(on, "tripwire.noted") + count(on, "tripwire.fired")]).toEqual([mode, 1]);
    await on.checkInvariants();
  });

  test("what stands in the log is what a start goes on with", async () => {
    const on = await host({ uid: { requests: 1 } });
    await list(on);
    await list(on);
    await settled();
    expect(on.log.fold().limits["blocks"]).toMatchObject([{ kind: "uid", name: "1000" }]);
  });
});
