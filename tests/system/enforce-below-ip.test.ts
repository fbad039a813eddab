import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { MODES, type Mode } from "../../daemon/core/mode.ts";
import { arpRequest, frameOf } from "../support/frames.ts";
import {
  ADDRESS,
  createHostBetween,
  foreignNft,
  type HostBetween,
  linkAddress,
} from "../support/host-between.ts";
import { NO_NETNS, removeNetns } from "../support/netns.ts";
import { delay, eventually, startAgent, stopAgents } from "../support/packets.ts";

const NETWORK = { trustedInterfaces: ["l0", "r0"], deny: [], allow: [] };
const OPEN_BELOW: readonly Mode[] = ["OPEN", "RESTRICTED", "TRUSTED"];
/** IEEE's for experiments: no protocol of the host answers it. */
const EXPERIMENT = 0x88b5;
const [ETH_ALL, ETH_ARP] = [0x0003, 0x0806];

describe.skipIf(NO_NETNS !== "")(`below IP (${NO_NETNS || "namespaces"})`, () => {
  let world: HostBetween;
  const mac = { l1: "", l0: "" };
  const fds = {
    leftAll: -1,
    leftArp: -1,
    leftSend: -1,
    hostSend: -1,
    hostBypass: -1,
    hostType: -1,
    hostAll: -1,
  };

  beforeAll(async () => {
    world = await createHostBetween();
    const { left, host } = world.agents;
    mac.l1 = linkAddress(world.netns.left, "l1");
    mac.l0 = linkAddress(world.netns.host, "l0");
    fds.leftAll = await left.call("openLink", { link: "l1", type: ETH_ALL });
    fds.leftArp = await left.call("openLink", { link: "l1", type: ETH_ARP });
    fds.leftSend = await left.call("openLink", { link: "l1", type: EXPERIMENT });
    fds.hostSend = await host.call("openLink", { link: "l0", type: EXPERIMENT });
    fds.hostBypass = await host.call("openLink", { link: "l0", type: EXPERIMENT, bypass: true });
    fds.hostType = fds.hostSend;
    fds.hostAll = await host.call("openLink", { link: "l0", type: ETH_ALL });
  });
  afterAll(async () => {
    await stopAgents();
    removeNetns();
  });

  const enforce = (timeoutMs = 60_000) => world.agents.host.call("enforce", { network: NETWORK, timeoutMs });
  const apply = (mode: Mode) => world.agents.host.call("apply", { mode });

  /** Which raw frames get across: from the host, past its queues, to a socket of the host, to its tap. */
  async function frames(word: string): Promise<readonly string[]> {
    const { left, host } = world.agents;
    const out = (token: string) => frameOf(mac.l1, mac.l0, EXPERIMENT, token).toString("hex");
    await host.call("sendFrame", { fd: fds.hostSend, frame: out(`[${word} out]`) });
    await host.call("sendFrame", { fd: fds.hostBypass, frame: out(`[${word} bypassing]`) });
    const inwards = frameOf(mac.l0, mac.l1, EXPERIMENT, `[${word} in]`).toString("hex");
    await left.call("sendFrame", { fd: fds.leftSend, frame: inwards });
    await delay(30);
    const atLeft = (await left.call("drain", { fd: fds.leftAll })).join("");
    const atHost = (await host.call("drain", { fd: fds.hostType })).join("");
    const atTap = (await host.call("drain", { fd: fds.hostAll })).join("");
    return [
      ...(atLeft.includes(`[${word} out]`) ? ["out"] : []),
      ...(atLeft.includes(`[${word} bypassing]`) ? ["bypassing"] : []),
      ...(atHost.includes(`[${word} in]`) ? ["in"] : []),
      ...(atTap.includes(`[${word} in]`) ? ["in, at a tap"] : []),
    ];
  }

  /** Whether the host answers who has its address. */
  async function answersArp(): Promise<boolean> {
    const { left } = world.agents;
    await left.call("drain", { fd: fds.leftArp });
    const frame = arpRequest(mac.l1, ADDRESS.left[4], ADDRESS.hostLeft[4]).toString("hex");
    await left.call("sendFrame", { fd: fds.leftSend, frame });
    await delay(30);
    const replies = await left.call("drain", { fd: fds.leftArp });
    return replies.some((text) => Buffer.from(text, "latin1").readUInt16BE(20) === 2);
  }

  test("control run: without rules raw frames and ARP get across", async () => {
    foreignNft(world, "flush ruleset");
    expect(await frames("control")).toEqual(["out", "bypassing", "in", "in, at a tap"]);
    expect(await answersArp()).toBe(true);
  });

  test.each(MODES)(
    "%s closes the links and ARP where nothing may leave, and leaves them open elsewhere",
    async (mode) => {
      await enforce();
      expect(await apply(mode)).toEqual({ ok: true, how: "kernel" });
      const open = OPEN_BELOW.includes(mode);
      // a tap stands before every hook: what comes in is seen there, and goes no further
      expect(await frames(mode)).toEqual(
        open ? ["out", "bypassing", "in", "in, at a tap"] : ["in, at a tap"],
      );
      expect(await answersArp()).toBe(open);
    },
  );

  test("a foreign fwd at the lowest priority forwards nothing past AIRGAP", async () => {
    const { right } = world.agents;
    const fd = await right.call("openLink", { link: "r1", type: ETH_ALL });
    const forward = `add table netdev other
      add chain netdev other c { type filter hook ingress device l0 priority -2147483648; }
      add rule netdev other c fwd to "r0"`;
    const crosses = async (token: string) => {
      const frame = frameOf(mac.l0, mac.l1, EXPERIMENT, token).toString("hex");
      await world.agents.left.call("sendFrame", { fd: fds.leftSend, frame });
      await delay(30);
      return (await right.call("drain", { fd })).join("").includes(token);
    };
    foreignNft(world, "flush ruleset");
    try {
      foreignNft(world, forward);
      expect(await crosses("[control]")).toBe(true);
      await enforce();
      await apply("AIRGAP");
      expect(await crosses("[ours first]")).toBe(false);
      // theirs is asked first now; what it forwards leaves by a link that is closed as well
      foreignNft(world, "delete table netdev other");
      foreignNft(world, forward);
      expect(await crosses("[theirs first]")).toBe(false);
    } finally {
      foreignNft(world, "flush ruleset");
    }
  });

  test("what a bridge carries between two links ends in AIRGAP, and only there", async () => {
    const { netns, agents } = world;
    const fd = await agents.right.call("openLink", { link: "r1", type: ETH_ALL });
    const r1 = linkAddress(netns.right, "r1");
    const crosses = async (token: string) => {
      const frame = frameOf(r1, mac.l1, EXPERIMENT, token).toString("hex");
      await agents.left.call("sendFrame", { fd: fds.leftSend, frame });
      await delay(30);
      return (await agents.right.call("drain", { fd })).join("").includes(token);
    };
    netns.host.exec("ip", "link", "add", "br0", "type", "bridge");
    try {
      for (const link of ["l0", "r0"]) netns.host.exec("ip", "link", "set", link, "master", "br0");
      netns.host.exec("ip", "link", "set", "br0", "up");
      foreignNft(world, "flush ruleset");
      expect(await eventually(() => crosses("[control]"))).toBe(true);
      await enforce();
      // no hook of IP sees what is bridged: docs/ENFORCEMENT_MODEL.md
      await apply("TRUSTED");
      expect(await crosses("[trusted]")).toBe(true);
      await apply("AIRGAP");
      expect(await crosses("[airgap]")).toBe(false);
    } finally {
      netns.host.exec("ip", "link", "del", "br0");
    }
  });

  test("a macvlan child in another namespace is cut off with its link in AIRGAP, and only there", async () => {
    const { netns, agents } = world;
    foreignNft(world, "flush ruleset");
    netns.host.exec("ip", "link", "add", "child0", "link", "l0", "type", "macvlan", "mode", "bridge");
    try {
      netns.host.exec("ip", "link", "set", "child0", "netns", netns.right.name);
      netns.right.exec("ip", "addr", "add", "10.81.1.77/24", "dev", "child0");
      netns.right.exec("ip", "link", "set", "child0", "up");
      let sent = 0;
      const crosses = async () => {
        sent += 1;
        const token = `[child ${sent}]`;
        await agents.left.call("sendUdp", { family: 4, to: "10.81.1.77", port: 9_000, token });
        await agents.right.call("sendUdp", { family: 4, to: ADDRESS.left[4], port: 9_000, token });
        await delay(50);
        const at = [await agents.right.call("received"), await agents.left.call("received")];
        return at.map((received) => received.includes(token));
      };
      expect(await eventually(async () => !(await crosses()).includes(false))).toBe(true);
      await enforce();
      await apply("TRUSTED");
      expect(await crosses()).toEqual([true, true]);
      await apply("AIRGAP");
      expect(await crosses()).toEqual([false, false]);
    } finally {
      netns.right.exec("ip", "link", "del", "child0");
    }
  });

  test("a dead daemon closes ARP too", async () => {
    await enforce(500);
    await apply("OPEN");
    expect(await answersArp()).toBe(true);
    expect(await eventually(async () => !(await answersArp()))).toBe(true);
    expect(await world.agents.host.call("heartbeat")).toEqual({ ok: true });
    expect(await answersArp()).toBe(true);
  });

  test("a link that comes later is closed for IP and ARP at once, and for raw frames when we have looked", async () => {
    const { netns } = world;
    await enforce();
    await apply("AIRGAP");
    netns.host.exec(
      "ip",
      "link",
      "add",
      "n0",
      "type",
      "veth",
      "peer",
      "name",
      "n1",
      "netns",
      netns.right.name,
    );
    netns.host.exec("ip", "link", "set", "n0", "up");
    netns.right.exec("ip", "link", "set", "n1", "up");
    netns.host.exec("ip", "addr", "add", "10.81.7.2/24", "dev", "n0");
    netns.right.exec("ip", "addr", "add", "10.81.7.1/24", "dev", "n1");
    const at = { host: linkAddress(netns.host, "n0"), right: linkAddress(netns.right, "n1") };
    // agents of their own: an agent's /sys shows the links of when it started
    const [host, right] = [startAgent(netns.host), startAgent(netns.right)];
    const send = await host.call("openLink", { link: "n0", type: EXPERIMENT });
    const seen = await right.call("openLink", { link: "n1", type: ETH_ALL });
    const crosses = async (token: string) => {
      const frame = frameOf(at.right, at.host, EXPERIMENT, token).toString("hex");
      await host.call("sendFrame", { fd: send, frame });
      await delay(30);
      return (await right.call("drain", { fd: seen })).join("").includes(token);
    };
    const sent = await host.call("sendUdp", { family: 4, to: "10.81.7.1", port: 9_000, token: "ip" });
    expect(sent).toMatch(/EPERM/);
    expect(await crosses("[not yet]")).toBe(true);
    expect(await world.agents.host.call("refresh")).toEqual({ ok: true, how: "kernel" });
    expect(await crosses("[closed]")).toBe(false);
  });
});
