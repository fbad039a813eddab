import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { renderRules } from "../../daemon/core/nft.ts";
import { posture } from "../../daemon/core/posture.ts";
import { createNetns, type Netns, NO_NETNS, removeNetns } from "../support/netns.ts";
import { type Agent, delay, eventually, startAgent, stopAgents } from "../support/packets.ts";

const TIMEOUT_MS = 30_000;
const network = { trustedInterfaces: [], deny: ["192.0.2.0/24"], allow: [] };

describe.skipIf(NO_NETNS !== "")(`foreign changes to our rules (${NO_NETNS || "namespaces"})`, () => {
  let netns: Netns;
  let agent: Agent;
  const signals: Record<string, string>[] = [];
  const signalled = (kind: string) =>
    eventually(async () => {
      signals.push(...(await agent.call("signals")));
      return signals.some((signal) => signal["kind"] === kind);
    });

  beforeAll(async () => {
    netns = createNetns("rules");
    agent = startAgent(netns);
    await agent.call("enforce", { network, timeoutMs: TIMEOUT_MS });
    await agent.call("apply", { mode: "RESTRICTED" });
    await agent.call("watch");
  });
  beforeEach(async () => {
    await agent.call("apply", { mode: "RESTRICTED" });
    await delay(50);
    await agent.call("signals");
    signals.length = 0;
  });
  afterAll(async () => {
    await stopAgents();
    removeNetns();
  });

  test.each([
    ["flush ruleset", "missing"],
    ["delete table inet boundary", "missing"],
    ["flush table inet boundary", "differs"],
    ["insert rule inet boundary input accept", "differs"],
    ["add rule inet boundary mode_in accept", "differs"],
    ["flush chain inet boundary mode_out", "differs"],
    ["add chain inet boundary extra { type filter hook input priority -600; }", "differs"],
    ["chain inet boundary input { policy accept; }", "differs"],
    ["add table inet boundary { flags dormant; }", "differs"],
    ["add set inet boundary extra { type mark; }", "differs"],
    ["delete element inet boundary deny4 { 192.0.2.0/24 }", "differs"],
    ["add element inet boundary deny4 { 198.51.100.0/24 }", "differs"],
    ["delete table arp boundary", "missing"],
    ["insert rule arp boundary output accept", "differs"],
    ["add element arp boundary alive { arp timeout 1h }", "dead-man"],
    ["add table netdev boundary", "differs"],
    ["add element inet boundary alive { ipv4 timeout 1h }", "dead-man"],
    ["delete element inet boundary alive { ipv4 }; add element inet boundary alive { ipv4 }", "dead-man"],
  ])("%s is noticed at once", async (command, what) => {
    netns.exec("nft", command);
    expect(await agent.call("check")).toMatchObject({ same: false, what });
    expect(await agent.call("heartbeat")).toMatchObject({ ok: false, what });
    expect(await signalled("rules.changed")).toBe(true);
    expect(new Set(signals.map((signal) => signal["what"]))).toEqual(new Set([what]));
  });

  test("an endless element of alive is noticed also where a heartbeat has flushed it already", async () => {
    await agent.call("nft", {
      commands: [
        "flush set inet boundary alive; add element inet boundary alive { ipv4 }",
        "flush set inet boundary alive; add element inet boundary alive { ipv4 timeout 2s }",
      ],
    });
    expect(await agent.call("check")).toMatchObject({ same: true });
    expect(await signalled("rules.changed")).toBe(true);
    expect(signals.at(-1)).toMatchObject({ what: "dead-man" });
  });

  const rendered = renderRules(
    posture("AIRGAP"),
    { trustedInterfaces: [], deny: [], allow: [] },
    { kind: "settled" },
    { keep: null, hold: "enforcing", links: [] },
  );
  const rules = /chain mode_out \{\n(.*?)\n\}/s.exec(rendered)?.[1]?.split("\n") ?? [];
  const PUT_BACK = [
    "flush chain inet boundary mode_out",
    ...rules.map((rule) => `add rule inet boundary mode_out ${rule}`),
  ].join("\n");

  test.each([
    ["a rule", ["insert rule inet boundary mode_out accept", PUT_BACK], "differs"],
    [
      "a rule whose comment forges the generation line of another process",
      [
        'insert rule inet boundary mode_out accept comment "\n# new generation 9 by process 1 (node)\n"',
        PUT_BACK,
      ],
      "differs",
    ],
    [
      "a renewal of the dead-man with our own time",
      [
        "flush set inet boundary alive; add element inet boundary alive { ipv4 timeout 30s, ipv6 timeout 30s }",
      ],
      "dead-man",
    ],
    ["a chain of its own", ["add chain inet boundary extra", "delete chain inet boundary extra"], "differs"],
  ])("%s that is as it was before we look is noticed by its events", async (_, commands, what) => {
    await agent.call("apply", { mode: "AIRGAP" });
    for (let round = 0; round < 3; round++) {
      // a monitor that lost track is started again
      expect(await eventually(async () => (await agent.call("health"))?.state === "watching")).toBe(true);
      await agent.call("signals");
      signals.length = 0;
      await agent.call("nft", { commands });
      expect(await agent.call("check")).toMatchObject({ same: true });
      expect(await signalled("rules.changed")).toBe(true);
      expect(signals.find((signal) => signal["kind"] === "rules.changed")).toMatchObject({ what });
    }
  });

  test("an old mark of ours makes nobody else's change ours", async () => {
    const mark = `mark_${"0".repeat(32)}`;
    await agent.call("nft", {
      commands: [`add counter inet boundary ${mark}; delete counter inet boundary ${mark}`],
    });
    expect(await signalled("rules.changed")).toBe(true);
    expect(signals.at(-1)).toMatchObject({ what: "differs" });
    expect(signals.at(-1)?.["detail"]).toMatch(/^process \d+ \(nft\): add counter inet boundary mark_0/);
  });

  test("a busy set of another table is no signal beyond its table, and hides nothing", async () => {
    netns.exec("nft", "add table inet other; add set inet other busy { type ipv4_addr; }");
    for (let round = 0; round < 8; round++) {
      const some = Array.from({ length: 4_000 }, (_, i) => `10.${round}.${i >> 8}.${i & 255}`).join(", ");
      netns.exec("sh", "-c", `echo 'add element inet other busy { ${some} }' | nft -f -`);
    }
    await agent.call("heartbeat");
    await delay(100);
    expect(await agent.call("signals")).toMatchObject([{ kind: "rules.foreign", what: "table" }]);
    await agent.call("nft", {
      commands: ["add chain inet boundary extra", "delete chain inet boundary extra"],
    });
    expect(await signalled("rules.changed")).toBe(true);
    netns.exec("nft", "delete table inet other");
  });

  test("what the nft program did for us is ours", async () => {
    await agent.call("enforce", { network, timeoutMs: TIMEOUT_MS, via: "nft" });
    for (const mode of ["AIRGAP", "RESTRICTED"] as const) {
      expect(await agent.call("apply", { mode })).toMatchObject({ ok: true });
      expect(await agent.call("heartbeat")).toEqual({ ok: true });
    }
    await delay(200);
    expect(await agent.call("signals")).toEqual([]);
    await agent.call("nft", {
      commands: ["add chain inet boundary extra", "delete chain inet boundary extra"],
    });
    expect(await signalled("rules.changed")).toBe(true);
    await agent.call("enforce", { network, timeoutMs: TIMEOUT_MS });
  });

  test("our own transactions, heartbeats and what other tables lose are not signals", async () => {
    for (const mode of ["AIRGAP", "LOCKDOWN", "OPEN", "RESTRICTED"] as const) {
      await agent.call("apply", { mode });
      await agent.call("heartbeat");
    }
    netns.exec("nft", "add table inet other; add chain inet other c; add rule inet other c accept");
    netns.exec("nft", "delete table inet other");
    await delay(100);
    expect(await agent.call("signals")).toMatchObject([{ kind: "rules.foreign", table: "inet other" }]);
    netns.exec("nft", "flush ruleset"); // it does still see
    expect(await signalled("rules.changed")).toBe(true);
  });

  test("a monitor that dies is told once, is started again, and then sees what it missed", async () => {
    const [monitor] = await agent.call("children");
    process.kill(monitor ?? 0, "SIGKILL");
    expect(await signalled("sensor.blind")).toBe(true);
    netns.exec("nft", "flush ruleset"); // while nobody watches
    expect(await signalled("rules.changed")).toBe(true);
    expect(await agent.call("health")).toMatchObject({ state: "watching" });
    expect(signals.filter((signal) => signal["kind"] === "sensor.blind")).toHaveLength(1);
    expect(await agent.call("children")).toHaveLength(1);
  });

  describe("below IP, in AIRGAP", () => {
    beforeAll(() => {
      netns.exec("ip", "link", "add", "d0", "type", "veth", "peer", "name", "d1");
    });
    beforeEach(async () => {
      await agent.call("apply", { mode: "AIRGAP" });
      await delay(50);
      await agent.call("signals");
      signals.length = 0;
    });

    test.each([
      ["delete table netdev boundary", "missing"],
      ["flush chain netdev boundary egress", "differs"],
      ["insert rule netdev boundary ingress accept", "differs"],
      ["delete chain netdev boundary egress", "differs"],
      ["insert rule arp boundary input accept", "differs"],
    ])("%s is noticed at once", async (command, what) => {
      netns.exec("nft", command);
      expect(await agent.call("check")).toMatchObject({ same: false, what });
      expect(await signalled("rules.changed")).toBe(true);
    });

    test.each([
      ["forward", "add table netdev other; add chain netdev other c; add rule netdev other c fwd to d1"],
      [
        "earlier-chain",
        "add table inet other; add chain inet other c { type filter hook input priority -600; }",
      ],
    ])("a %s of somebody else's is told, and ours stay", async (what, commands) => {
      netns.exec("nft", commands);
      expect(
        await eventually(async () => {
          signals.push(...(await agent.call("signals")));
          return signals.some((signal) => signal["what"] === what);
        }),
      ).toBe(true);
      expect(signals.every((signal) => signal["kind"] === "rules.foreign")).toBe(true);
      expect(await agent.call("check")).toMatchObject({ same: true });
      netns.exec(
        "nft",
        signals[0]?.["table"]?.startsWith("netdev") ? "delete table netdev other" : "delete table inet other",
      );
    });

    test("links that come and go are no change of somebody else's, and the rules follow them", async () => {
      const devices = () => netns.exec("nft", "list", "chain", "netdev", "boundary", "egress");
      netns.exec("ip", "link", "add", "e0", "type", "veth", "peer", "name", "e1");
      expect(devices()).not.toMatch(/e0/);
      expect(await agent.call("refresh")).toEqual({ ok: true, how: "kernel" });
      expect(devices()).toMatch(/e0/);
      expect(await agent.call("refresh")).toBeNull();
      netns.exec("ip", "link", "del", "e0");
      expect(await agent.call("check")).toMatchObject({ same: true });
      expect(await agent.call("heartbeat")).toEqual({ ok: true });
      expect(devices()).not.toMatch(/e0/);
      await delay(100);
      expect(await agent.call("signals")).toEqual([]);
    });
  });

  test("what a mode in shadow notes is no signal", async () => {
    const shadow = { hold: "shadow", keep: null } as const;
    expect(await agent.call("apply", { mode: "LOCKDOWN", how: shadow })).toEqual({
      ok: true,
      how: "observed",
    });
    expect(await agent.call("sendUdp", { family: 4, to: "127.0.0.1", port: 9_077, token: "x" })).toBe("sent");
    expect(await agent.call("wouldBlock")).toContainEqual({
      direction: "out",
      address: "127.0.0.1",
      protocol: "udp",
      port: 9_077,
    });
    expect(await agent.call("heartbeat")).toEqual({ ok: true });
    await delay(100);
    expect(await agent.call("signals")).toEqual([]);
  });

  test("released, nothing of ours is left, and what comes in its place is told", async () => {
    expect(await agent.call("apply", { mode: "LOCKDOWN", how: { hold: "released", keep: null } })).toEqual({
      ok: true,
      how: "observed",
    });
    expect(netns.exec("nft", "list", "tables")).not.toMatch(/boundary/);
    expect(await agent.call("heartbeat")).toEqual({ ok: true });
    await delay(50);
    expect(await agent.call("signals")).toEqual([]);
    netns.exec("nft", "add table inet boundary");
    expect(await signalled("rules.changed")).toBe(true);
    netns.exec("nft", "delete table inet boundary");
  });

  test("stopping leaves no monitor behind", async () => {
    await agent.call("unwatch");
    expect(await agent.call("children")).toEqual([]);
  });
});
