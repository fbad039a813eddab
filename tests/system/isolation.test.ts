import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import type { IsolationInput } from "../../daemon/core/isolation.ts";
import {
  arrived,
  CASES,
  type Case,
  createDomains,
  type Domains,
  IKE_AND_ESP,
  nameOf,
} from "../support/domains.ts";
import { NO_NETNS, removeNetns } from "../support/netns.ts";
import { delay, eventually, stopAgents } from "../support/packets.ts";

const IKE_OR_ESP = ["udp 500", "udp 4500", "esp"];

describe.skipIf(NO_NETNS !== "")(`domains, by real packets (${NO_NETNS || "namespaces"})`, () => {
  let world: Domains;
  /** Without what its counters have counted: a neighbour may send something by itself. */
  const ruleset = () =>
    world.netns.router.exec("nft", "list ruleset").replace(/packets \d+ bytes \d+/g, "counted");
  const router = () => world.agents.router;

  beforeAll(async () => {
    world = await createDomains();
    await arrived(world); // every neighbour is known from here on
  });
  afterEach(async () => {
    await router().call("unwatch");
    world.netns.router.exec("nft", "flush ruleset");
    await router().call("recorded");
    await router().call("signals");
  });
  afterAll(async () => {
    await stopAgents();
    removeNetns();
  });

  /** What arrives is what `passes` says, and the control run before it shows that nothing else held it up. */
  async function expectOnly(input: IsolationInput, passes: (each: Case) => boolean): Promise<void> {
    expect(await arrived(world), "control run").toEqual(CASES.map(nameOf));
    expect(await router().call("isolate", { input })).toBe("enforced");
    expect(await arrived(world)).toEqual(CASES.filter(passes).map(nameOf));
  }

  test("IKE and ESP alone pass between CT and PT, both ways, IPv4 and IPv6; MGMT is untouched", async () => {
    await expectOnly(IKE_AND_ESP, ({ from, to, kind }) => {
      if (from === "mgmt" || to === "mgmt" || from === "router" || to === "router") return true;
      const between = [from, to].toSorted().join();
      return between === "ct,pt" && IKE_OR_ESP.includes(kind);
    });
  });

  test("where this host is PT itself, the same holds of what it sends and gets", async () => {
    const [ct, , mgmt] = IKE_AND_ESP.domains;
    const input = {
      ...IKE_AND_ESP,
      domains: [
        ...(ct ? [ct] : []),
        { name: "PT", interfaces: ["pt0"], host: true, unaffected: false },
        ...(mgmt ? [mgmt] : []),
      ],
    };
    await expectOnly(input, ({ from, to, kind }) => {
      if (from === "mgmt" || to === "mgmt") return true;
      const ends = [from, to].map((place) => (place === "router" ? "pt" : place)).toSorted();
      if (ends.join() === "pt,pt") return true;
      // an interface of no domain and this host: not ours to say
      if ([from, to].toSorted().join() === "other,router") return true;
      return ends.join() === "ct,pt" && IKE_OR_ESP.includes(kind);
    });
  });

  test("what this host sends is asked where it really leaves, behind another table's address translation", async () => {
    const [ct] = IKE_AND_ESP.domains;
    const input = {
      domains: [...(ct ? [ct] : []), { name: "PT", interfaces: ["pt0"], host: true, unaffected: false }],
      passes: [],
    };
    const translation =
      "table ip other { chain out { type nat hook output priority -100; ip daddr 10.83.4.1 dnat to 10.83.1.1; }; }";
    world.netns.router.exec("nft", translation);
    const atCt = async (token: string) => {
      await router().call("sendUdp", { family: 4, to: "10.83.4.1", port: 9_999, token });
      await delay(50);
      const seen = await world.agents.ct.call("drain", { fd: world.sockets.get("ct 17 4") ?? -1 });
      return seen.some((packet) => packet.includes(token));
    };
    expect(await atCt("control")).toBe(true);
    expect(await router().call("isolate", { input })).toBe("enforced");
    expect(await atCt("redirected")).toBe(false);
    const pt = (await router().call("isolationStatus"))?.domains.find(({ name }) => name === "PT");
    expect(pt?.refused).toBeGreaterThan(0);
  });

  test("beside the modes' table the stricter of the two wins", async () => {
    const between = CASES.filter(({ from, to }) => [from, to].toSorted().join() === "ct,pt");
    const ikeAndEsp = between.filter(({ kind }) => IKE_OR_ESP.includes(kind)).map(nameOf);
    await router().call("isolate", { input: IKE_AND_ESP });
    for (const [mode, trustedInterfaces, expected] of [
      ["OPEN", [], ikeAndEsp],
      ["RESTRICTED", [], ikeAndEsp],
      ["TRUSTED", [], []],
      ["TRUSTED", ["ct0", "pt0"], ikeAndEsp],
      ["AIRGAP", ["ct0", "pt0"], []],
      ["LOCKDOWN", ["ct0", "pt0"], []],
    ] as const) {
      const network = { trustedInterfaces: [...trustedInterfaces], deny: [], allow: [] };
      await router().call("enforce", { network, timeoutMs: 60_000 });
      expect(await router().call("apply", { mode })).toEqual({ ok: true, how: "kernel" });
      expect(await arrived(world, between), mode).toEqual(expected);
      // its self-test is not in the way of the modes' own rules, nor they of it
      expect((await router().call("isolationProbe")).map((text) => text.split(": ")[1])).toEqual([
        "passed",
        "passed",
      ]);
    }
  });

  test("one way passes with its answers, and nothing begins the other way", async () => {
    const [ct, pt] = IKE_AND_ESP.domains;
    const input: IsolationInput = {
      domains: [...(ct ? [ct] : []), ...(pt ? [pt] : [])],
      passes: [{ from: "PT", to: "CT", protocol: "tcp", port: 7_700 }],
    };
    await world.agents.ct.call("listenTcp", { address: "::", port: 7_700 });
    await world.agents.pt.call("listenTcp", { address: "::", port: 7_700 });
    expect(await router().call("isolate", { input })).toBe("enforced");
    for (const to of ["10.83.1.1", "fd83:1::1"]) {
      const flow = await world.agents.pt.call("connectTcp", { to, port: 7_700 });
      await world.agents.pt.call("sendTcp", { flow, token: `hello ${to}` });
      expect(
        await eventually(async () => (await world.agents.pt.call("echoed")).includes(`hello ${to}`)),
      ).toBe(true);
    }
    const other = await Promise.race([
      world.agents.ct.call("connectTcp", { to: "10.83.2.1", port: 7_700 }).then(() => "connected"),
      delay(1_500).then(() => "silence"),
    ]);
    expect(other).toBe("silence");
  });

  test("applied again, nothing changes; and it is the same table", async () => {
    await router().call("isolate", { input: IKE_AND_ESP });
    const before = ruleset();
    expect(await router().call("isolationApply")).toEqual({ changed: false, error: "" });
    expect(ruleset()).toBe(before);
    expect(await router().call("isolationReload", { times: 1 })).toBe(1);
    expect(ruleset()).toBe(before);
    expect((await router().call("recorded")).map(({ kind }) => kind)).toEqual(["isolation.applied"]);
  });

  test("through the nft program it is the same table", async () => {
    await router().call("isolate", { input: IKE_AND_ESP });
    const before = ruleset();
    expect(await router().call("isolate", { input: IKE_AND_ESP, via: "nft" })).toBe("enforced");
    expect(await router().call("isolationApply")).toEqual({ changed: false, error: "" });
    expect(ruleset()).toBe(before);
  });

  test("a transaction that fails changes nothing, and is told", async () => {
    await router().call("isolate", { input: IKE_AND_ESP });
    const before = ruleset();
    const other = { ...IKE_AND_ESP, passes: [] };
    expect(await router().call("isolate", { input: other, breaks: true })).toBe("failed");
    expect(ruleset()).toBe(before);
    expect((await router().call("isolationApply")).error).toMatch(/no_such_chain|No such file/);
    expect(ruleset()).toBe(before);
    const kinds = (await router().call("recorded")).map(({ kind }) => kind);
    expect(kinds).toEqual(["isolation.applied", "isolation.failed"]);
  });

  test("nothing of anybody else's is touched", async () => {
    const others = "table inet other { chain c { type filter hook forward priority 0; policy accept; }; }";
    world.netns.router.exec("nft", others);
    const before = ruleset();
    await router().call("isolate", { input: IKE_AND_ESP });
    expect(ruleset()).toContain("table inet boundary_isolation {");
    expect(await router().call("isolate", { input: null })).toBe("absent");
    expect(ruleset()).toBe(before);
  });

  test("no packet gets through while the table is replaced", async () => {
    await router().call("isolate", { input: IKE_AND_ESP });
    await world.agents.ct.call("listenUdp", { family: 4, address: "0.0.0.0", port: 9_998 });
    await world.agents.pt.call("flood", { targets: [{ family: 4, to: "10.83.1.1", port: 9_998 }] });
    await delay(50);
    expect(await router().call("isolationReload", { times: 500 })).toBe(500);
    const { sent } = await world.agents.pt.call("floodStop");
    await delay(50);
    expect(sent).toBeGreaterThan(100);
    const leaked = async () => (await world.agents.ct.call("received")).includes("leak");
    expect(await leaked()).toBe(false);
    // and where the table is taken away for a moment, they do
    world.netns.router.exec("nft", "flush ruleset");
    await world.agents.pt.call("sendUdp", { family: 4, to: "10.83.1.1", port: 9_998, token: "leak" });
    expect(await eventually(leaked)).toBe(true);
  });

  test("released or in shadow it is out of the kernel, and enforcing it is back", async () => {
    await router().call("isolate", { input: IKE_AND_ESP });
    for (const hold of ["released", "shadow"] as const) {
      await router().call("isolationHold", { hold });
      expect(ruleset()).toBe("");
      expect(await router().call("isolationClaim")).toMatchObject({
        state: "observed",
        detail: `${hold}: nothing is refused`,
      });
      expect((await router().call("isolationApply")).error).toContain(hold);
      await router().call("isolationHold", { hold: "enforcing" });
      expect(await router().call("isolationClaim")).toMatchObject({ state: "enforced" });
    }
  });

  test("an interface that is not there is told, and the rules wait for it", async () => {
    const input: IsolationInput = {
      domains: [
        { name: "CT", interfaces: ["ct0"], host: false, unaffected: false },
        { name: "PT", interfaces: ["pt0", "pt9"], host: false, unaffected: false },
      ],
      passes: [],
    };
    expect(await router().call("isolate", { input })).toBe("observed");
    expect(await router().call("isolationCheck")).toEqual({
      ok: false,
      via: "libnftables",
      problems: ["there is no interface pt9"],
    });
    world.netns.router.exec("ip", "link", "add", "pt9", "type", "veth", "peer", "name", "pt8");
    expect(await router().call("isolationClaim")).toMatchObject({ state: "enforced" });
    world.netns.router.exec("ip", "link", "del", "pt9");
  });

  test("the self-test's packets are refused and counted; and it fails where they are not", async () => {
    await router().call("isolate", { input: IKE_AND_ESP });
    expect(await router().call("isolationProbe")).toEqual([
      "isolation-read-back: passed: the kernel holds the domains' table as it was loaded",
      "isolation-refuses: passed: PT: 1 refused and counted; CT: 2 refused and counted",
    ]);
    world.netns.router.exec("nft", "flush chain inet boundary_isolation from_PT");
    const found = await router().call("isolationProbe");
    expect(found[0]).toContain("isolation-read-back: failed: differs: chain from_PT");
    expect(found[1]).toContain("isolation-refuses: failed");
  });

  describe("what somebody else changes", () => {
    test.each([
      ["flush ruleset", "missing"],
      ["delete table inet boundary_isolation", "missing"],
      ["flush chain inet boundary_isolation from_CT", "differs"],
      ["insert rule inet boundary_isolation forward accept", "differs"],
      ["add element inet boundary_isolation unaffected { ct0 }", "differs"],
      ["add table inet boundary_isolation { flags dormant; }", "differs"],
      ["add chain inet boundary_isolation extra; delete chain inet boundary_isolation extra", "touched"],
    ])("%s is put back, and told", async (command, what) => {
      await router().call("isolate", { input: IKE_AND_ESP });
      await router().call("watch");
      const before = ruleset();
      world.netns.router.exec("nft", command);
      const told: Record<string, string>[] = [];
      const isTold = await eventually(async () => {
        told.push(...(await router().call("signals")));
        return told.some(({ kind }) => kind === "isolation.changed");
      });
      expect(isTold, JSON.stringify(told)).toBe(true);
      expect(told.find(({ kind }) => kind === "isolation.changed")).toMatchObject({ what, put: "back" });
      expect(ruleset()).toBe(before);
      // and what we do ourselves is none of it
      told.length = 0;
      await router().call("isolationHold", { hold: "released" });
      await router().call("isolationHold", { hold: "enforcing" });
      await delay(200);
      expect((await router().call("signals")).map(({ kind }) => kind)).toEqual([]);
    });
  });
});
