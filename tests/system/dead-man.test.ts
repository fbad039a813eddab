import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { AILMENTS, ail, ailingEnvironment, NO_MEMORY_LIMIT } from "../support/daemon-ailments.ts";
import { createHome, type DaemonHome, type DaemonProcess, startDaemon } from "../support/daemon-process.ts";
import {
  ALL_PATHS,
  createHostBetween,
  foreignNft,
  type HostBetween,
  inBothFamilies,
  probe,
} from "../support/host-between.ts";
import { NO_NETNS, removeNetns } from "../support/netns.ts";
import { delay, eventually, stopAgents } from "../support/packets.ts";

const DEAD_MAN_MS = 1_000;
const CONFIG = {
  initialMode: "OPEN",
  enforcement: { network: true, deadManMs: DEAD_MAN_MS, heartbeatMs: 200 },
};

describe.skipIf(NO_NETNS !== "")(`the dead-man of the real daemon (${NO_NETNS || "namespaces"})`, () => {
  let between: HostBetween;
  let home: DaemonHome;
  let daemon: DaemonProcess;

  beforeAll(async () => {
    between = await createHostBetween();
  });
  afterEach(async () => {
    await daemon.kill();
    home.remove();
    foreignNft(between, "flush ruleset");
  });
  afterAll(async () => {
    await stopAgents();
    removeNetns();
  });

  describe.each(AILMENTS)("%s", (ailment) => {
    const missing = ailment === "out-of-memory kill" ? NO_MEMORY_LIMIT : "";

    test.skipIf(missing !== "")(`closes every path in both families ${missing}`, async () => {
      home = createHome(CONFIG);
      daemon = await startDaemon(home, { netns: between.netns.host.name, env: ailingEnvironment(ailment) });
      // alive, it keeps them open well past the dead-man's time
      await delay(1.5 * DEAD_MAN_MS);
      expect((await probe(between)).toSorted()).toEqual(inBothFamilies(ALL_PATHS).toSorted());
      await ail(daemon, ailment);
      expect(await eventually(async () => (await probe(between)).length === 0)).toBe(true);
      const counters = between.netns.host.exec("nft", "list", "counters");
      expect(Number(/no_heartbeat \{\s+packets (\d+)/.exec(counters)?.[1])).toBeGreaterThan(0);
    });
  });
});
