import { describe, expect, test } from "vitest";
import { MODES } from "../daemon/core/mode.ts";
import { createEnforcer } from "../daemon/enforce.ts";
import { type Behaviour, FakeFirewall } from "./support/fake-firewall.ts";
import { fakeSurroundings } from "./support/surroundings.ts";

const network = { trustedInterfaces: ["wg0"], deny: ["192.0.2.0/24"], allow: [] };

function setUp() {
  const firewall = new FakeFirewall();
  return {
    firewall,
    enforcer: createEnforcer({ firewall, network, timeoutMs: 2_000, surroundings: fakeSurroundings() }),
  };
}

describe("apply", () => {
  test.each(MODES)("%s is confirmed by what the kernel holds", (mode) => {
    const { firewall, enforcer } = setUp();
    expect(enforcer.apply(mode)).toEqual({ ok: true, how: "kernel" });
    expect(firewall.mode).toBe(mode);
    expect(enforcer.check()).toMatchObject({ same: true });
    expect(enforcer.heartbeat()).toEqual({ ok: true });
  });

  test.each<Behaviour>(["refuses", "fails-after", "half", "lies"])(
    "a firewall that %s is never taken for enforced, and gets no heartbeat",
    (behaviour) => {
      const { firewall, enforcer } = setUp();
      enforcer.apply("OPEN");
      firewall.behaviour = behaviour;
      expect(enforcer.apply("LOCKDOWN")).toMatchObject({ ok: false });
      expect(enforcer.check()).toBeNull();
      const scripts = firewall.scripts.length;
      expect(enforcer.heartbeat()).toMatchObject({ ok: false, what: "failed" });
      expect(firewall.scripts).toHaveLength(scripts);
      firewall.behaviour = "works";
      expect(enforcer.apply("LOCKDOWN")).toEqual({ ok: true, how: "kernel" });
    },
  );

  test.each<Behaviour>(["refuses", "lies"])(
    "a firewall that %s at first leaves nothing confirmed",
    (behaviour) => {
      const { firewall, enforcer } = setUp();
      firewall.behaviour = behaviour;
      expect(enforcer.apply("AIRGAP")).toMatchObject({ ok: false });
      expect(enforcer.check()).toBeNull();
    },
  );

  test("rules that cannot be read back are not enforced", () => {
    const { firewall, enforcer } = setUp();
    firewall.listFails = true;
    expect(enforcer.apply("AIRGAP")).toMatchObject({ ok: false });
  });

  test("the cause is told once and in full", () => {
    const { firewall, enforcer } = setUp();
    firewall.behaviour = "refuses";
    expect(enforcer.apply("AIRGAP")).toEqual({ ok: false, why: "loading rules: Operation not permitted" });
  });
});

describe("heartbeat and check", () => {
  test.each([
    ["missing", null],
    ["differs", (table: string) => table.replace("chain mode_in {", "chain mode_in {\naccept")],
    ["dead-man", (table: string) => table.replace("{ ipv4 timeout 2000ms,", "{ ipv4,")],
    ["differs", () => "nonsense {"],
  ] as const)("rules changed by somebody else (%s) are told, and not kept alive", (what, change) => {
    const { firewall, enforcer } = setUp();
    enforcer.apply("AIRGAP");
    firewall.table = change === null ? null : change(firewall.table ?? "");
    const scripts = firewall.scripts.length;
    expect(enforcer.check()).toMatchObject({ same: false, what });
    expect(enforcer.heartbeat()).toMatchObject({ ok: false, what });
    expect(firewall.scripts).toHaveLength(scripts);
  });

  test("a heartbeat that nft refuses is told", () => {
    const { firewall, enforcer } = setUp();
    enforcer.apply("AIRGAP");
    firewall.behaviour = "refuses";
    expect(enforcer.heartbeat()).toMatchObject({ ok: false, what: "failed" });
  });

  test("before the first mode there is nothing to compare and nothing to keep alive", () => {
    const { enforcer } = setUp();
    expect(enforcer.check()).toBeNull();
    expect(enforcer.heartbeat()).toMatchObject({ ok: false });
  });
});

describe("settle", () => {
  test("leaves the same mode without the dead-man, and a heartbeat then only checks", () => {
    const { firewall, enforcer } = setUp();
    enforcer.apply("TRUSTED");
    expect(enforcer.settle("TRUSTED")).toEqual({ ok: true, how: "kernel" });
    expect(firewall.mode).toBe("TRUSTED");
    expect(firewall.table).not.toContain("alive");
    expect(enforcer.heartbeat()).toEqual({ ok: true });
    expect(enforcer.check()).toMatchObject({ same: true });
  });
});

describe("hold", () => {
  test("in shadow a mode is observed, and its rules are watched like any", () => {
    const { firewall, enforcer } = setUp();
    expect(enforcer.apply("AIRGAP", { hold: "shadow", keep: null })).toEqual({ ok: true, how: "observed" });
    expect(firewall.table).not.toContain(" drop");
    expect(enforcer.heartbeat()).toEqual({ ok: true });
    firewall.table =
      firewall.table?.replace("would_in4 {", "would_in4 {\nelements = { 10.0.0.1 . tcp . 25 expires 5m }") ??
      "";
    expect(enforcer.check()).toMatchObject({ same: true });
    expect(enforcer.wouldBlock()).toEqual([
      { direction: "in", address: "10.0.0.1", protocol: "tcp", port: 25 },
    ]);
    expect(enforcer.apply("AIRGAP")).toEqual({ ok: true, how: "kernel" });
    expect(enforcer.wouldBlock()).toEqual([]);
  });

  test("released, our tables are gone, and stay watched", () => {
    const { firewall, enforcer } = setUp();
    enforcer.apply("AIRGAP");
    expect(enforcer.apply("AIRGAP", { hold: "released", keep: null })).toEqual({ ok: true, how: "observed" });
    expect(firewall.table).toBeNull();
    expect(enforcer.heartbeat()).toEqual({ ok: true });
    firewall.table = "table inet boundary {\n}\n";
    expect(enforcer.heartbeat()).toMatchObject({ ok: false, what: "differs" });
  });

  test("a release that the kernel does not take is not confirmed", () => {
    const { firewall, enforcer } = setUp();
    enforcer.apply("AIRGAP");
    firewall.behaviour = "lies";
    expect(enforcer.apply("AIRGAP", { hold: "released", keep: null })).toMatchObject({ ok: false });
  });
});

describe("what comes and goes", () => {
  const allow = [{ protocol: "tcp" as const, port: 443 }];

  test("links: the rules follow them at a refresh and at a heartbeat", () => {
    const firewall = new FakeFirewall();
    const links = ["lo", "eth0"];
    const surroundings = { ...fakeSurroundings(), links: () => [...links] };
    const enforcer = createEnforcer({ firewall, network, timeoutMs: 2_000, surroundings });
    enforcer.apply("AIRGAP");
    expect(enforcer.refresh()).toBeNull();
    links.push("usb0");
    expect(enforcer.refresh()).toEqual({ ok: true, how: "kernel" });
    expect(firewall.table).toContain('"usb0"');
    links.pop();
    expect(enforcer.heartbeat()).toEqual({ ok: true });
    expect(firewall.table).not.toContain('"usb0"');
    enforcer.apply("OPEN");
    links.push("usb1");
    expect(enforcer.refresh()).toBeNull();
  });

  test("a change of somebody else's is told though links moved meanwhile, and not put right unseen", () => {
    const firewall = new FakeFirewall();
    const links = ["lo", "eth0"];
    const surroundings = { ...fakeSurroundings(), links: () => [...links] };
    const enforcer = createEnforcer({ firewall, network, timeoutMs: 2_000, surroundings });
    enforcer.apply("AIRGAP");
    links.push("usb0");
    firewall.table = firewall.table?.replace("chain mode_in {", "chain mode_in {\naccept") ?? "";
    expect(enforcer.heartbeat()).toMatchObject({ ok: false, what: "differs" });
  });

  test.each([
    [
      "an allow list",
      (script: string) => script.includes("dport 443"),
      ["network.allow: nft refused the rules with it"],
    ],
    [
      "anything below IP",
      (script: string) => script.includes("table arp"),
      ["network.allow: nft refused the rules with it", "ARP and the links: nft refused the rules with them"],
    ],
  ])("%s that nft refuses holds up no mode, and is told", (_, refuses, left) => {
    const firewall = new FakeFirewall();
    const run = firewall.run.bind(firewall);
    firewall.run = (script) => {
      if (refuses(script)) throw new Error("Operation not supported");
      run(script);
    };
    const enforcer = createEnforcer({
      firewall,
      network: { ...network, allow },
      timeoutMs: 2_000,
      surroundings: fakeSurroundings(),
    });
    expect(enforcer.apply("TRUSTED")).toEqual({ ok: true, how: "kernel" });
    expect(enforcer.leftOut()).toEqual(left);
  });

  test("a look that fails holds up no mode either", () => {
    const firewall = new FakeFirewall();
    const surroundings = {
      ...fakeSurroundings(),
      links: () => {
        throw new Error("no /proc");
      },
    };
    const enforcer = createEnforcer({ firewall, network, timeoutMs: 2_000, surroundings });
    expect(enforcer.apply("LOCKDOWN")).toEqual({ ok: true, how: "kernel" });
    expect(enforcer.check()).toMatchObject({ same: false });
  });
});

test("without a firewall everything is observed, never enforced", () => {
  const enforcer = createEnforcer({
    firewall: null,
    network,
    timeoutMs: 2_000,
    surroundings: fakeSurroundings(),
  });
  expect(enforcer.how).toBe("observed");
  expect(enforcer.apply("LOCKDOWN")).toEqual({ ok: true, how: "observed" });
  expect(enforcer.heartbeat()).toEqual({ ok: true });
  expect(enforcer.check()).toEqual({ same: true, drops: {} });
});
