import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { createHostBetween, foreignNft, type HostBetween } from "../support/host-between.ts";
import { createLeakMeter, type LeakMeter } from "../support/leaks.ts";
import { NO_NETNS, removeNetns } from "../support/netns.ts";
import { delay, stopAgents } from "../support/packets.ts";

const MODES = ["AIRGAP", "LOCKDOWN", "TRUSTED", "COLDROOM"] as const;
const CHANGES = 1_000;

/** In, out and through the host at full rate, while nothing of it may pass in any of the modes. */
describe.skipIf(NO_NETNS !== "")(`leaks between modes (${NO_NETNS || "namespaces"})`, () => {
  let world: HostBetween;
  let meter: LeakMeter;

  beforeAll(async () => {
    world = await createHostBetween();
    meter = await createLeakMeter(world);
    await world.agents.host.call("enforce", {
      network: { trustedInterfaces: [], deny: [], allow: [] },
      timeoutMs: 60_000,
    });
  });
  beforeEach(async () => {
    await world.agents.host.call("apply", { mode: "LOCKDOWN" });
    await delay(50);
    await meter.heard();
  });
  afterAll(async () => {
    await stopAgents();
    removeNetns();
  });

  test("control: the same flood arrives where a mode lets it, and through the gaps of a careless change", async () => {
    const open = await meter.flooded(() => world.agents.host.call("apply", { mode: "OPEN" }));
    expect(open.leaked).toBeGreaterThan(0);
    await world.agents.host.call("apply", { mode: "LOCKDOWN" });
    await meter.heard();
    const careless = await meter.flooded(() =>
      world.agents.host.call("applyMany", { modes: MODES, times: 100, gap: true }),
    );
    expect(careless.leaked).toBeGreaterThan(0);
  });

  test(`${CHANGES} mode changes leak nothing`, async () => {
    let confirmed = 0;
    const { tried, leaked } = await meter.flooded(async () => {
      confirmed = await world.agents.host.call("applyMany", { modes: MODES, times: CHANGES });
    });
    expect({ confirmed, leaked }).toEqual({ confirmed: CHANGES, leaked: 0 });
    expect(tried).toBeGreaterThan(CHANGES); // it was sending all the while
  });

  test("nor do changes between shadow's end and a mode, once the mode is confirmed", async () => {
    const shadow = { hold: "shadow", keep: null } as const;
    await world.agents.host.call("apply", { mode: "AIRGAP", how: shadow });
    const open = await meter.flooded(() => delay(50));
    expect(open.leaked).toBeGreaterThan(0);
    await world.agents.host.call("apply", { mode: "AIRGAP" });
    await meter.heard();
    expect((await meter.flooded(() => delay(100))).leaked).toBe(0);
    foreignNft(world, "flush ruleset");
  });
});
