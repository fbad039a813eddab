import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { createNetns, type Netns, NO_NETNS, removeNetns } from "../support/netns.ts";
import { type Agent, delay, eventually, startAgent, stopAgents } from "../support/packets.ts";

const TIMEOUT_MS = 30_000;
const network = { trustedInterfaces: [], deny: ["192.0.2.0/24"] };

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
    await agent.call("watch", { timeoutMs: TIMEOUT_MS });
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

  test("our own transactions, heartbeats and the changes of other tables are not signals", async () => {
    for (const mode of ["AIRGAP", "LOCKDOWN", "OPEN", "RESTRICTED"] as const) {
      await agent.call("apply", { mode });
      await agent.call("heartbeat");
    }
    netns.exec("nft", "add table inet other; add chain inet other c; add rule inet other c accept");
    netns.exec("nft", "delete table inet other");
    await delay(100);
    expect(await agent.call("signals")).toEqual([]);
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

  test("stopping leaves no monitor behind", async () => {
    await agent.call("unwatch");
    expect(await agent.call("children")).toEqual([]);
  });
});
