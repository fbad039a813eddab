import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Config } from "../../daemon/core/config.ts";
import { MODES, type Mode } from "../../daemon/core/mode.ts";
import { posture } from "../../daemon/core/posture.ts";
import { type Packet, wouldPass } from "../../daemon/core/would-pass.ts";
import {
  ADDRESS,
  ALL_PATHS,
  createHostBetween,
  foreignNft,
  type HostBetween,
  knowNeighbours,
  PATHS,
  type Path,
} from "../support/host-between.ts";
import { NO_NETNS, removeNetns } from "../support/netns.ts";
import { delay, stopAgents } from "../support/packets.ts";
import type { PacketKind } from "../support/raw-socket.ts";

/**
 * Mode × path × protocol × family × new or established, each as a packet of a raw socket: what arrives is what the pure
 * model says. Neighbours are known for good, so that it is the rules that stop a packet and never a missing address.
 */
type Network = Config["network"];
type Family = 4 | 6;
type Place = keyof HostBetween["agents"];

const KINDS: Readonly<
  Record<PacketKind, { number: number; protocol: string; port: number | null; families: readonly Family[] }>
> = {
  udp: { number: 17, protocol: "udp", port: 9_000, families: [4, 6] },
  "tcp-new": { number: 6, protocol: "tcp", port: 9_000, families: [4, 6] },
  "tcp-established": { number: 6, protocol: "tcp", port: 9_000, families: [4, 6] },
  icmp: { number: 1, protocol: "icmp", port: null, families: [4] },
  icmpv6: { number: 58, protocol: "icmpv6", port: null, families: [6] },
  esp: { number: 50, protocol: "esp", port: null, families: [4, 6] },
  sctp: { number: 132, protocol: "sctp", port: null, families: [4, 6] },
};
const ALL_KINDS = Object.keys(KINDS) as readonly PacketKind[];
const CASES = ALL_PATHS.flatMap((path) =>
  ALL_KINDS.flatMap((kind) => KINDS[kind].families.map((family) => ({ path, kind, family }))),
);
type Case = (typeof CASES)[number];

const NETWORKS: Readonly<Record<string, Partial<Network>>> = {
  "nothing listed": {},
  "a trusted link": { trustedInterfaces: ["r0"] },
  "both links trusted, a port, a protocol and an address denied": {
    trustedInterfaces: ["l0", "r0"],
    deny: [
      { protocol: "tcp", port: "8999-9001" },
      { protocol: "esp", interface: "l0" },
      { address: "fd81:2::/64", protocol: "icmpv6" },
      "10.81.1.1",
    ],
  },
  "one way denied": { trustedInterfaces: ["l0", "r0"], deny: [{ interface: "l0", direction: "in" }] },
  "a little allowed": {
    allow: [
      { protocol: "udp", port: 9_000, interface: "r0" },
      { protocol: "tcp", port: 9_000, direction: "in" },
      { address: "10.81.2.0/24", protocol: "icmp" },
      { address: "fd81:1::1", direction: "out", protocol: "sctp" },
    ],
    deny: [{ address: "10.81.1.0/24", protocol: "tcp" }],
  },
};

describe.skipIf(NO_NETNS !== "")(`the packet matrix (${NO_NETNS || "namespaces"})`, () => {
  let world: HostBetween;
  const sockets = new Map<string, number>();

  beforeAll(async () => {
    world = await createHostBetween();
    knowNeighbours(world);
    for (const place of ["left", "host", "right"] as const) {
      for (const kind of ALL_KINDS) {
        for (const family of KINDS[kind].families) {
          const fd = await world.agents[place].call("openRaw", { family, protocol: KINDS[kind].number });
          sockets.set(`${place} ${kind} ${family}`, fd);
        }
      }
    }
  });
  afterAll(async () => {
    await stopAgents();
    removeNetns();
  });

  const fdOf = (place: Place, { kind, family }: Case) => sockets.get(`${place} ${kind} ${family}`) ?? -1;

  async function arrived(run: string): Promise<readonly Case[]> {
    for (const each of CASES) {
      const { from, to } = PATHS[each.path];
      const target = { family: each.family, to: ADDRESS[to][each.family] };
      const token = `[${run} ${each.path} ${each.kind}]`;
      await world.agents[from].call("sendRaw", { fd: fdOf(from, each), ...target, kind: each.kind, token });
    }
    await delay(50);
    const seen = new Map<string, string>();
    for (const [name, fd] of sockets) {
      const [place] = name.split(" ") as [Place];
      seen.set(name, (await world.agents[place].call("drain", { fd })).join(""));
    }
    return CASES.filter(({ path, kind, family }) =>
      seen.get(`${PATHS[path].at} ${kind} ${family}`)?.includes(`[${run} ${path} ${kind}]`),
    );
  }

  test("control run: without rules everything arrives", async () => {
    foreignNft(world, "flush ruleset");
    expect((await arrived("control")).map(name)).toEqual(CASES.map(name));
  });

  describe.each(Object.keys(NETWORKS))("%s", (listed) => {
    const network: Network = { trustedInterfaces: [], deny: [], allow: [], ...NETWORKS[listed] };

    test.each(MODES)("%s", async (mode) => {
      await world.agents.host.call("enforce", { network, timeoutMs: 60_000 });
      expect(await world.agents.host.call("apply", { mode })).toEqual({ ok: true, how: "kernel" });
      expect(await world.agents.host.call("leftOut")).toEqual([]);
      const expected = CASES.filter((each) => passes(mode, network, each));
      expect((await arrived(`${listed} ${mode}`)).map(name)).toEqual(expected.map(name));
    });
  });
});

function passes(mode: Mode, network: Network, each: Case): boolean {
  return packetsOf(each).every((packet) => wouldPass(posture(mode), network, packet).pass);
}

/** The packet as the host meets it: twice on its own loopback. */
function packetsOf({ path, kind, family }: Case): readonly Packet[] {
  const { protocol, port } = KINDS[kind];
  const packet = { family, protocol, port, uid: 0, cgroup: null, loopback: false };
  const [left, right] = [ADDRESS.left[family], ADDRESS.right[family]];
  const [hostLeft, hostRight] = [ADDRESS.hostLeft[family], ADDRESS.hostRight[family]];
  const local = ADDRESS.loopback[family];
  const table: Readonly<Record<Path, readonly Packet[]>> = {
    "in from left": [
      { ...packet, direction: "in", localAddress: hostLeft, remoteAddress: left, interface: "l0" },
    ],
    "in from right": [
      { ...packet, direction: "in", localAddress: hostRight, remoteAddress: right, interface: "r0" },
    ],
    "out to left": [
      { ...packet, direction: "out", localAddress: hostLeft, remoteAddress: left, interface: "l0" },
    ],
    "out to right": [
      { ...packet, direction: "out", localAddress: hostRight, remoteAddress: right, interface: "r0" },
    ],
    "through to right": [
      {
        ...packet,
        direction: "forward",
        remoteAddress: left,
        localAddress: right,
        interface: "l0",
        outInterface: "r0",
      },
    ],
    "through to left": [
      {
        ...packet,
        direction: "forward",
        remoteAddress: right,
        localAddress: left,
        interface: "r0",
        outInterface: "l0",
      },
    ],
    loopback: (["out", "in"] as const).map((direction) => ({
      ...packet,
      direction,
      localAddress: local,
      remoteAddress: local,
      interface: "lo",
      loopback: true,
    })),
  };
  return table[path];
}

function name({ path, kind, family }: Case): string {
  return `${path} ${kind}/${family}`;
}
