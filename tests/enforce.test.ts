import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { MODES } from "../daemon/core/mode.ts";
import { createEnforcer, type Enforcer } from "../daemon/enforce.ts";
import type { Surroundings } from "../daemon/ports.ts";
import { type Behaviour, FakeFirewall } from "./support/fake-firewall.ts";
import { fakeSurroundings } from "./support/surroundings.ts";

const network = { trustedInterfaces: ["wg0"], deny: ["192.0.2.0/24"], allow: [] };

function setUp(settings: { compareEvery?: number; surroundings?: Surroundings } = {}) {
  const firewall = new FakeFirewall();
  const surroundings = fakeSurroundings();
  return {
    firewall,
    enforcer: createEnforcer({ firewall, network, timeoutMs: 2_000, surroundings, ...settings }),
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

describe("what a heartbeat takes the kernel's word for", () => {
  const beat = ({ enforcer }: ReturnType<typeof setUp>) => expect(enforcer.heartbeat()).toEqual({ ok: true });
  const listings = (host: ReturnType<typeof setUp>, act: () => void): number => {
    const before = host.firewall.listed;
    act();
    return host.firewall.listed - before;
  };

  test("while no transaction has come but ours, nothing is listed until the full comparison is due", () => {
    const host = setUp({ compareEvery: 5 });
    host.enforcer.apply("AIRGAP");
    const counts = Array.from({ length: 15 }, () => listings(host, () => beat(host)));
    expect(counts).toEqual([0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]);
  });

  test("a transaction elsewhere costs one comparison", () => {
    const host = setUp();
    host.enforcer.apply("AIRGAP");
    host.firewall.elsewhere();
    expect(listings(host, () => beat(host))).toBe(1);
    expect(listings(host, () => beat(host))).toBe(0);
  });

  test.each(["before", "after"] as const)("one that comes %s our renewal, within it, does too", (when) => {
    const host = setUp();
    host.enforcer.apply("AIRGAP");
    const run = host.firewall.run.bind(host.firewall);
    host.firewall.run = (script) => {
      if (when === "before") host.firewall.elsewhere();
      run(script);
      if (when === "after") host.firewall.elsewhere();
    };
    expect(listings(host, () => beat(host))).toBe(0);
    host.firewall.run = run;
    expect(listings(host, () => beat(host))).toBe(1);
    expect(listings(host, () => beat(host))).toBe(0);
  });

  test("one that comes between the generation and the listing is not taken for compared", () => {
    const host = setUp();
    host.enforcer.apply("AIRGAP");
    const list = host.firewall.list.bind(host.firewall);
    host.firewall.list = () => {
      host.firewall.elsewhere();
      return list();
    };
    host.enforcer.check();
    host.firewall.list = list;
    expect(listings(host, () => beat(host))).toBe(1);
  });

  test("a renewal that failed proves nothing", () => {
    const host = setUp();
    host.enforcer.apply("AIRGAP");
    host.firewall.behaviour = "refuses";
    expect(host.enforcer.heartbeat()).toMatchObject({ ok: false, what: "failed" });
    host.firewall.behaviour = "works";
    expect(listings(host, () => beat(host))).toBe(1);
  });

  test.each(["unknown", "failing"] as const)("a generation that is %s compares every time", (is) => {
    const host = setUp();
    host.firewall.generationIs = is;
    host.enforcer.apply("AIRGAP");
    for (let i = 0; i < 3; i++) expect(listings(host, () => beat(host))).toBe(1);
    host.firewall.generationIs = "counted";
    expect(listings(host, () => beat(host))).toBe(1);
    host.firewall.generationIs = is;
    expect(listings(host, () => beat(host))).toBe(1);
  });

  test("links that move are compared, and loaded anew, though no transaction came", () => {
    const links = ["lo", "eth0"];
    const host = setUp({ surroundings: { ...fakeSurroundings(links) } });
    host.enforcer.apply("AIRGAP");
    links.push("usb0");
    expect(listings(host, () => beat(host))).toBeGreaterThan(0);
    expect(host.firewall.table).toContain('"usb0"');
  });

  test("another link of the same name too", () => {
    let number = 2;
    const host = setUp({ surroundings: { ...fakeSurroundings(), linkNumber: () => number } });
    host.enforcer.apply("AIRGAP");
    number = 7;
    const loads = host.firewall.scripts.length;
    expect(listings(host, () => beat(host))).toBeGreaterThan(0);
    expect(
      host.firewall.scripts.slice(loads).some((script) => script.includes("table inet boundary {")),
    ).toBe(true);
  });

  test("whatever happens between two heartbeats, a foreign change is told by the next one", () => {
    const act = fc.constantFrom("beat", "elsewhere", "check", "apply", "wouldBlock", "unknown", "counted");
    fc.assert(
      fc.property(fc.array(act, { maxLength: 40 }), fc.constantFrom(...MODES), (acts, mode) => {
        const host = setUp({ compareEvery: 1_000 });
        const { firewall, enforcer } = host;
        enforcer.apply(mode);
        for (const one of acts) {
          if (one === "beat") beat(host);
          else if (one === "elsewhere") firewall.elsewhere();
          else if (one === "check") enforcer.check();
          else if (one === "apply") enforcer.apply(mode);
          else if (one === "wouldBlock") enforcer.wouldBlock();
          else firewall.generationIs = one;
        }
        firewall.table = firewall.table?.replace("chain mode_in {", "chain mode_in {\naccept") ?? "";
        const scripts = firewall.scripts.length;
        expect(enforcer.heartbeat()).toMatchObject({ ok: false, what: "differs" });
        expect(firewall.scripts).toHaveLength(scripts);
      }),
    );
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

  describe("what shadow has noted", () => {
    const shadow = { hold: "shadow", keep: null } as const;
    const noted = () => {
      const host = setUp();
      host.enforcer.apply("AIRGAP", shadow);
      const note = "would_in4 {\nelements = { 10.0.0.1 . tcp . 25 expires 5m }";
      host.firewall.table = host.firewall.table?.replace("would_in4 {", note) ?? "";
      expect(host.enforcer.wouldBlock()).toHaveLength(1);
      return host;
    };

    test("is there still when the same mode is loaded again, also after a load that failed", () => {
      const { firewall, enforcer } = noted();
      firewall.behaviour = "refuses";
      expect(enforcer.apply("AIRGAP", shadow)).toMatchObject({ ok: false });
      firewall.behaviour = "works";
      enforcer.apply("AIRGAP", shadow);
      expect(enforcer.wouldBlock()).toHaveLength(1);
      enforcer.settle("AIRGAP", shadow);
      expect(enforcer.wouldBlock()).toHaveLength(1);
    });

    test.each([
      ["another mode", "COLDROOM", shadow],
      ["the mode enforced", "AIRGAP", { hold: "enforcing", keep: null }],
    ] as const)("is not what %s would have refused", (_, mode, how) => {
      const { enforcer } = noted();
      enforcer.apply(mode, how);
      enforcer.apply("AIRGAP", shadow);
      expect(enforcer.wouldBlock()).toEqual([]);
    });

    test("holds up no rules when the kernel does not take it", () => {
      const { firewall, enforcer } = noted();
      const run = firewall.run.bind(firewall);
      firewall.run = (script) => {
        if (script.includes("add element inet boundary would_")) throw new Error("Invalid argument");
        run(script);
      };
      expect(enforcer.apply("AIRGAP", shadow)).toEqual({ ok: true, how: "observed" });
      expect(enforcer.leftOut()).toEqual([]);
      expect(enforcer.heartbeat()).toEqual({ ok: true });
    });
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
      ["network.allow, none of which passes (refused: Operation not supported)"],
    ],
    [
      "anything below IP",
      (script: string) => script.includes("table arp"),
      ["ARP's dead-man (refused: Operation not supported)"],
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

  describe("what nft refused", () => {
    const refusing = (needle: string, times: number) => {
      const firewall = new FakeFirewall();
      const run = firewall.run.bind(firewall);
      const tries: string[] = [];
      firewall.run = (script) => {
        if (script.includes("table inet boundary {")) tries.push(script);
        if (script.includes(needle) && times-- > 0) throw new Error("Device or\nresource busy");
        run(script);
      };
      const surroundings = fakeSurroundings();
      const settings = { firewall, network: { ...network, allow }, timeoutMs: 2_000, surroundings };
      return { firewall, tries, enforcer: createEnforcer({ ...settings, retryEvery: 3 }) };
    };
    const beats = ({ enforcer }: { enforcer: Enforcer }, count: number) => {
      for (let i = 0; i < count; i++) expect(enforcer.heartbeat()).toEqual({ ok: true });
    };

    test.each([
      ["AIRGAP", "hook egress", ["the links, over which raw frames pass"]],
      [
        "COLDROOM",
        "table arp boundary {",
        ["ARP, which stays open", "the links, over which raw frames pass"],
      ],
    ] as const)("opens something in %s, which is told until it passes", (mode, needle, left) => {
      const host = refusing(needle, 4);
      expect(host.enforcer.apply(mode)).toEqual({ ok: true, how: "kernel" });
      expect(host.enforcer.leavesOpen()).toBe(true);
      expect(host.enforcer.tables()).toEqual(left.length === 1 ? ["inet", "arp"] : ["inet"]);
      expect(host.enforcer.leftOut()).toEqual(
        left.map((what) => `${what} (refused: Device or resource busy)`),
      );
      beats(host, 9);
      expect(host.enforcer.leavesOpen()).toBe(false);
      expect(host.enforcer.leftOut()).toEqual([]);
      expect(host.enforcer.tables()).toEqual(["inet", "arp", "netdev"]);
    });

    test("an allow list left out closes more, and opens nothing", () => {
      const { enforcer } = refusing("dport 443", 9);
      enforcer.apply("TRUSTED");
      expect(enforcer.leftOut()).toHaveLength(1);
      expect(enforcer.leavesOpen()).toBe(false);
    });

    test("for good, is tried less and less often, and what holds is kept alive", () => {
      const host = refusing("hook egress", Number.POSITIVE_INFINITY);
      host.enforcer.apply("AIRGAP");
      const triedAt = Array.from({ length: 100 }, (_, beat) => {
        const before = host.tries.length;
        beats(host, 1);
        return host.tries.length > before ? beat + 1 : 0;
      });
      expect(triedAt.filter((beat) => beat > 0)).toEqual([3, 9, 21, 45, 93]);
      expect(host.enforcer.leavesOpen()).toBe(true);
      expect(host.firewall.mode).toBe("AIRGAP");
    });

    test("and fails after it took effect when tried again, is told as a difference", () => {
      const host = refusing("hook egress", 3);
      host.enforcer.apply("AIRGAP");
      beats(host, 2);
      host.firewall.behaviour = "fails-after";
      expect(host.enforcer.heartbeat()).toMatchObject({ ok: false, what: "differs" });
    });
  });

  test("a kernel without ARP and netdev tables gets every mode, and its release", () => {
    const firewall = new FakeFirewall();
    const run = firewall.run.bind(firewall);
    firewall.run = (script) => {
      if (/ (arp|netdev) boundary/.test(script)) throw new Error("Operation not supported");
      run(script);
    };
    const surroundings = fakeSurroundings();
    const enforcer = createEnforcer({ firewall, network, timeoutMs: 2_000, surroundings });
    for (const mode of MODES) expect(enforcer.apply(mode)).toEqual({ ok: true, how: "kernel" });
    expect(enforcer.apply("OPEN", { hold: "released", keep: null })).toEqual({ ok: true, how: "observed" });
    expect(firewall.table).toBeNull();
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
