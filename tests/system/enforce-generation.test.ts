import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { createNetns, type Netns, NO_NETNS, removeNetns } from "../support/netns.ts";
import { type Agent, startAgent, stopAgents } from "../support/packets.ts";

const network = { trustedInterfaces: [], deny: ["192.0.2.0/24"], allow: [] };

/** No `nft monitor` here: what a heartbeat notices, it notices by the kernel's count of transactions. */
describe.skipIf(NO_NETNS !== "").each(["libnftables", "nft"] as const)(
  `heartbeats between transactions, through %s (${NO_NETNS || "namespaces"})`,
  (via) => {
    let netns: Netns;
    let agent: Agent;
    const beats = async (times: number) => {
      await agent.call("listed");
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      for (let i = 0; i < times; i++) expect(await agent.call("heartbeat")).toEqual({ ok: true });
      return agent.call("listed");
    };

    beforeAll(async () => {
      netns = createNetns("count");
      agent = startAgent(netns);
      await agent.call("enforce", { network, timeoutMs: 30_000, ...(via === "nft" ? { via } : {}) });
    });
    beforeEach(async () => {
      await agent.call("apply", { mode: "AIRGAP" });
    });
    afterAll(async () => {
      await stopAgents();
      removeNetns();
    });

    test("list nothing, but for the full comparison that is due", async () => {
      expect(await beats(19)).toBe(0);
      expect(await beats(1)).toBe(1);
      expect(await beats(19)).toBe(0);
    });

    test.each([
      ["flush ruleset", "missing"],
      ["delete table inet boundary", "missing"],
      ["delete table arp boundary", "missing"],
      ["flush chain netdev boundary egress", "differs"],
      ["insert rule inet boundary mode_out accept", "differs"],
      ["add table inet boundary { flags dormant; }", "differs"],
      ["add element inet boundary alive { ipv4 timeout 1h }", "dead-man"],
    ])("%s is told by the next one", async (command, what) => {
      expect(await beats(3)).toBe(0);
      netns.exec("nft", command);
      expect(await agent.call("heartbeat")).toMatchObject({ ok: false, what });
      expect(await agent.call("heartbeat")).toMatchObject({ ok: false, what });
    });

    test("somebody else's transactions cost a comparison each, listings none", async () => {
      netns.exec("nft", "add table inet other");
      expect(await beats(3)).toBe(1);
      netns.exec("nft", "add set inet other brief { type mark; flags timeout; }");
      netns.exec("nft", "add element inet other brief { 1 timeout 50ms }");
      expect(await beats(3)).toBe(1);
      netns.exec("nft", "list ruleset");
      await new Promise((resolve) => setTimeout(resolve, 100));
      expect(await beats(3)).toBe(0);
      netns.exec("nft", "delete table inet other");
    });

    test("a link that was replaced under its name is in the rules again", async () => {
      const make = ["link", "add", "g0", "type", "veth", "peer", "name", "g1"];
      netns.exec("ip", ...make);
      await agent.call("refresh");
      expect(await beats(2)).toBe(0);
      netns.exec("sh", "-c", `ip link del g0 && ip ${make.join(" ")}`);
      expect(await beats(1)).toBeGreaterThan(0);
      const egress = netns.exec("nft", "list", "chain", "netdev", "boundary", "egress");
      expect(egress).toMatch(/g0.*g1/);
      expect(await beats(2)).toBe(0);
      netns.exec("ip", "link", "del", "g0");
    });
  },
);
