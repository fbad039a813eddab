import { describe, expect, test } from "vitest";
import type { StartHold } from "../../daemon/core/start.ts";
import type { Answer } from "../../daemon/core/state.ts";
import { beginRelease, confirmRelease, enforce, type Host, later, SSH, set } from "../support/hold-asks.ts";
import { ANA, settled, startHost, trip } from "../support/host.ts";

const SHADOW: StartHold = {
  held: { hold: "shadow", lasts: "always" },
  change: { from: "enforcing", by: "first-start" },
};
const link = { interface: "eth1", change: "up" };

const confirm = (host: Host) => host.daemon.ask((request) => ({ kind: "confirm", request, by: ANA }));
const release = async (host: Host): Promise<Answer> => {
  await beginRelease(host);
  return (await confirmRelease(host)).answer;
};
const freeze = (host: Host) => host.signal("clock.moved", { change: "step", milliseconds: "9000" });

describe("shadow", () => {
  test("of a first start opens once its record is on disk", async () => {
    const host = await startHost({ mode: "AIRGAP", hold: SHADOW });
    expect(host.refuses()).toBe(false);
    expect(host.daemon.assurance()).toBe("observed");
    expect(host.last("hold.changed")?.data).toMatchObject({
      from: "enforcing",
      to: "shadow",
      by: "first-start",
    });
    await host.checkInvariants();
  });

  test("that cannot be recorded opens nothing", async () => {
    const host = await startHost({ mode: "AIRGAP", hold: SHADOW, storeFails: true });
    expect(host.daemon.state().held.hold).toBe("enforcing");
    expect(host.firewall.mode).toBe("LOCKDOWN"); // the log is a tripwire
  });

  test("is left at once, and what the kernel confirmed is a record of its own", async () => {
    const host = await startHost({ mode: "AIRGAP", hold: SHADOW });
    host.store.behaviour = "holds";
    const asked = enforce(host);
    expect(host.firewall.mode).toBe("AIRGAP");
    expect(host.daemon.assurance()).toBe("enforced");
    host.store.release();
    await (await asked).durable;
    await settled();
    expect(host.last("mode.applied")?.data).toMatchObject({ mode: "AIRGAP", how: "kernel" });
    expect(host.holds).toEqual(["shadow", "enforcing"]);
    await host.checkInvariants();
  });

  test("a kernel that does not take the rules is no enforcement", async () => {
    const host = await startHost({ mode: "AIRGAP", hold: SHADOW });
    host.firewall.behaviour = "refuses";
    await enforce(host);
    expect(host.daemon.assurance()).toBe("failed");
    host.firewall.behaviour = "works";
    await later(host, 200);
    expect(host.daemon.assurance()).toBe("enforced");
    await host.checkInvariants();
  });
});

describe("enforcing on trial", () => {
  test("goes back when the time is up, logged first", async () => {
    const host = await startHost({ mode: "AIRGAP", hold: SHADOW });
    await enforce(host, 60_000);
    await later(host, 59_000);
    expect(host.firewall.mode).toBe("AIRGAP");
    host.store.behaviour = "holds";
    await later(host, 2_000);
    expect(host.firewall.mode).toBe("AIRGAP");
    expect(host.refuses()).toBe(true);
    host.store.release();
    await settled();
    expect(host.refuses()).toBe(false);
    expect(host.daemon.assurance()).toBe("observed");
    await host.checkInvariants();
  });

  test("stays when it is confirmed, by `confirm` or by `enforce` without a condition", async () => {
    for (const say of [confirm, enforce]) {
      const host = await startHost({ mode: "AIRGAP", hold: SHADOW });
      await enforce(host, 60_000);
      expect((await say(host)).answer).toEqual({ kind: "done", changed: true });
      await later(host, 70_000);
      expect(host.firewall.mode).toBe("AIRGAP");
      expect(host.last("mode.confirmed")?.data).toMatchObject({ hold: "enforcing", by: "ana" });
      expect((await confirm(host)).answer).toMatchObject({ code: "confirm-none" });
      await host.checkInvariants();
    }
  });

  test("stays when a tripwire fired, also one that asks for no more than the mode", async () => {
    for (const to of ["LOCKDOWN", "RESTRICTED"] as const) {
      const wire = trip("link", "network.link", { action: { kind: "trip", to } });
      const host = await startHost({ mode: "AIRGAP", hold: SHADOW, tripwires: [wire] });
      await enforce(host, 60_000);
      host.signal("network.link", link);
      await later(host, 70_000);
      expect(host.daemon.state().held.hold).toBe("enforcing");
      expect(host.firewall.mode).toBe(to === "LOCKDOWN" ? "LOCKDOWN" : "AIRGAP");
      await host.checkInvariants();
    }
  });

  test("a tripwire that fires while the way back is on its way to the log keeps it closed, and the log says so", async () => {
    const host = await startHost({ mode: "AIRGAP", hold: SHADOW });
    await enforce(host, 60_000);
    host.store.behaviour = "holds";
    await later(host, 61_000);
    host.signal("network.link", link);
    host.store.release();
    await settled();
    expect(host.firewall.mode).toBe("LOCKDOWN");
    expect(host.last("hold.changed")?.data).toMatchObject({ to: "enforcing", by: "lapsed" });
    await host.checkInvariants();
  });

  test("waits while the clock is frozen, and a stop ends the trial, not the hold", async () => {
    const host = await startHost({ mode: "AIRGAP", hold: SHADOW });
    await enforce(host, 60_000);
    freeze(host);
    await later(host, 70_000);
    expect(host.firewall.mode).toBe("AIRGAP");
    await host.daemon.stop("test");
    expect(host.firewall.mode).toBe("AIRGAP");
    expect(host.daemon.state()).toMatchObject({ trial: null, held: { hold: "enforcing" } });
    await host.checkInvariants();
  });
});

describe("a release", () => {
  test("takes our table out by ceremony, in any mode; a trip moves the mode and opens nothing, closes nothing", async () => {
    for (const mode of ["RESTRICTED", "LOCKDOWN"] as const) {
      const host = await startHost({ mode });
      expect(await release(host)).toEqual({ kind: "done", changed: true });
      expect(host.firewall.table).toBeNull();
      expect(host.daemon.state()).toMatchObject({ wanted: mode, applied: mode, how: "observed" });
      expect(host.daemon.assurance()).toBe("observed");
      host.signal("network.link", link);
      expect(host.daemon.state()).toMatchObject({ wanted: "LOCKDOWN", held: { hold: "released" } });
      expect(host.firewall.table).toBeNull();
      expect(host.holds).toEqual(["released"]);
      await later(host, 500); // a heartbeat finds nothing to complain of
      expect(host.kinds().filter((kind) => kind === "tripwire.fired")).toHaveLength(1);
      await host.checkInvariants();
    }
  });

  test("is held to the rules of a ceremony: cool-down, code, frozen clock, full disk", async () => {
    const host = await startHost({ mode: "RESTRICTED" });
    const begin = () =>
      host.daemon.ask((request) => ({
        kind: "ceremony-begin",
        request,
        purpose: "release",
        id: "c1",
        codeDigest: "right",
        by: ANA,
        reason: "r",
      }));
    const say = (codeDigest: string) =>
      host.daemon.ask((request) => ({ kind: "ceremony-confirm", request, codeDigest, by: ANA }));
    await begin();
    expect((await say("right")).answer).toMatchObject({ code: "ceremony-too-early" });
    host.clock.pass(1_000);
    expect((await say("wrong")).answer).toMatchObject({ code: "ceremony-wrong-code" });
    host.disk.freeBytes = 1;
    host.daemon.tick();
    expect((await say("right")).answer).toMatchObject({ code: "log-unavailable" });
    host.disk.freeBytes = 1e12;
    host.daemon.tick();
    freeze(host);
    expect((await begin()).answer).toMatchObject({ code: "clock-frozen" });
    expect(host.firewall.mode).toBe("RESTRICTED");
    await host.checkInvariants();
  });

  test("whose record fails, even after it took effect, opens nothing", async () => {
    const host = await startHost({ mode: "RESTRICTED" });
    host.store.behaviour = "fails-after";
    expect(await release(host)).toMatchObject({ kind: "refused" });
    await settled();
    expect(host.daemon.state().held.hold).toBe("enforcing");
    expect(host.firewall.mode).not.toBeNull();
  });
});

describe("a mode on trial", () => {
  test("of two in a row goes back to the one that nobody had to confirm", async () => {
    const host = await startHost({ mode: "RESTRICTED" });
    await set(host, "AIRGAP", { confirmMs: 60_000 });
    await set(host, "COLDROOM", { confirmMs: 60_000 });
    await later(host, 61_000);
    expect(host.firewall.mode).toBe("RESTRICTED");
    await host.checkInvariants();
  });

  test("asked for again it goes back as far, later; without a time it stays", async () => {
    for (const [first, second] of [
      [{ confirmMs: 60_000 }, { confirmMs: 90_000 }],
      [{ forMs: 60_000 }, { forMs: 90_000 }],
      [{ forMs: 60_000 }, { confirmMs: 90_000 }],
    ]) {
      const host = await startHost({ mode: "OPEN" });
      await set(host, "AIRGAP", first ?? {});
      expect((await set(host, "AIRGAP", second ?? {})).answer).toEqual({ kind: "done", changed: true });
      await later(host, 61_000);
      expect(host.firewall.mode).toBe("AIRGAP");
      await later(host, 30_000);
      expect(host.firewall.mode).toBe("OPEN");
      await set(host, "AIRGAP", first ?? {});
      expect((await set(host, "AIRGAP", {})).answer).toEqual({ kind: "done", changed: true });
      await later(host, 91_000);
      expect(host.firewall.mode).toBe("AIRGAP");
      expect((await set(host, "AIRGAP", { confirmMs: 60_000 })).answer).toMatchObject({ changed: false });
      await host.checkInvariants();
    }
  });

  test("a looser one goes back by itself too, at once, and to keep it is logged first", async () => {
    const host = await startHost({ mode: "AIRGAP" });
    await set(host, "RESTRICTED", { confirmMs: 60_000 });
    freeze(host);
    expect((await confirm(host)).answer).toMatchObject({ code: "clock-frozen" });
    await later(host, 61_000);
    expect(host.firewall.mode).toBe("AIRGAP");
    await host.checkInvariants();

    const other = await startHost({ mode: "AIRGAP" });
    await set(other, "RESTRICTED", { confirmMs: 60_000 });
    expect((await confirm(other)).answer).toEqual({ kind: "done", changed: true });
    await later(other, 61_000);
    expect(other.firewall.mode).toBe("RESTRICTED");
    await other.checkInvariants();
  });
});

describe("a flow that is kept", () => {
  const kept = async (confirmMs: number | null = null) => {
    const host = await startHost({ mode: "RESTRICTED" });
    host.flows.push(SSH);
    await set(host, "AIRGAP", { keep: { flow: SSH, passes: true }, confirmMs });
    await settled();
    return host;
  };

  test("is in the record, and no mode is enforced while it is", async () => {
    const host = await kept();
    expect(host.daemon.state().keep).toEqual(SSH);
    expect(host.daemon.assurance()).toBe("observed");
    expect(host.last("mode.changed")?.data).toMatchObject({ keep: "tcp 10.0.0.1:22 with 10.0.0.9:50000" });
    await host.checkInvariants();
  });

  test("goes when the connection has, looked for every second; the way back stays", async () => {
    const host = await kept(60_000);
    host.flows.length = 0;
    await later(host, 500);
    expect(host.daemon.state().keep).toEqual(SSH);
    await later(host, 500);
    expect(host.daemon.state().keep).toBeNull();
    expect(host.last("mode.changed")?.data).toMatchObject({ by: "flow-ended", wanted: "AIRGAP" });
    expect(host.daemon.assurance()).toBe("enforced");
    await later(host, 60_000);
    expect(host.firewall.mode).toBe("RESTRICTED");
    await host.checkInvariants();
  });

  test.each([
    ["a trip that asks for no more", async (host: Host) => host.signal("network.link", link)],
    ["another mode", (host: Host) => set(host, "COLDROOM", {})],
    ["the same mode without it", (host: Host) => set(host, "AIRGAP", {})],
    ["a stop", (host: Host) => host.daemon.stop("test")],
  ])("goes with %s", async (_name, end) => {
    const host = await kept();
    await end(host);
    await settled();
    expect(host.daemon.state().keep).toBeNull();
    await host.checkInvariants();
  });

  test("that has ended meanwhile is not let through: not when it is logged, not with a way back, not anew", async () => {
    const host = await startHost({ mode: "AIRGAP" });
    host.flows.push(SSH);
    host.store.behaviour = "holds";
    const asked = set(host, "AIRGAP", { keep: { flow: SSH, passes: false } });
    host.flows.length = 0;
    host.store.release();
    expect((await asked).answer).toEqual({ kind: "done", changed: true });
    await settled();
    expect(host.firewall.table).not.toContain("sport 50000");
    expect(host.daemon.state()).toMatchObject({ keep: null, applied: "AIRGAP" });
    expect(host.last("mode.changed")?.data).toMatchObject({ by: "flow-ended" });
    expect(host.last("mode.applied")?.data).not.toHaveProperty("keep");
    await host.checkInvariants();

    const other = await kept();
    await set(other, "COLDROOM", { confirmMs: 60_000 });
    other.flows.length = 0;
    await later(other, 61_000);
    expect(other.daemon.state()).toMatchObject({ wanted: "AIRGAP", applied: "AIRGAP", keep: null });
    expect(other.firewall.table).not.toContain("sport 50000");
    await other.checkInvariants();
  });

  test("let through in the present mode is a loosening: logged first, never while frozen, never in LOCKDOWN", async () => {
    const host = await startHost({ mode: "AIRGAP" });
    host.flows.push(SSH);
    host.store.behaviour = "holds";
    const asked = set(host, "AIRGAP", { keep: { flow: SSH, passes: false } });
    await settled();
    expect(host.daemon.state().keep).toBeNull();
    host.store.release();
    expect((await asked).answer).toEqual({ kind: "done", changed: true });
    expect(host.daemon.state().keep).toEqual(SSH);
    await set(host, "AIRGAP", {});
    freeze(host);
    const again = await set(host, "COLDROOM", { keep: { flow: SSH, passes: false } });
    expect(again.answer).toMatchObject({ code: "clock-frozen" });
    expect((await set(host, "LOCKDOWN", { keep: { flow: SSH, passes: false } })).answer).toMatchObject({
      code: "argument-invalid",
    });
    await host.checkInvariants();
  });

  test("comes back with a way back that opens, and not with one that closes", async () => {
    const host = await kept();
    await set(host, "COLDROOM", { confirmMs: 60_000 });
    expect(host.daemon.state().keep).toBeNull();
    await later(host, 61_000);
    expect(host.daemon.state()).toMatchObject({ wanted: "AIRGAP", keep: SSH });
    await set(host, "RESTRICTED", { confirmMs: 60_000 });
    await later(host, 61_000);
    expect(host.daemon.state()).toMatchObject({ wanted: "AIRGAP", keep: null });
    await host.checkInvariants();
  });
});
