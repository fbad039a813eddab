import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Hold } from "../../daemon/core/hold.ts";
import type { Mode } from "../../daemon/core/mode.ts";
import {
  ADDRESS,
  createHostBetween,
  type HostBetween,
  knowNeighbours,
  PORT,
} from "../support/host-between.ts";
import { NO_NETNS, removeNetns } from "../support/netns.ts";
import { delay, stopAgents } from "../support/packets.ts";

const TCP = 6;
/** As the raw packets of tests/support/raw-socket.ts have it. */
const FROM_PORT = 40_000;
const KINDS = ["tcp-new", "tcp-established"] as const;
/** Who began the connection that is kept, and so whose raw packets have its addresses and ports. */
const SIDES = {
  in: { from: "left", at: "host", local: "hostLeft", remote: "left" },
  out: { from: "host", at: "left", local: "hostLeft", remote: "left" },
} as const;
type Side = keyof typeof SIDES;

describe.skipIf(NO_NETNS !== "")(`what passes of a kept flow, by packets ${NO_NETNS}`, () => {
  let world: HostBetween;
  const sockets = new Map<string, number>();
  let runs = 0;

  beforeAll(async () => {
    world = await createHostBetween();
    knowNeighbours(world);
    for (const place of ["left", "host"] as const)
      for (const family of [4, 6] as const)
        sockets.set(
          `${place} ${family}`,
          await world.agents[place].call("openRaw", { family, protocol: TCP }),
        );
    await world.agents.host.call("enforce", {
      network: { trustedInterfaces: [], deny: [], allow: [] },
      timeoutMs: 60_000,
    });
  });
  afterAll(async () => {
    await stopAgents();
    removeNetns();
  });

  const targetOf = (side: Side, family: 4 | 6) => ADDRESS[side === "in" ? "hostLeft" : "left"][family];

  async function apply(mode: Mode, side: Side, family: 4 | 6, hold: Hold = "enforcing") {
    const [localPort, remotePort] = side === "in" ? [PORT, FROM_PORT] : [FROM_PORT, PORT];
    const { local, remote } = SIDES[side];
    const localAddress = ADDRESS[local][family];
    const keep = { family, localAddress, localPort, remoteAddress: ADDRESS[remote][family], remotePort };
    const how = hold === "enforcing" ? "kernel" : "observed";
    expect(await world.agents.host.call("apply", { mode, how: { hold, keep } })).toEqual({ ok: true, how });
    // the kernel lists what was loaded
    expect(await world.agents.host.call("check")).toMatchObject({ same: true });
  }

  /** Which of the two kinds arrive: one that opens a connection, and one that belongs to an open one. */
  async function arrives(side: Side, family: 4 | 6): Promise<readonly string[]> {
    runs += 1;
    const { from, at } = SIDES[side];
    const fd = sockets.get(`${from} ${family}`) ?? -1;
    for (const kind of KINDS)
      await world.agents[from].call("sendRaw", {
        fd,
        family,
        to: targetOf(side, family),
        kind,
        token: `[${runs} ${kind}]`,
      });
    await delay(50);
    const seen = (await world.agents[at].call("drain", { fd: sockets.get(`${at} ${family}`) ?? -1 })).join(
      "",
    );
    return KINDS.filter((kind) => seen.includes(`[${runs} ${kind}]`));
  }

  /** A connection with those very addresses and ports, which echoes what it is sent. */
  async function connection(side: Side, family: 4 | 6): Promise<number> {
    const to = targetOf(side, family);
    return world.agents[SIDES[side].from].call("connectTcp", { to, port: PORT, localPort: FROM_PORT });
  }

  describe.each(["in", "out"] as const)("begun %sbound", (side) => {
    test.each([4, 6] as const)("IPv%i: it lives, and nothing is begun on its ports", async (family) => {
      await apply("OPEN", side, family);
      expect(await arrives(side, family)).toEqual(KINDS); // control run
      const flow = await connection(side, family);
      const agent = world.agents[SIDES[side].from];
      for (const mode of ["TRUSTED", "AIRGAP", "COLDROOM"] as const) {
        await apply(mode, side, family);
        expect(await arrives(side, family), mode).toEqual(["tcp-established"]);
        const token = `<${side} ${family} ${mode}>`;
        await agent.call("sendTcp", { flow, token });
        await delay(100);
        expect(await agent.call("echoed")).toContain(token);
      }
      await apply("LOCKDOWN", side, family);
      expect(await arrives(side, family)).toEqual([]);
      await apply("AIRGAP", side, family, "shadow");
      expect(await arrives(side, family)).toEqual(KINDS);
    });
  });
});
