import { spawnSync } from "node:child_process";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Config } from "../../daemon/core/config.ts";
import type { Flow } from "../../daemon/core/flow.ts";
import type { Mode } from "../../daemon/core/mode.ts";
import {
  ADDRESS,
  ALL_PATHS,
  createHostBetween,
  foreignNft,
  type HostBetween,
  inBothFamilies,
  PORT,
  probe,
} from "../support/host-between.ts";
import { NO_NETNS, removeNetns } from "../support/netns.ts";
import { type Agent, delay, eventually, stopAgents } from "../support/packets.ts";

type Network = Config["network"];
const FAMILIES = [4, 6] as const;
const UID = 54_321;
const GROUP = `bd-test-${process.pid}`;
/** In a mount namespace that ends with it: what the agent does in its own. */
const NO_CGROUPS =
  NO_NETNS !== "" ||
  spawnSync("unshare", ["-m", "mount", "-t", "cgroup2", "none", "/sys/fs/cgroup"]).status !== 0
    ? "needs cgroup v2"
    : "";

describe.skipIf(NO_NETNS !== "")(`lists, a kept flow and shadow (${NO_NETNS || "namespaces"})`, () => {
  let world: HostBetween;

  beforeAll(async () => {
    world = await createHostBetween();
  });
  afterAll(async () => {
    await stopAgents();
    removeNetns();
  });

  const enforce = (lists: Partial<Network>) =>
    world.agents.host.call("enforce", {
      network: { trustedInterfaces: [], deny: [], allow: [], ...lists },
      timeoutMs: 60_000,
    });
  const apply = async (mode: Mode, keep: Flow | null = null) =>
    expect(await world.agents.host.call("apply", { mode, how: { hold: "enforcing", keep } })).toEqual({
      ok: true,
      how: "kernel",
    });

  async function sendsAs(uid: number, token: string): Promise<boolean> {
    const { host, left } = world.agents;
    for (const family of FAMILIES)
      await host.call("sendUdpAs", {
        family,
        uid,
        to: ADDRESS.left[family],
        port: PORT,
        token: `${token}/${family}`,
      });
    await delay(50);
    const got = await left.call("received");
    const both = FAMILIES.filter((family) => got.includes(`${token}/${family}`));
    expect(both.length).not.toBe(1);
    return both.length === 2;
  }

  /** Whether a new connection can be made and gives back what is sent. It waits for half a second at most. */
  async function connects(agent: Agent, to: string, token: string): Promise<boolean> {
    const flow = await Promise.race([
      agent.call("connectTcp", { to, port: PORT }),
      delay(500).then(() => null),
    ]);
    return flow !== null && echoes(agent, flow, token);
  }

  async function echoes(agent: Agent, flow: number, token: string): Promise<boolean> {
    await agent.call("sendTcp", { flow, token });
    for (let i = 0; i < 25; i++) {
      if ((await agent.call("echoed")).includes(token)) return true;
      await delay(20);
    }
    return false;
  }

  describe("uids", () => {
    test("control: without rules both users send", async () => {
      foreignNft(world, "flush ruleset");
      expect([await sendsAs(UID, "control user"), await sendsAs(0, "control root")]).toEqual([true, true]);
    });

    test("a denied one does not send, in RESTRICTED nor TRUSTED, and others do", async () => {
      await enforce({ trustedInterfaces: ["l0"], deny: [{ uid: UID }] });
      for (const mode of ["RESTRICTED", "TRUSTED"] as const) {
        await apply(mode);
        expect([await sendsAs(UID, `denied ${mode}`), await sendsAs(0, `other ${mode}`)]).toEqual([
          false,
          true,
        ]);
      }
    });

    test("an allowed one sends in TRUSTED, and others do not", async () => {
      await enforce({ allow: [{ uid: UID, protocol: "udp", port: PORT }] });
      await apply("TRUSTED");
      expect([await sendsAs(UID, "allowed"), await sendsAs(0, "not allowed")]).toEqual([true, false]);
      await apply("AIRGAP");
      expect(await sendsAs(UID, "airgap")).toBe(false);
    });

    test("deny wins over allow", async () => {
      await enforce({
        allow: [{ uid: UID }, { interface: "l0" }],
        deny: [{ uid: UID, port: PORT, protocol: "udp" }],
      });
      await apply("TRUSTED");
      expect([await sendsAs(UID, "both"), await sendsAs(0, "only allowed")]).toEqual([false, true]);
    });
  });

  describe.each(FAMILIES)("ports of connections, IPv%s", (family) => {
    test("allowed outwards: ours reach, theirs do not", async () => {
      await enforce({ allow: [{ protocol: "tcp", port: PORT, direction: "out" }] });
      await apply("TRUSTED");
      const { host, left } = world.agents;
      expect(await connects(host, ADDRESS.left[family], `[ours out ${family}]`)).toBe(true);
      expect(await connects(left, ADDRESS.hostLeft[family], `[theirs out ${family}]`)).toBe(false);
    });

    test("allowed inwards: theirs reach, ours do not", async () => {
      await enforce({ allow: [{ protocol: "tcp", port: PORT, direction: "in", interface: "l0" }] });
      await apply("TRUSTED");
      const { host, left, right } = world.agents;
      expect(await connects(left, ADDRESS.hostLeft[family], `[theirs in ${family}]`)).toBe(true);
      expect(await connects(right, ADDRESS.hostRight[family], `[elsewhere ${family}]`)).toBe(false);
      expect(await connects(host, ADDRESS.left[family], `[ours in ${family}]`)).toBe(false);
    });

    test("one that was made before TRUSTED goes on only if it is allowed", async () => {
      const { host } = world.agents;
      await enforce({
        allow: [{ protocol: "tcp", port: PORT, direction: "out", address: ADDRESS.left[family] }],
      });
      await apply("OPEN");
      const allowed = await host.call("connectTcp", { to: ADDRESS.left[family], port: PORT });
      const refused = await host.call("connectTcp", { to: ADDRESS.right[family], port: PORT });
      await apply("TRUSTED");
      expect(await echoes(host, allowed, `[goes on ${family}]`)).toBe(true);
      expect(await echoes(host, refused, `[ends ${family}]`)).toBe(false);
    });
  });

  describe.each(FAMILIES)("a kept flow, IPv%s", (family) => {
    async function establish(): Promise<{
      readonly kept: number;
      readonly other: number;
      readonly keep: Flow;
    }> {
      const { left } = world.agents;
      const [kept, other] = [
        await left.call("connectTcp", { to: ADDRESS.hostLeft[family], port: PORT }),
        await left.call("connectTcp", { to: ADDRESS.hostLeft[family], port: PORT }),
      ];
      const keep: Flow = {
        family,
        localAddress: ADDRESS.hostLeft[family],
        localPort: PORT,
        remoteAddress: ADDRESS.left[family],
        remotePort: await left.call("portOf", { flow: kept }),
      };
      return { kept, other, keep };
    }
    /** Neither side knows the other's link address any more. */
    const forgetNeighbours = () => {
      for (const [place, link] of [
        ["host", "l0"],
        ["left", "l1"],
      ] as const)
        world.netns[place].exec("ip", "neigh", "flush", "dev", link);
    };

    test.each(["TRUSTED", "AIRGAP", "COLDROOM"] as const)(
      "%s keeps that one and nothing else",
      async (mode) => {
        await enforce({});
        await apply("OPEN");
        const { left, host } = world.agents;
        const { kept, other, keep } = await establish();
        await apply(mode, keep);
        expect(await host.call("check")).toMatchObject({ same: true });
        forgetNeighbours();
        expect(await echoes(left, kept, `[kept ${mode} ${family}]`)).toBe(true);
        expect(await echoes(left, other, `[other ${mode} ${family}]`)).toBe(false);
        expect(await connects(left, ADDRESS.hostLeft[family], `[new ${mode} ${family}]`)).toBe(false);
        expect(await probe(world)).toEqual(inBothFamilies(["loopback"]));
        expect(await host.call("heartbeat")).toEqual({ ok: true });
        // and without it the same mode ends it
        await apply(mode);
        expect(await echoes(left, kept, `[given up ${mode} ${family}]`)).toBe(false);
      },
    );

    test("LOCKDOWN keeps none, and a list that denies it wins", async () => {
      await enforce({ deny: [ADDRESS.left[4], ADDRESS.left[6]] });
      await apply("OPEN");
      const { kept, keep } = await establish();
      for (const mode of ["LOCKDOWN", "AIRGAP", "TRUSTED"] as const) {
        await apply(mode, keep);
        expect([mode, await echoes(world.agents.left, kept, `[denied ${mode} ${family}]`)]).toEqual([
          mode,
          false,
        ]);
      }
    });

    test("a dead daemon ends it", async () => {
      const network = { trustedInterfaces: [], deny: [], allow: [] };
      await world.agents.host.call("enforce", { network, timeoutMs: 500 });
      await apply("OPEN");
      const { kept, keep } = await establish();
      await apply("AIRGAP", keep);
      expect(await echoes(world.agents.left, kept, `[alive ${family}]`)).toBe(true);
      await delay(700);
      expect(await echoes(world.agents.left, kept, `[dead ${family}]`)).toBe(false);
    });
  });

  test.each(["AIRGAP", "LOCKDOWN", "TRUSTED"] as const)(
    "%s in shadow refuses nothing, and lists what it would",
    async (mode) => {
      await enforce({});
      const { host } = world.agents;
      expect(await host.call("apply", { mode, how: { hold: "shadow", keep: null } })).toEqual({
        ok: true,
        how: "observed",
      });
      expect(await probe(world)).toEqual(inBothFamilies(ALL_PATHS));
      const would = await host.call("wouldBlock");
      for (const [direction, address] of [
        ["in", ADDRESS.left[4]],
        ["in", ADDRESS.right[6]],
        ["out", ADDRESS.left[6]],
        ["out", ADDRESS.right[4]],
        ["forward", ADDRESS.right[4]],
        ["forward", ADDRESS.left[6]],
      ] as const)
        expect(would).toContainEqual({ direction, address, protocol: "udp", port: PORT });
      const loopback = would?.some(({ address }) => address === ADDRESS.loopback[4]);
      expect(loopback).toBe(mode === "LOCKDOWN");
      expect(await host.call("check")).toMatchObject({ same: true });
      // a second look finds the set as the kernel has filled it, and a heartbeat has nothing to renew
      expect(await host.call("heartbeat")).toEqual({ ok: true });
      // loaded anew, it knows it still
      const again = { mode, how: { hold: "shadow", keep: null } } as const;
      expect(await host.call("apply", again)).toMatchObject({ ok: true });
      expect(await host.call("wouldBlock")).toEqual(expect.arrayContaining([...(would ?? [])]));
      expect(await host.call("check")).toMatchObject({ same: true });
      expect(await host.call("settle", { mode, how: { hold: "shadow", keep: null } })).toMatchObject({
        ok: true,
      });
    },
  );

  describe.skipIf(NO_CGROUPS !== "")(`cgroups (${NO_CGROUPS || "cgroup v2"})`, () => {
    const path = `${GROUP}/inner`;
    beforeAll(async () => {
      if (!(await world.agents.host.call("mountCgroups"))) throw new Error("cgroup v2 could not be mounted");
    });
    afterAll(async () => {
      const { host } = world.agents;
      await host.call("joinCgroup", { path: "" });
      for (const made of [path, GROUP])
        await host.call("removeCgroup", { path: made }).catch(() => undefined);
    });

    test("an entry whose cgroup is not there is left out, and taken up when it is", async () => {
      const { host } = world.agents;
      await enforce({ trustedInterfaces: ["l0"], deny: [{ cgroup: path }], allow: [{ cgroup: GROUP }] });
      await apply("TRUSTED");
      expect(await host.call("leftOut")).toHaveLength(2);
      expect(await sendsAs(0, "before")).toBe(true);
      await host.call("joinCgroup", { path });
      expect(await host.call("heartbeat")).toEqual({ ok: true });
      expect(await host.call("leftOut")).toEqual([]);
      expect(await sendsAs(0, "within")).toBe(false);
      await host.call("joinCgroup", { path: "" });
      expect(await sendsAs(0, "outside")).toBe(true);
    });

    test("an allowed cgroup and all below it send, and others do not", async () => {
      const { host } = world.agents;
      await host.call("joinCgroup", { path });
      await enforce({ allow: [{ cgroup: GROUP, protocol: "udp" }] });
      await apply("TRUSTED");
      expect(await sendsAs(0, "allowed group")).toBe(true);
      await host.call("joinCgroup", { path: "" });
      expect(await sendsAs(0, "no group")).toBe(false);
    });

    test("a cgroup that goes is nobody's change", async () => {
      const { host } = world.agents;
      await host.call("joinCgroup", { path });
      await host.call("joinCgroup", { path: "" });
      await enforce({ deny: [{ cgroup: path }] });
      await apply("RESTRICTED");
      await host.call("removeCgroup", { path });
      expect(await host.call("check")).toMatchObject({ same: true });
      expect(await host.call("heartbeat")).toEqual({ ok: true });
      expect(await host.call("leftOut")).toHaveLength(1);
      expect(await eventually(async () => (await host.call("check"))?.same === true)).toBe(true);
    });
  });
});
