import { existsSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Config } from "../../daemon/core/config.ts";
import type { Mode } from "../../daemon/core/mode.ts";
import {
  ADDRESS,
  ALL_PATHS,
  createHostBetween,
  foreignNft,
  type HostBetween,
  inBothFamilies,
  listen,
  type Path,
  PORT,
  probe,
} from "../support/host-between.ts";
import { NO_NETNS, removeNetns, setSysctl, waitForIpv6 } from "../support/netns.ts";
import { type Agent, delay, eventually, startAgent, stopAgents } from "../support/packets.ts";

const TIMEOUT_MS = 60_000;
const DENY_RIGHT = ["10.81.2.1", "fd81:2::1/128", "10.81.2.0/31"];

type Network = Config["network"];
type Row = {
  mode: Mode;
  trustedInterfaces?: string[];
  deny?: Network["deny"];
  allow?: Network["allow"];
  pass: readonly Path[];
};
const ROWS: readonly Row[] = [
  { mode: "OPEN", deny: DENY_RIGHT, pass: ALL_PATHS },
  { mode: "RESTRICTED", pass: ALL_PATHS },
  { mode: "RESTRICTED", deny: DENY_RIGHT, pass: ["in from left", "out to left", "loopback"] },
  { mode: "RESTRICTED", deny: ["0.0.0.0/0", "::/0"], pass: ["loopback"] },
  { mode: "TRUSTED", pass: ["loopback"] },
  { mode: "TRUSTED", trustedInterfaces: ["r0"], pass: ["in from right", "out to right", "loopback"] },
  { mode: "TRUSTED", trustedInterfaces: ["l0", "r0"], pass: ALL_PATHS },
  {
    mode: "TRUSTED",
    trustedInterfaces: ["l0", "r0"],
    deny: DENY_RIGHT,
    pass: ["in from left", "out to left", "loopback"],
  },
  { mode: "AIRGAP", trustedInterfaces: ["l0", "r0"], pass: ["loopback"] },
  { mode: "COLDROOM", trustedInterfaces: ["l0", "r0"], pass: ["loopback"] },
  { mode: "LOCKDOWN", trustedInterfaces: ["l0", "r0"], pass: [] },
];

describe.skipIf(NO_NETNS !== "")(`enforcement in a real kernel (${NO_NETNS || "namespaces"})`, () => {
  let world: HostBetween;
  const enforce = async (row: Partial<Row>, timeoutMs = TIMEOUT_MS, via?: "nft") => {
    const network = {
      trustedInterfaces: row.trustedInterfaces ?? [],
      deny: row.deny ?? [],
      allow: row.allow ?? [],
    };
    await world.agents.host.call("enforce", { network, timeoutMs, ...(via === undefined ? {} : { via }) });
  };

  beforeAll(async () => {
    world = await createHostBetween();
  });
  afterAll(async () => {
    await stopAgents();
    removeNetns();
  });

  test("control run: without rules every path is open in both families", async () => {
    foreignNft(world, "flush ruleset");
    expect(await probe(world)).toEqual(inBothFamilies(ALL_PATHS));
  });

  describe.each(ROWS)("$mode, trusted: $trustedInterfaces, denied: $deny", (row) => {
    test.each(["apply", "settle"] as const)("%s lets pass only what the mode allows", async (action) => {
      await enforce(row);
      expect(await world.agents.host.call(action, { mode: row.mode })).toEqual({ ok: true, how: "kernel" });
      expect(await probe(world)).toEqual(inBothFamilies(row.pass));
      expect(await world.agents.host.call("check")).toMatchObject({ same: true });
    });
  });

  test("the nft program enforces the same as the library", async () => {
    await enforce({ trustedInterfaces: ["r0"] }, TIMEOUT_MS, "nft");
    expect(await world.agents.host.call("apply", { mode: "TRUSTED" })).toEqual({ ok: true, how: "kernel" });
    expect(await probe(world)).toEqual(inBothFamilies(["in from right", "out to right", "loopback"]));
  });

  test.each(["TRUSTED", "LOCKDOWN"] as const)("what %s refused is counted, by direction", async (mode) => {
    await enforce({});
    await world.agents.host.call("apply", { mode });
    const drops = async () => {
      const result = await world.agents.host.call("check");
      return result?.same ? result.drops : {};
    };
    const before = await drops(); // not always zero: neighbour discovery goes on by itself
    await probe(world, ["in from left", "out to left", "through to right"]);
    const after = await drops();
    const more = (name: string) => (after[name] ?? 0) - (before[name] ?? 0);
    if (mode === "LOCKDOWN") {
      // what comes in meets the link's rules first
      expect(more("refused_link_in")).toBeGreaterThanOrEqual(4);
    } else {
      expect(more("refused_in")).toBeGreaterThanOrEqual(2);
      expect(more("refused_forward")).toBeGreaterThanOrEqual(2);
    }
    expect(more("refused_out")).toBeGreaterThanOrEqual(2);
    expect(after["no_heartbeat"]).toBe(before["no_heartbeat"]);
  });

  test("AIRGAP cuts established TCP flows, and loopback's live", async () => {
    await enforce({});
    await world.agents.host.call("apply", { mode: "OPEN" });
    const flows: { agent: Agent; flow: number; id: string; local: boolean }[] = [];
    for (const [name, to] of [
      ["left", "hostLeft"],
      ["left", "right"],
      ["host", "right"],
      ["host", "loopback"],
    ] as const) {
      for (const family of [4, 6] as const) {
        const agent = world.agents[name];
        const flow = await agent.call("connectTcp", { to: ADDRESS[to][family], port: PORT });
        flows.push({ agent, flow, id: `${name}-${to}-${family}`, local: to === "loopback" });
      }
    }
    const send = async (word: string) => {
      for (const { agent, flow, id } of flows)
        await agent.call("sendTcp", { flow, token: `[${word} ${id}]` });
    };
    const arrived = async (word: string) => {
      const seen: string[] = [];
      for (const flow of flows) {
        if ((await flow.agent.call("echoed")).includes(`[${word} ${flow.id}]`)) seen.push(flow.id);
      }
      return seen;
    };
    const all = flows.map(({ id }) => id);
    const local = flows.filter((flow) => flow.local).map(({ id }) => id);

    await send("before");
    expect(await eventually(async () => (await arrived("before")).length === all.length)).toBe(true);
    await world.agents.host.call("apply", { mode: "AIRGAP" });
    await send("after");
    await delay(500);
    expect(await arrived("after")).toEqual(local);
    // and it was the rules that held them: opened again, TCP sends what it could not
    await world.agents.host.call("apply", { mode: "OPEN" });
    expect(await eventually(async () => (await arrived("after")).length === all.length)).toBe(true);
  });

  test("AIRGAP holds against another table that redirects to and from loopback", async () => {
    const { host } = world.netns;
    for (const link of ["l0", "lo", "all"]) setSysctl(host, `net/ipv4/conf/${link}/route_localnet`, "1");
    const redirects = `add table ip other
      add chain ip other pre { type nat hook prerouting priority -100; }
      add chain ip other out { type nat hook output priority -100; }
      add chain ip other post { type nat hook postrouting priority 100; }
      add rule ip other pre udp dport 9101 dnat to 127.0.0.1:${PORT}
      add rule ip other out udp dport 9102 dnat to ${ADDRESS.left[4]}:${PORT}
      add rule ip other post oifname l0 masquerade`;
    const redirected = async (word: string) => {
      const { left, host: agent } = world.agents;
      await left.call("sendUdp", {
        family: 4,
        to: ADDRESS.hostLeft[4],
        port: 9101,
        token: `${word} inwards`,
      });
      await agent.call("sendUdp", { family: 4, to: "127.0.0.1", port: 9102, token: `${word} outwards` });
      await delay(50);
      const got = [...(await agent.call("received")), ...(await left.call("received"))];
      return ["inwards", "outwards"].filter((way) => got.includes(`${word} ${way}`));
    };
    try {
      foreignNft(world, "flush ruleset");
      foreignNft(world, redirects);
      expect(await redirected("control")).toEqual(["inwards", "outwards"]);
      await enforce({});
      await world.agents.host.call("apply", { mode: "AIRGAP" });
      expect(await redirected("airgap")).toEqual([]);
    } finally {
      foreignNft(world, "flush ruleset");
    }
  });

  test.each(["AIRGAP", "COLDROOM", "TRUSTED", "RESTRICTED"] as const)(
    "a link that is called lo is not loopback for %s, and the real one is under any name",
    async (mode) => {
      const { host } = world.netns;
      const rename = (from: string, to: string) => {
        host.exec("ip", "link", "set", from, "down");
        host.exec("ip", "link", "set", from, "name", to);
        host.exec("ip", "link", "set", to, "up");
      };
      const onLo = ["in from left", "out to left", "loopback"] as const;
      foreignNft(world, "flush ruleset");
      rename("lo", "lo0");
      rename("l0", "lo");
      // IPv6 addresses go when a link goes down
      host.exec("ip", "addr", "replace", `${ADDRESS.hostLeft[6]}/64`, "dev", "lo", "nodad");
      waitForIpv6(host, "lo");
      try {
        expect(await probe(world, onLo)).toEqual(inBothFamilies(onLo)); // control
        await enforce({ deny: ["0.0.0.0/0", "::/0"] });
        expect(await world.agents.host.call("apply", { mode })).toEqual({ ok: true, how: "kernel" });
        expect(await probe(world, onLo)).toEqual(inBothFamilies(["loopback"]));
      } finally {
        rename("lo", "l0");
        rename("lo0", "lo");
        host.exec("ip", "addr", "replace", `${ADDRESS.hostLeft[6]}/64`, "dev", "l0", "nodad");
        waitForIpv6(host, "l0");
        foreignNft(world, "flush ruleset");
      }
    },
  );

  test.skipIf(!existsSync("/dev/net/tun"))(
    "a tun device with loopback's type is not loopback (needs /dev/net/tun)",
    async () => {
      const { host } = world.netns;
      const agent = world.agents.host;
      const fd = await agent.call("forgeLoopback", { name: "forged" });
      host.exec("ip", "addr", "add", "10.81.9.1/24", "dev", "forged");
      host.exec("ip", "link", "set", "forged", "up");
      const arrives = async (token: string) => {
        await agent.call("writeUdp", { fd, from: "10.81.9.2", to: "10.81.9.1", token });
        await delay(50);
        return (await agent.call("received")).includes(token);
      };
      const sends = () => agent.call("sendUdp", { family: 4, to: "10.81.9.2", port: PORT, token: "out" });
      foreignNft(world, "flush ruleset");
      expect([await arrives("control"), await sends()]).toEqual([true, "sent"]);
      await enforce({ deny: ["0.0.0.0/0"] });
      for (const mode of ["AIRGAP", "COLDROOM", "TRUSTED", "RESTRICTED"] as const) {
        await agent.call("apply", { mode });
        expect([mode, await arrives(`forged ${mode}`), await sends()]).toEqual([
          mode,
          false,
          expect.stringContaining("EPERM"),
        ]);
      }
      host.exec("ip", "link", "del", "forged");
    },
  );

  test("between two modes nothing that both refuse gets through", async () => {
    const { left, host } = world.agents;
    await enforce({});
    await host.call("apply", { mode: "AIRGAP" });
    const before = (await host.call("received")).length;
    const target = { family: 4, to: ADDRESS.hostLeft[4], port: PORT } as const;
    const progress = { sent: false };
    const sending = Promise.all(
      Array.from({ length: 2_000 }, (_, i) => left.call("sendUdp", { ...target, token: `between ${i}` })),
    ).finally(() => {
      progress.sent = true;
    });
    let refused = 0;
    for (let i = 0; !progress.sent; i++) {
      await host.call("apply", { mode: i % 2 === 0 ? "COLDROOM" : "AIRGAP" });
      const result = await host.call("check");
      refused += result?.same ? (result.drops["refused_link_in"] ?? 0) : 0;
    }
    await sending;
    expect((await host.call("received")).slice(before)).toEqual([]);
    expect(refused).toBeGreaterThan(0); // it was sending while the rules changed
  });

  test("without a heartbeat the kernel closes by itself, with no process of ours", async () => {
    const timeoutMs = 800;
    await enforce({}, timeoutMs);
    await world.agents.host.call("apply", { mode: "OPEN" });
    for (let i = 0; i < 10; i++) {
      expect(await world.agents.host.call("heartbeat")).toEqual({ ok: true });
      await delay(timeoutMs / 5);
    }
    await world.agents.host.call("heartbeat");
    expect(await probe(world, ["in from left"])).toEqual(inBothFamilies(["in from left"])); // well past the first timeout

    await world.agents.host.kill();
    const forwarded: Path[] = ["through to right", "through to left"];
    world.agents.host = startAgent(world.netns.host); // without any of our rules' code running: only packets
    await listen(world.agents.host);
    expect(await eventually(async () => (await probe(world, forwarded)).length === 0)).toBe(true);
    expect(await probe(world)).toEqual([]);
    const counters = world.netns.host.exec("nft", "list", "counters", "table", "inet", "boundary");
    expect(Number(/no_heartbeat \{\s+packets (\d+)/.exec(counters)?.[1])).toBeGreaterThan(0);
    expect(/alive[^}]*elements/.test(world.netns.host.exec("nft", "list", "table", "inet", "boundary"))).toBe(
      false,
    );

    // and the next daemon opens it again
    await enforce({});
    expect(await world.agents.host.call("apply", { mode: "OPEN" })).toEqual({ ok: true, how: "kernel" });
    expect(await probe(world)).toEqual(inBothFamilies(ALL_PATHS));
  });

  test("a heartbeat after everything has run out opens again", async () => {
    await enforce({}, 500);
    await world.agents.host.call("apply", { mode: "OPEN" });
    expect(await eventually(async () => (await probe(world, ["loopback"])).length === 0)).toBe(true);
    expect(await world.agents.host.call("heartbeat")).toEqual({ ok: true });
    expect(await probe(world, ["loopback"])).toEqual(inBothFamilies(["loopback"]));
  });
});
