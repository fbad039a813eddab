import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import {
  ADDRESS,
  createHostBetween,
  foreignNft,
  type HostBetween,
  knowNeighbours,
} from "../support/host-between.ts";
import { NO_NETNS, removeNetns } from "../support/netns.ts";
import { type Agent, delay, startAgent, stopAgents } from "../support/packets.ts";

const MODES = ["AIRGAP", "LOCKDOWN", "TRUSTED", "COLDROOM"] as const;
const PORT = 9_100;
const CHANGES = 1_000;

/** In, out and through the host at full rate, while nothing of it may pass in any of the modes. */
describe.skipIf(NO_NETNS !== "")(`leaks between modes (${NO_NETNS || "namespaces"})`, () => {
  let world: HostBetween;
  let sender: Agent;
  const ears: { readonly agent: Agent; readonly fd: number }[] = [];

  beforeAll(async () => {
    world = await createHostBetween();
    knowNeighbours(world);
    sender = startAgent(world.netns.host);
    for (const agent of [world.agents.left, world.agents.host, world.agents.right]) {
      for (const family of [4, 6] as const)
        ears.push({ agent, fd: await agent.call("openRaw", { family, protocol: 17 }) });
    }
    await world.agents.host.call("enforce", {
      network: { trustedInterfaces: [], deny: [], allow: [] },
      timeoutMs: 60_000,
    });
  });
  beforeEach(async () => {
    await world.agents.host.call("apply", { mode: "LOCKDOWN" });
    await delay(50);
    await heard();
  });
  afterAll(async () => {
    await stopAgents();
    removeNetns();
  });

  async function heard(): Promise<number> {
    let count = 0;
    for (const { agent, fd } of ears) count += (await agent.call("drain", { fd })).length;
    return count;
  }

  async function flooded(act: () => Promise<unknown>): Promise<{ tried: number; leaked: number }> {
    const both = (to: keyof typeof ADDRESS) =>
      ([4, 6] as const).map((family) => ({ family, to: ADDRESS[to][family], port: PORT }));
    await world.agents.left.call("flood", { targets: [...both("hostLeft"), ...both("right")] });
    await sender.call("flood", { targets: [...both("left"), ...both("right")] });
    await act();
    const counts = [await world.agents.left.call("floodStop"), await sender.call("floodStop")];
    await delay(50);
    return { tried: counts.reduce((sum, { tried }) => sum + tried, 0), leaked: await heard() };
  }

  test("control: the same flood arrives where a mode lets it, and through the gaps of a careless change", async () => {
    const open = await flooded(() => world.agents.host.call("apply", { mode: "OPEN" }));
    expect(open.leaked).toBeGreaterThan(0);
    await world.agents.host.call("apply", { mode: "LOCKDOWN" });
    await heard();
    const careless = await flooded(() =>
      world.agents.host.call("applyMany", { modes: MODES, times: 100, gap: true }),
    );
    expect(careless.leaked).toBeGreaterThan(0);
  });

  test(`${CHANGES} mode changes leak nothing`, async () => {
    let confirmed = 0;
    const { tried, leaked } = await flooded(async () => {
      confirmed = await world.agents.host.call("applyMany", { modes: MODES, times: CHANGES });
    });
    expect({ confirmed, leaked }).toEqual({ confirmed: CHANGES, leaked: 0 });
    expect(tried).toBeGreaterThan(CHANGES); // it was sending all the while
  });

  test("nor do changes between shadow's end and a mode, once the mode is confirmed", async () => {
    const shadow = { hold: "shadow", keep: null } as const;
    await world.agents.host.call("apply", { mode: "AIRGAP", how: shadow });
    const open = await flooded(() => delay(50));
    expect(open.leaked).toBeGreaterThan(0);
    await world.agents.host.call("apply", { mode: "AIRGAP" });
    await heard();
    expect((await flooded(() => delay(100))).leaked).toBe(0);
    foreignNft(world, "flush ruleset");
  });
});
