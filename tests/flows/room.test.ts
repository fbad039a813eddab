import { describe, expect, test } from "vitest";
import { settled, startHost } from "../support/host.ts";
import { askAs } from "../support/office.ts";

const MARK = 67_108_864;
type Host = Awaited<ReturnType<typeof startHost>>;

/** Asks as root; gives the decision. */
async function check(host: Host, memoryClass: string): Promise<unknown> {
  const params = {
    action: { name: "recall" },
    resource: { type: "memory", id: "m", properties: { class: memoryClass } },
  };
  const reply = await askAs(host, 0, "check", params);
  if (!reply.ok) throw new Error(JSON.stringify(reply.problem));
  return reply.data;
}

describe("while the log's disk is nearly full", () => {
  test("nothing is allowed, and it is again when room comes back", async () => {
    const host = await startHost({ mode: "RESTRICTED" });
    expect(await check(host, "PUBLIC")).toMatchObject({ decision: true });
    host.disk.freeBytes = MARK - 1;
    host.daemon.tick();
    expect(await check(host, "PUBLIC")).toMatchObject({ decision: false, reason: ["log-unavailable"] });
    host.disk.freeBytes = MARK * 1.25;
    host.daemon.tick();
    expect(await check(host, "PUBLIC")).toMatchObject({ decision: true });
    await settled();
    expect(host.kinds().filter((kind) => ["log.low", "log.room"].includes(kind))).toEqual([
      "log.low",
      "log.room",
    ]);
    await host.checkInvariants();
  });

  test("what is told and allowed is the same when the file system does not say", async () => {
    const host = await startHost({ mode: "RESTRICTED" });
    host.disk.freeBytes = null;
    host.daemon.tick();
    expect(await check(host, "PUBLIC")).toMatchObject({ decision: false });
    await settled();
    expect(host.last("log.low")?.data).toEqual({ freeBytes: -1 });
  });

  test("nothing is loosened, and tightening goes on", async () => {
    const host = await startHost({ mode: "AIRGAP" });
    host.disk.freeBytes = 0;
    host.daemon.tick();
    const loosened = await host.set("OPEN");
    expect(loosened.answer).toMatchObject({ kind: "refused", code: "log-unavailable" });
    const tightened = await host.set("COLDROOM");
    expect([tightened.answer, host.firewall.mode]).toEqual([{ kind: "done", changed: true }, "COLDROOM"]);
    host.signal("network.link", { interface: "eth1", change: "up" });
    await settled();
    expect([host.firewall.mode, host.last("tripwire.fired")?.data["tripwire"]]).toEqual(["LOCKDOWN", "link"]);
    await host.checkInvariants();
  });

  test("a timed tightening stays until there is room", async () => {
    const host = await startHost({ mode: "RESTRICTED" });
    await host.set("AIRGAP", 10_000);
    host.disk.freeBytes = 0;
    host.clock.pass(11_000);
    host.daemon.tick();
    await settled();
    expect(host.firewall.mode).toBe("AIRGAP");
    host.disk.freeBytes = 1e12;
    host.daemon.tick();
    await settled();
    expect(host.firewall.mode).toBe("RESTRICTED");
    await host.checkInvariants();
  });

  test("a thousand denials of one kind are one record, and a count", async () => {
    const config = { limits: { uid: { requests: 0 }, overall: { requests: 0 } } };
    const host = await startHost({ mode: "RESTRICTED", config });
    host.disk.freeBytes = 0;
    host.daemon.tick();
    for (let n = 0; n < 1000; n++) await check(host, n % 2 === 0 ? "PUBLIC" : "CROWN_JEWEL");
    host.clock.pass(61_000);
    host.daemon.tick();
    await settled();
    const decisions = host.records.filter((record) => record.kind === "decision");
    expect(decisions.map(({ data }) => data["reason"])).toHaveLength(2);
    const counts = host.records.filter((record) => record.kind === "decision.repeated");
    expect(counts.map(({ data }) => data["count"])).toEqual([499, 499]);
    await host.checkInvariants();
  });
});
