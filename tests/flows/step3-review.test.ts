import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { verifyLog } from "../../daemon/audit/verify.ts";
import type { Mode } from "../../daemon/core/mode.ts";
import { parseListings } from "../../daemon/core/nft-listing.ts";
import { preflight } from "../../daemon/core/preflight.ts";
import type { StartHold } from "../../daemon/core/start.ts";
import { initialState } from "../../daemon/core/state.ts";
import { createDaemon } from "../../daemon/daemon.ts";
import { createEnforcer, type Enforcer } from "../../daemon/enforce.ts";
import { networkProbes } from "../../daemon/network-probe.ts";
import type { Firewall } from "../../daemon/ports.ts";
import { createExpectations, createSelftest, type Finding, filesProbe } from "../../daemon/selftest.ts";
import { type StatusParts, statusOf } from "../../daemon/status.ts";
import { FakeFirewall } from "../support/fake-firewall.ts";
import { beginRelease, confirmRelease, enforce, type Host, later, SSH, set } from "../support/hold-asks.ts";
import { ANA, settled, startHost, trip } from "../support/host.ts";
import { fakeSurroundings } from "../support/surroundings.ts";

/** Failing tests of a review of step 3: each says what should hold, and does not. */
const BOOTED: StartHold = {
  held: { hold: "released", lasts: "boot" },
  change: { from: "enforcing", by: "boot-parameter" },
};
const link = { interface: "eth1", change: "up" };
async function logged(host: Host) {
  async function* chunks() {
    yield { file: "00000000000000000000.jsonl", bytes: host.store.bytes };
  }
  const verdict = await verifyLog(chunks(), { vkey: host.log.vkey() });
  expect(verdict.bad).toBeNull();
  return verdict.state;
}

describe("the hold in the log", () => {
  test("R1: a release that a trip made lapse does not come true at the next boot", async () => {
    const host = await startHost({ mode: "AIRGAP", hold: BOOTED });
    await beginRelease(host);
    host.store.behaviour = "holds";
    const asked = confirmRelease(host);
    host.signal("network.link", link);
    host.store.release();
    expect((await asked).answer).toMatchObject({ kind: "refused", code: "loosening-lapsed" });
    await settled();
    expect(host.daemon.state().held).toEqual({ hold: "released", lasts: "boot" });
    // the next boot has no parameter: enforcing, as before
    expect((await logged(host)).hold).toBe("enforcing");
  });

  test("R5: enforcing on trial in a released boot, unconfirmed, leaves the next boot as it was before", async () => {
    const host = await startHost({
      mode: "AIRGAP",
      hold: { held: { hold: "shadow", lasts: "always" }, change: { from: "enforcing", by: "first-start" } },
    });
    const before = (await logged(host)).hold;
    expect(before).toBe("shadow");
    // the boot parameter's record, as the early unit writes it
    await host.log.append({
      kind: "hold.changed",
      data: {
        from: "shadow",
        to: "released",
        lasts: "boot",
        by: "boot-parameter",
        why: "",
        mode: "AIRGAP",
        inEpoch: 0,
      },
    }).durable;
    expect((await logged(host)).hold).toBe("shadow");
    const booted = await startHost({
      mode: "AIRGAP",
      hold: { ...BOOTED, change: { from: "shadow", by: "boot-parameter" } },
    });
    await enforce(booted, 60_000);
    await later(booted, 61_000);
    expect(booted.daemon.state().held).toEqual({ hold: "released", lasts: "boot" });
    // what the trial wrote, after what the log said before it
    for (const { data } of booted.records.filter((each) => each.kind === "hold.changed"))
      await host.log.append({ kind: "hold.changed", data }).durable;
    expect((await logged(host)).hold).toBe("shadow");
  });
});

describe("confirm or revert", () => {
  test("R4a: asking twice for the same mode, to be confirmed, still goes back", async () => {
    const host = await startHost({ mode: "OPEN" });
    await set(host, "AIRGAP", { confirmMs: 60_000 });
    await set(host, "AIRGAP", { confirmMs: 60_000 }); // the reply was lost: asked again
    await later(host, 61_000);
    expect(host.daemon.state().wanted).toBe("OPEN");
  });

  test("R4b: ending a kept session, to be confirmed, goes back to keeping it", async () => {
    const host = await startHost({ mode: "OPEN" });
    host.flows.push(SSH);
    await set(host, "AIRGAP", { keep: { flow: SSH, passes: true } });
    await set(host, "AIRGAP", { confirmMs: 60_000 });
    expect(host.daemon.state().keep).toBeNull(); // whoever asked is cut now
    await later(host, 61_000);
    expect(host.daemon.state().keep).toEqual(SSH);
  });

  test("R7: a way back that a clock step made lapse comes again when the clock is cleared", async () => {
    const host = await startHost({ mode: "OPEN" });
    await set(host, "AIRGAP", { confirmMs: 60_000 });
    host.store.behaviour = "holds";
    await later(host, 61_000); // on its way to the log
    host.signal("clock.moved", { change: "step", milliseconds: "9000" });
    host.store.release();
    await settled();
    await host.daemon.ask((request) => ({ kind: "unfreeze", request, by: ANA, reason: "r" }));
    await settled();
    await later(host, 1_000);
    expect(host.daemon.state().wanted).toBe("OPEN");
  });

  test("R6: to enforce while the trial's end is on its way to the log keeps it enforcing", async () => {
    const host = await startHost({
      mode: "AIRGAP",
      hold: { held: { hold: "shadow", lasts: "always" }, change: { from: "enforcing", by: "first-start" } },
    });
    await enforce(host, 60_000);
    host.store.behaviour = "holds";
    await later(host, 61_000);
    const asked = enforce(host);
    host.store.release();
    expect((await asked).answer).toMatchObject({ kind: "done" });
    await settled();
    expect(host.daemon.state().held.hold).toBe("enforcing");
  });
});

/** Keeps each table apart, as the kernel does, and refuses what a kernel before 5.16 refuses. */
function oldKernel(): Firewall & { readonly tables: Map<string, string> } {
  const tables = new Map<string, string>();
  return {
    via: "nft",
    tables,
    generation: () => null,
    list: () => [...tables.values()].join("\n"),
    run: (script) => {
      if (script.includes("hook egress")) throw new Error("Operation not supported");
      for (const [, family = ""] of script.matchAll(/^delete table (\w+) boundary$/gm)) tables.delete(family);
      for (const [text, family = ""] of script.matchAll(
        /^table (\w+) boundary \{\n[\s\S]*?\n\}$(?=\n(?:table|$))/gm,
      ))
        tables.set(family, text);
    },
  };
}
const LISTS = { trustedInterfaces: [], deny: [], allow: [] };
function onOldKernel(): Enforcer {
  return createEnforcer({
    firewall: oldKernel(),
    network: LISTS,
    timeoutMs: 2_000,
    surroundings: fakeSurroundings(),
  });
}

describe("a kernel without an egress hook", () => {
  test("the fake is one: OPEN is confirmed, and a clean slate is closed", () => {
    expect(onOldKernel().apply("OPEN")).toEqual({ ok: true, how: "kernel" });
    expect(onOldKernel().apply("AIRGAP")).toEqual({ ok: true, how: "kernel" });
  });

  test("R2: goes from OPEN to AIRGAP as well", () => {
    const enforcer = onOldKernel();
    enforcer.apply("OPEN");
    expect(enforcer.apply("AIRGAP")).toEqual({ ok: true, how: "kernel" });
  });

  test("R3: status does not claim the tables that were left out", () => {
    const enforcer = onOldKernel();
    enforcer.apply("AIRGAP");
    expect(enforcer.leftOut()).not.toEqual([]);
    const state = {
      ...initialState("AIRGAP", 0, { kind: "initial", why: "" }),
      applied: "AIRGAP",
      how: "kernel",
    };
    const parts = {
      daemon: {
        state: () => state,
        tickedAt: () => "",
        since: () => "",
        assurance: () => "enforced",
        drops: () => ({}),
        rulesCheckedAt: () => "",
      },
      enforcer,
      network: "tables boundary (inet, arp, netdev) through nft",
      log: { head: () => ({ size: 0, root: "", sealedAt: "" }), state: () => "writing" },
      sensors: [],
      baseline: { pendingChanges: () => [] },
      selftest: { latest: () => null, failures: () => [] },
      stream: () => ({ kind: "writing", next: 0, sealedAt: "", why: "" }),
      usb: () => ({ name: "usb", state: "absent", detail: "", checkedAt: "" }),
      isolation: () => ({ name: "isolation", state: "absent", detail: "", checkedAt: "" }),
      policy: () => ({ state: "loading", referee: { state: "idle", judged: 0, why: "" } }),
      vault: () => ({ state: "absent", detail: "" }),
      exec: () => ({ state: "absent", detail: "" }),
      egress: () => ({ state: "absent", detail: "" }),
      clock: { monoNs: () => 0n, wallMs: () => 0, bootId: () => "" },
      switches: { network: true, usb: false, process: false },
      obstacles: [],
      protections: () => [],
      inventory: () => ({}),
      logDir: "",
      vkey: "",
      version: "",
      startedAtMs: 0,
    } as unknown as StatusParts;
    const network = statusOf(parts).controls.find(({ name }) => name === "network");
    expect(network).not.toMatchObject({ state: "enforced", detail: expect.stringContaining("arp, netdev") });
  });
});

describe("one refusal of nft that passes", () => {
  test("R15: does not leave the allow list, ARP and the links out for good, unsaid", () => {
    const firewall = oldKernel();
    let refusals = 2;
    const enforcer = createEnforcer({
      firewall: {
        ...firewall,
        run: (script) => {
          if (refusals-- > 0) throw new Error("Device or resource busy");
          firewall.run(script);
        },
      },
      network: {
        trustedInterfaces: [],
        deny: [],
        allow: [{ protocol: "tcp", port: 22, address: "10.0.0.9" }],
      },
      timeoutMs: 2_000,
      surroundings: fakeSurroundings(),
    });
    expect(enforcer.apply("TRUSTED")).toEqual({ ok: true, how: "kernel" });
    for (let beats = 0; beats < 100; beats++) expect(enforcer.heartbeat()).toEqual({ ok: true });
    expect(enforcer.leftOut()).toEqual([]);
  });
});

describe("shadow", () => {
  test("R16: a link that comes or goes does not make it forget what it would have refused", () => {
    const firewall = new FakeFirewall();
    const links = ["lo", "eth0"];
    const enforcer = createEnforcer({
      firewall,
      network: LISTS,
      timeoutMs: 2_000,
      surroundings: { ...fakeSurroundings(), links: () => [...links] },
    });
    enforcer.apply("AIRGAP", { hold: "shadow", keep: null });
    const noted = "would_in4 {\nelements = { 10.0.0.1 . tcp . 22 expires 59m }";
    firewall.table = firewall.table?.replace("would_in4 {", noted) ?? "";
    expect(enforcer.wouldBlock()).toHaveLength(1);
    links.push("veth0");
    expect(enforcer.refresh()).toEqual({ ok: true, how: "observed" });
    expect(enforcer.wouldBlock()).toHaveLength(1);
  });
});

describe("the start", () => {
  test("R8: a trip while the hold of a start is on its way to the log makes it lapse", async () => {
    const written: (() => void)[] = [];
    const orders: string[] = [];
    const log = {
      append: (entry: { kind: string }) => ({
        seq: 0,
        at: "",
        durable:
          entry.kind === "hold.changed"
            ? new Promise<void>((resolve) => written.push(resolve))
            : Promise.resolve(),
      }),
      seal: async () => undefined,
      damage: () => null,
    };
    const host = await startHost();
    type Parts = Parameters<typeof createDaemon>[0];
    const parts = {
      config: host.config,
      tripwires: [trip("link", "network.link")],
      clock: host.clock,
      log,
      logRoom: () => 1e12,
      keyDamage: () => null,
      enforcer: {
        how: "kernel",
        apply: (mode: Mode, how: { hold: string }) => {
          orders.push(`${mode} ${how.hold}`);
          return { ok: true, how: how.hold === "enforcing" ? "kernel" : "observed" };
        },
        leftOut: () => [],
        refresh: () => null,
      },
      usb: {
        modeIs: () => undefined,
        look: () => undefined,
        tick: () => undefined,
        stop: () => undefined,
        failure: () => "",
      },
      isolation: { failure: () => "" },
      baseline: {
        begin: async () => [],
        tick: () => undefined,
        noted: () => undefined,
        tripped: () => undefined,
      },
      selftest: { failures: () => [], tick: () => undefined },
      isExpected: () => false,
      sensors: [],
      clerks: [],
      notifier: host,
      exists: () => false,
      heldAs: () => undefined,
      opLog: { info: () => undefined, warn: () => undefined, error: () => undefined },
    } as unknown as Parts;
    const start = {
      mode: "AIRGAP",
      cause: { kind: "initial", why: "" },
      epoch: 0,
      frozen: "",
      hold: BOOTED,
    } as const;
    const daemon = createDaemon(parts, start, {});
    const begun = daemon.begin({}, { kind: "first", mode: "AIRGAP", digest: "", lastAt: "", sameBoot: true });
    // what a tick may find meanwhile: the key or the log damaged
    daemon.submit({ kind: "network.link", facts: link, seenNs: 0n });
    // at once what the log says so far, and not nothing while the record is awaited
    expect(orders).toEqual(["AIRGAP enforcing", "LOCKDOWN enforcing"]);
    for (const resolve of written) resolve();
    await begun;
    expect(orders.at(-1)).toBe("LOCKDOWN enforcing");
  });
});

describe("a kept flow", () => {
  test("R9: ends with its connection, also when another takes its ports before anybody looks", async () => {
    const host = await startHost({ mode: "OPEN" });
    host.flows.push(SSH);
    await set(host, "AIRGAP", { keep: { flow: SSH, passes: true } });
    host.flows.length = 0; // it ended
    await later(host, 3_000);
    host.flows.push(SSH); // anybody's, with the same ports
    await later(host, 10_000);
    expect(host.daemon.state().keep).toBeNull();
  });

  test("R10: the pre-flight says of a denied one what the rules do: cut", async () => {
    const network = { trustedInterfaces: [], allow: [], deny: ["10.0.0.0/8"] };
    const host = {
      flows: [SSH],
      listeners: [],
      unread: 0,
      links: new Map([["10.0.0.1", { name: "eth0", loopback: false }]]),
    };
    const real = await startHost({ mode: "OPEN", config: { network } });
    real.flows.push(SSH);
    await set(real, "AIRGAP", { keep: { flow: SSH, passes: true } });
    // the deny list comes first in the kernel
    const inet = parseListings(real.firewall.table ?? "").find(({ family }) => family === "inet");
    const rules = inet?.blocks.get("chain mode_in")?.statements ?? [];
    const denied = rules.findIndex((rule) => rule.includes("saddr @deny4"));
    expect(denied).toBeGreaterThanOrEqual(0);
    expect(denied).toBeLessThan(rules.findIndex((rule) => rule.includes("tcp sport 50000")));
    expect(preflight("AIRGAP", network, host, { session: SSH, keep: SSH }).session).toMatchObject({
      verdict: "cut",
    });
  });
});

describe("self-tests", () => {
  const clock = { wallMs: () => 0, monoMs: () => 0 };
  test("R11: a failure stands until a test has passed", async () => {
    const outcomes: Finding[] = [
      { outcome: "failed", detail: "a packet was NOT refused" },
      { outcome: "not-run", detail: "the mode changed all the while" },
    ];
    const selftest = createSelftest({
      probes: [
        {
          name: "p",
          control: "network",
          run: async () => outcomes.shift() ?? { outcome: "not-run", detail: "" },
        },
      ],
      record: () => ({ durable: Promise.resolve() }),
      ...clock,
      everyMs: 1,
      deadlineMs: 100,
    });
    await selftest.run("ana");
    expect(selftest.failures()).toMatchObject([{ control: "network" }]);
    await selftest.run("ana"); // tests nothing
    expect(selftest.failures()).toMatchObject([{ control: "network" }]);
  });

  test("R12: mode-refuses does not pass on a packet that the service's own IPAddressDeny refused", async () => {
    let refused = 0;
    const enforcer = {
      how: "kernel",
      // other packets of this host are refused all the while
      check: () => ({ same: true, drops: { refused_out: refused++, canary: 0 } }),
    } as unknown as Enforcer;
    const state = () =>
      ({
        ...initialState("AIRGAP", 0, { kind: "initial", why: "" }),
        applied: "AIRGAP",
        how: "kernel",
      }) as const;
    // EPERM from the cgroup, after a rule has let it pass: systemd/boundary-daemon.service
    const probes = networkProbes({ enforcer, state, send: async () => ({ kind: "refused" }) });
    const probe = probes.find(({ name }) => name === "mode-refuses");
    expect((await probe?.run())?.outcome).not.toBe("passed");
  });

  test("R13: a removed canary is no touched canary: not taken from the tripwires", async () => {
    const expected = createExpectations();
    const taken: boolean[] = [];
    const canary = {
      path: "/c",
      touch: () =>
        void taken.push(
          expected.takes({
            kind: "self.changed",
            facts: { path: "/c", part: "canary", change: "removed" },
            seenNs: 0n,
          }),
        ),
    };
    await Promise.race([
      filesProbe(expected, canary, () => "").run(),
      new Promise((resolve) => setTimeout(resolve, 50)),
    ]);
    expect(taken).toEqual([false]);
  });
});

describe("the escape hatch", () => {
  test("R14: the last resort's unit leaves a boot alone that its parameter released", () => {
    const unit = readFileSync(new URL("../../systemd/boundary-lockdown.service", import.meta.url), "utf8");
    expect(unit).toMatch(/ConditionKernelCommandLine=!boundary\.release=1/);
  });
});
