import { describe, expect, test } from "vitest";
import { ANA, settled, startHost, trip } from "../support/host.ts";

const link = { interface: "eth1", change: "up" };

describe("a tightening", () => {
  test("is in the kernel before its record is on disk, and stands when the record fails", async () => {
    const host = await startHost({ mode: "OPEN" });
    host.store.behaviour = "holds";
    const asked = host.set("AIRGAP");
    expect(host.firewall.mode).toBe("AIRGAP");
    host.store.behaviour = "fails";
    const { durable } = await asked;
    host.store.release();
    host.store.behaviour = "fails";
    await expect(durable).rejects.toMatchObject({ code: "log-unavailable" });
    await settled();
    expect(host.daemon.state().wanted).toBe("LOCKDOWN"); // the log itself is a tripwire
    await host.checkInvariants();
  });

  test("is two records: what was asked and what the kernel confirmed", async () => {
    const host = await startHost({ mode: "OPEN" });
    const { answer, durable } = await host.set("AIRGAP");
    await durable;
    await settled();
    expect(answer).toEqual({ kind: "done", changed: true });
    expect(host.kinds().slice(-2)).toEqual(["mode.changed", "mode.applied"]);
    expect(host.last("mode.applied")?.data).toMatchObject({ mode: "AIRGAP", how: "kernel" });
    await host.checkInvariants();
  });
});

test("a part that fails to take up a mode keeps neither the others nor the record from coming", async () => {
  const [heard, ends]: [string[], unknown[]] = [[], []];
  const broken = () => {
    throw new Error("a token that does not answer");
  };
  const host = await startHost({
    mode: "OPEN",
    hearers: [broken, (mode) => void heard.push(mode)],
    mustEnd: (error) => void ends.push(error),
  });
  await (await host.set("LOCKDOWN")).durable;
  await settled();
  expect([heard, host.firewall.mode, host.kinds().slice(-2)]).toEqual([
    ["LOCKDOWN"],
    "LOCKDOWN",
    ["mode.changed", "mode.applied"],
  ]);
  expect(host.told).toContain("a part of the daemon did not take up the mode");
  expect(ends).toEqual([new Error("a token that does not answer")]);
  await host.checkInvariants();
});

describe("a kernel that refuses to close the links", () => {
  test("has AIRGAP observed, not enforced, and RESTRICTED enforced", async () => {
    const host = await startHost({ mode: "OPEN" });
    const run = host.firewall.run.bind(host.firewall);
    host.firewall.run = (script) => {
      if (script.includes("hook egress")) throw new Error("Operation not supported");
      run(script);
    };
    await host.set("RESTRICTED");
    await settled();
    expect(host.daemon.assurance()).toBe("enforced");
    await host.set("AIRGAP");
    await settled();
    expect(host.daemon.state().applied).toBe("AIRGAP");
    expect(host.daemon.assurance()).toBe("observed");
    host.firewall.run = run;
    for (let beat = 0; beat < 20; beat++) host.daemon.tick();
    expect(host.daemon.assurance()).toBe("enforced");
    await host.checkInvariants();
  });
});

describe("a loosening", () => {
  test("reaches the kernel only after its record is durable", async () => {
    const host = await startHost({ mode: "AIRGAP" });
    host.store.behaviour = "holds";
    const asked = host.set("OPEN");
    await settled();
    expect(host.firewall.mode).toBe("AIRGAP");
    host.store.release();
    const { answer, seq } = await asked;
    expect(answer).toEqual({ kind: "done", changed: true });
    expect(host.records.find((record) => record.seq === seq)?.kind).toBe("mode.changed");
    expect(host.firewall.mode).toBe("OPEN");
    await host.checkInvariants();
  });

  test.each(["fails", "fails-after"] as const)(
    "whose write %s never happens, and the log's failure is LOCKDOWN",
    async (behaviour) => {
      const host = await startHost({ mode: "AIRGAP" });
      host.store.behaviour = behaviour;
      const { answer } = await host.set("OPEN");
      // The failed log is a tripwire too, and may be heard first: either way it is refused.
      expect(["log-unavailable", "loosening-lapsed"]).toContain(answer.kind === "refused" && answer.code);
      await settled();
      expect(host.firewall.mode).toBe("LOCKDOWN");
      await host.checkInvariants();
    },
  );

  test("lapses when a tripwire fires before its record is on disk", async () => {
    const host = await startHost({ mode: "AIRGAP" });
    host.store.behaviour = "holds";
    const asked = host.set("OPEN");
    await settled();
    host.signal("network.link", link);
    expect((await asked).answer).toMatchObject({ kind: "refused", code: "loosening-lapsed" });
    host.store.release();
    await settled();
    expect(host.firewall.mode).toBe("LOCKDOWN");
    await host.checkInvariants();
  });

  test("lapses also when the tripwire asks for no more than the present mode", async () => {
    const host = await startHost({
      mode: "AIRGAP",
      tripwires: [trip("link", "network.link", { action: { kind: "trip", to: "RESTRICTED" } })],
    });
    host.store.behaviour = "holds";
    const asked = host.set("OPEN");
    await settled();
    host.signal("network.link", link);
    host.store.release();
    expect((await asked).answer).toMatchObject({ kind: "refused", code: "loosening-lapsed" });
    await settled();
    expect(host.firewall.mode).toBe("AIRGAP");
    await host.checkInvariants();
  });

  test("is refused while the clock is frozen, and after a person cleared it is not", async () => {
    const host = await startHost({ mode: "AIRGAP" });
    host.signal("clock.moved", { change: "step", milliseconds: "9000" });
    expect((await host.set("OPEN")).answer).toMatchObject({ code: "clock-frozen" });
    expect((await host.set("LOCKDOWN")).answer).toEqual({ kind: "done", changed: true });
    await host.daemon.ask((request) => ({ kind: "unfreeze", request, by: ANA, reason: "looked" }));
    expect(host.daemon.state().frozen).toBeNull();
    await host.checkInvariants();
  });
});

describe("LOCKDOWN", () => {
  const confirm = (host: Awaited<ReturnType<typeof startHost>>, codeDigest: string) =>
    host.daemon.ask((request) => ({ kind: "ceremony-confirm", request, codeDigest, by: ANA }));
  const begin = (host: Awaited<ReturnType<typeof startHost>>) =>
    host.daemon.ask((request) => ({
      kind: "ceremony-begin",
      request,
      purpose: "leave-lockdown",
      id: "c1",
      codeDigest: "right",
      by: ANA,
      reason: "r",
    }));

  test("is left by ceremony only: after the cool-down, with the code, into RESTRICTED", async () => {
    const host = await startHost({ mode: "LOCKDOWN" });
    expect((await host.set("RESTRICTED")).answer).toMatchObject({ code: "ceremony-required" });
    await begin(host);
    expect((await confirm(host, "right")).answer).toMatchObject({ code: "ceremony-too-early" });
    host.clock.pass(1_000);
    expect((await confirm(host, "wrong")).answer).toMatchObject({ code: "ceremony-wrong-code" });
    expect((await confirm(host, "right")).answer).toEqual({ kind: "done", changed: true });
    expect(host.firewall.mode).toBe("RESTRICTED");
    await host.checkInvariants();
  });

  test("a trip during the ceremony ends the ceremony", async () => {
    const host = await startHost({ mode: "LOCKDOWN" });
    await begin(host);
    host.clock.pass(1_000);
    host.signal("network.link", link);
    expect((await confirm(host, "right")).answer).toMatchObject({ code: "ceremony-none" });
    await host.checkInvariants();
  });

  test("three wrong codes end the ceremony", async () => {
    const host = await startHost({ mode: "LOCKDOWN" });
    await begin(host);
    host.clock.pass(1_000);
    for (let i = 0; i < 3; i++) await confirm(host, "wrong");
    expect((await confirm(host, "right")).answer).toMatchObject({ code: "ceremony-none" });
    await host.checkInvariants();
  });

  test("two people are two uids", async () => {
    const host = await startHost({ mode: "LOCKDOWN", config: { ceremony: { coolDownMs: 0, people: 2 } } });
    await begin(host);
    expect((await confirm(host, "right")).answer).toMatchObject({ code: "ceremony-other-person" });
    const other = { uid: 1001, name: "ben", terminal: "pts/1" };
    const { answer } = await host.daemon.ask((request) => ({
      kind: "ceremony-confirm",
      request,
      codeDigest: "right",
      by: other,
    }));
    expect(answer).toEqual({ kind: "done", changed: true });
    await host.checkInvariants();
  });

  test("cannot be timed, so that no deadline leaves it", async () => {
    const host = await startHost({ mode: "OPEN" });
    expect((await host.set("LOCKDOWN", 5_000)).answer).toMatchObject({ code: "argument-invalid" });
  });
});

describe("a timed mode", () => {
  test("that loosened ends by tightening at once", async () => {
    const host = await startHost({ mode: "AIRGAP" });
    await host.set("OPEN", 5_000);
    expect(host.firewall.mode).toBe("OPEN");
    host.clock.pass(5_000);
    host.daemon.tick();
    expect(host.firewall.mode).toBe("AIRGAP");
    await host.checkInvariants();
  });

  test("that tightened ends by loosening, logged first, and not after a tripwire", async () => {
    const host = await startHost({ mode: "OPEN" });
    await host.set("AIRGAP", 5_000);
    host.clock.pass(5_000);
    host.daemon.tick();
    expect(host.firewall.mode).toBe("AIRGAP");
    await settled();
    expect(host.firewall.mode).toBe("OPEN");
    await host.set("AIRGAP", 5_000);
    host.signal("network.link", link);
    host.clock.pass(5_000);
    host.daemon.tick();
    await settled();
    expect(host.firewall.mode).toBe("LOCKDOWN");
    await host.checkInvariants();
  });

  test("that loosened does not outlive a clean stop", async () => {
    const host = await startHost({ mode: "AIRGAP" });
    await host.set("OPEN", 60_000);
    await host.daemon.stop("test");
    expect(host.last("daemon.stopped")?.data).toMatchObject({ wanted: "AIRGAP" });
    expect(host.firewall.mode).toBe("AIRGAP");
    await host.checkInvariants();
  });
});

describe("a tightening that is set for later", () => {
  const openUntilAirgap = async () => {
    const host = await startHost({ mode: "AIRGAP" });
    await host.set("OPEN", 60_000);
    return host;
  };

  test("is called off only by a loosening: logged first, never while frozen", async () => {
    const host = await openUntilAirgap();
    host.signal("clock.moved", { change: "step", milliseconds: "9000" });
    expect((await host.set("OPEN")).answer).toMatchObject({ code: "clock-frozen" });
    host.clock.pass(60_000);
    host.daemon.tick();
    expect(host.firewall.mode).toBe("AIRGAP");
    await host.checkInvariants();
  });

  test("outlives a tripwire and a tightening that are less strict than it", async () => {
    const host = await startHost({
      mode: "AIRGAP",
      tripwires: [trip("link", "network.link", { action: { kind: "trip", to: "RESTRICTED" } })],
    });
    await host.set("OPEN", 60_000);
    host.signal("network.link", link);
    expect(host.firewall.mode).toBe("RESTRICTED");
    await host.set("TRUSTED");
    host.clock.pass(60_000);
    host.daemon.tick();
    expect(host.firewall.mode).toBe("AIRGAP");
    await host.checkInvariants();
  });

  test("can be called off by a person, and then does not come", async () => {
    const host = await openUntilAirgap();
    expect((await host.set("OPEN")).answer).toMatchObject({ kind: "done" });
    host.clock.pass(60_000);
    host.daemon.tick();
    expect(host.firewall.mode).toBe("OPEN");
    await host.checkInvariants();
  });
});

describe("a clearing of the freeze", () => {
  test("that lapses leaves a log that says frozen", async () => {
    const host = await startHost({ mode: "OPEN" });
    host.signal("clock.moved", { change: "step", milliseconds: "9000" });
    await settled();
    host.store.behaviour = "holds";
    const asked = host.daemon.ask((request) => ({ kind: "unfreeze", request, by: ANA, reason: "looked" }));
    await settled();
    host.signal("network.link", link);
    host.store.release();
    expect((await asked).answer).toMatchObject({ code: "loosening-lapsed" });
    await settled();
    expect(host.kinds().findLast((kind) => kind.startsWith("clock."))).toBe("clock.frozen");
    await host.checkInvariants();
  });
});

describe("the kernel", () => {
  test.each(["refuses", "half", "lies", "fails-after"] as const)(
    "that %s is never reported as enforced, is retried, and told when it heals",
    async (behaviour) => {
      const host = await startHost({ mode: "OPEN" });
      host.firewall.behaviour = behaviour;
      await host.set("AIRGAP");
      expect(host.daemon.state().applied).toBeNull();
      expect(host.daemon.assurance()).toBe("failed");
      const beats = host.firewall.scripts.length;
      host.daemon.tick();
      expect(host.firewall.scripts.length).toBe(beats); // neither a retry before its time nor a heartbeat
      host.firewall.behaviour = "works";
      host.clock.pass(200);
      host.daemon.tick();
      expect(host.daemon.state().applied).toBe("AIRGAP");
      await settled();
      expect(host.last("mode.applied")?.data).toMatchObject({ failuresBefore: 1 });
      await host.checkInvariants();
    },
  );

  test("whose rules somebody else took away is put back and trips", async () => {
    const host = await startHost({ mode: "OPEN" });
    host.firewall.table = null;
    host.daemon.tick();
    expect(host.firewall.mode).toBe("LOCKDOWN");
    await settled();
    expect(host.last("tripwire.fired")?.data).toMatchObject({ tripwire: "rules", wanted: "LOCKDOWN" });
    await host.checkInvariants();
  });

  test("log-only: applied follows wanted and the assurance says observed", async () => {
    const host = await startHost({ mode: "OPEN", enforcing: false });
    await host.set("AIRGAP");
    expect(host.daemon.state().applied).toBe("AIRGAP");
    expect(host.daemon.assurance()).toBe("observed");
    await settled();
    expect(host.last("mode.applied")?.data).toMatchObject({ how: "observed" });
    await host.checkInvariants();
  });
});

describe("repeats", () => {
  test("a tripwire that goes on firing in LOCKDOWN is one record and a count", async () => {
    const host = await startHost({ mode: "OPEN" });
    for (let i = 0; i < 500; i++) host.signal("network.link", link);
    await settled();
    expect(host.kinds().filter((kind) => kind === "tripwire.fired")).toHaveLength(2); // the fall, and the first in LOCKDOWN
    host.clock.pass(60_000);
    host.daemon.tick();
    await settled();
    expect(host.last("tripwire.repeated")?.data).toMatchObject({ count: 498 });
    await host.checkInvariants();
  });
});

describe("a blind sensor", () => {
  const blind = { sensor: "network", why: "died" };

  test("degrades the assurance, is recorded once, and so is its return", async () => {
    const host = await startHost({ mode: "AIRGAP" });
    host.sensors[0].state = { state: "blind", why: "died" };
    host.signal("sensor.blind", blind);
    host.signal("sensor.blind", blind);
    expect(host.daemon.assurance()).toBe("observed");
    host.sensors[0].state = { state: "watching", via: "fake" };
    host.daemon.tick();
    expect(host.daemon.assurance()).toBe("enforced");
    await settled();
    expect(host.kinds().filter((kind) => kind.startsWith("sensor."))).toEqual([
      "sensor.blind",
      "sensor.restored",
    ]);
    await host.checkInvariants();
  });

  test("trips where the tripwire behind it says so", async () => {
    const host = await startHost({
      mode: "AIRGAP",
      tripwires: [trip("link", "network.link", { whenBlind: "trip", armed: ["AIRGAP"] })],
    });
    host.signal("sensor.blind", blind);
    expect(host.firewall.mode).toBe("LOCKDOWN");
    await host.checkInvariants();
  });
});

describe("a sensor that is blind already", () => {
  test("trips when a mode arms the tripwires behind it", async () => {
    const wire = trip("link", "network.link", { whenBlind: "trip", armed: ["AIRGAP", "LOCKDOWN"] });
    const host = await startHost({ mode: "RESTRICTED", tripwires: [wire] });
    host.signal("sensor.blind", { sensor: "network", why: "died" });
    expect(host.firewall.mode).toBe("RESTRICTED");
    await host.set("AIRGAP");
    expect(host.firewall.mode).toBe("LOCKDOWN");
    await host.checkInvariants();
  });
});

describe("a trip while the daemon stops", () => {
  test("is taken, and is what the next start goes on from", async () => {
    const host = await startHost({ mode: "AIRGAP" });
    host.store.behaviour = "holds";
    const stopping = host.daemon.stop("SIGTERM");
    await settled();
    host.signal("network.link", link);
    host.store.release();
    expect(await stopping).toBe("recorded");
    expect(host.kinds().at(-1)).toBe("daemon.stopped");
    expect(host.last("daemon.stopped")?.data).toMatchObject({ wanted: "LOCKDOWN" });
    expect(host.firewall.mode).toBe("LOCKDOWN");
    expect(host.firewall.table).not.toContain("alive");
    host.signal("network.link", link);
    host.daemon.tick();
    await host.checkInvariants();
  });

  test("asked for twice is one stop", async () => {
    const host = await startHost({ mode: "OPEN" });
    const both = await Promise.all([host.daemon.stop("SIGTERM"), host.daemon.stop("SIGINT")]);
    expect(both).toEqual(["recorded", "recorded"]);
    expect(host.kinds().filter((kind) => kind === "daemon.stopped")).toHaveLength(1);
  });
});

describe("a clean stop", () => {
  test("is recorded first, then leaves the mode's rules without the dead-man", async () => {
    const host = await startHost({ mode: "AIRGAP" });
    expect(host.firewall.table).toContain("alive");
    expect(await host.daemon.stop("SIGTERM")).toBe("recorded");
    expect(host.firewall.mode).toBe("AIRGAP");
    expect(host.firewall.table).not.toContain("alive");
    expect(host.kinds().at(-1)).toBe("daemon.stopped");
    expect(host.sensors.every((sensor) => sensor.stopped)).toBe(true);
    await host.checkInvariants();
  });

  test("that cannot be recorded leaves the kernel to the dead-man", async () => {
    const host = await startHost({ mode: "OPEN" });
    host.store.behaviour = "fails";
    expect(await host.daemon.stop("SIGTERM")).toBe("not-recorded");
    expect(host.firewall.table).toContain("alive");
  });
});

describe("a loop that stood still", () => {
  test("says in the log how long it watched nothing", async () => {
    const host = await startHost();
    host.daemon.tick();
    host.clock.pass(7_000);
    host.daemon.tick();
    await settled();
    expect(host.last("gap")?.data).toMatchObject({ ended: "stall", milliseconds: 7_000 });
    await host.checkInvariants();
  });
});

describe("the time of a start", () => {
  test("the kernel has the mode's rules before the start's record is on disk", async () => {
    const host = await startHost({
      start: { mode: "LOCKDOWN", cause: { kind: "crash", why: "x" }, epoch: 4, frozen: "jumped" },
    });
    expect(host.firewall.mode).toBe("LOCKDOWN");
    expect(host.last("daemon.started")?.data).toMatchObject({
      wanted: "LOCKDOWN",
      epoch: 4,
      cause: "crash",
      frozen: "jumped",
    });
    expect(host.daemon.state().frozen).not.toBeNull();
    await host.checkInvariants();
  });
});
