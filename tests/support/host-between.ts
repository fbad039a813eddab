import { connect, createNetns, type Netns, setSysctl } from "./netns.ts";
import { type Agent, delay, startAgent } from "./packets.ts";

/**
 * A host with a neighbour on either side, which forwards between them:
 * left (l1) ─ (l0) host (r0) ─ (r1) right. The rules under test are loaded in the host.
 */
export type HostBetween = {
  readonly netns: { readonly left: Netns; readonly host: Netns; readonly right: Netns };
  readonly agents: { readonly left: Agent; host: Agent; readonly right: Agent };
};

type Place = keyof HostBetween["netns"];

export const PORT = 9_000;
export const ADDRESS = {
  left: { 4: "10.81.1.1", 6: "fd81:1::1" },
  hostLeft: { 4: "10.81.1.2", 6: "fd81:1::2" },
  hostRight: { 4: "10.81.2.2", 6: "fd81:2::2" },
  right: { 4: "10.81.2.1", 6: "fd81:2::1" },
  loopback: { 4: "127.0.0.1", 6: "::1" },
} as const;

/** Who sends to whom. "in" and "out" are the host's, "through" is forwarded by it. */
export const PATHS = {
  "in from left": { from: "left", at: "host", to: "hostLeft" },
  "in from right": { from: "right", at: "host", to: "hostRight" },
  "out to left": { from: "host", at: "left", to: "left" },
  "out to right": { from: "host", at: "right", to: "right" },
  "through to right": { from: "left", at: "right", to: "right" },
  "through to left": { from: "right", at: "left", to: "left" },
  loopback: { from: "host", at: "host", to: "loopback" },
} as const satisfies Record<string, { from: Place; at: Place; to: keyof typeof ADDRESS }>;

export type Path = keyof typeof PATHS;
export const ALL_PATHS = Object.keys(PATHS) as readonly Path[];

export async function createHostBetween(): Promise<HostBetween> {
  const netns = { left: createNetns("left"), host: createNetns("host"), right: createNetns("right") };
  connect(
    { netns: netns.left, link: "l1", addresses: bothFamilies("left") },
    { netns: netns.host, link: "l0", addresses: bothFamilies("hostLeft") },
  );
  connect(
    { netns: netns.right, link: "r1", addresses: bothFamilies("right") },
    { netns: netns.host, link: "r0", addresses: bothFamilies("hostRight") },
  );
  setSysctl(netns.host, "net/ipv4/ip_forward", "1");
  setSysctl(netns.host, "net/ipv6/conf/all/forwarding", "1");
  for (const [side, via] of [
    ["left", "hostLeft"],
    ["right", "hostRight"],
  ] as const) {
    netns[side].exec("ip", "route", "add", "default", "via", ADDRESS[via][4]);
    netns[side].exec("ip", "-6", "route", "add", "default", "via", ADDRESS[via][6]);
  }
  const agents = {
    left: startAgent(netns.left),
    host: startAgent(netns.host),
    right: startAgent(netns.right),
  };
  await Promise.all(Object.values(agents).map(listen));
  return { netns, agents };
}

/** Has an agent receive UDP and echo TCP on every address, both families. */
export async function listen(agent: Agent): Promise<void> {
  await agent.call("listenUdp", { family: 4, address: "0.0.0.0", port: PORT });
  await agent.call("listenUdp", { family: 6, address: "::", port: PORT });
  await agent.call("listenTcp", { address: "::", port: PORT });
}

function bothFamilies(place: Exclude<keyof typeof ADDRESS, "loopback">): readonly string[] {
  return [`${ADDRESS[place][4]}/24`, `${ADDRESS[place][6]}/64`];
}

/** Has each side know the others' link addresses for good, as if ARP and neighbour discovery had been answered. */
export function knowNeighbours({ netns }: HostBetween): void {
  const wires = [
    ["left", "l1", "hostLeft", "host", "l0"],
    ["host", "l0", "left", "left", "l1"],
    ["right", "r1", "hostRight", "host", "r0"],
    ["host", "r0", "right", "right", "r1"],
  ] as const;
  for (const [here, link, other, there, itsLink] of wires) {
    const address = linkAddress(netns[there], itsLink);
    for (const family of [4, 6] as const) {
      const neighbour = [ADDRESS[other][family], "lladdr", address, "dev", link, "nud", "permanent"];
      netns[here].exec("ip", "neigh", "replace", ...neighbour);
    }
  }
}

/** "aa:bb:cc:dd:ee:ff" */
export function linkAddress(netns: Netns, link: string): string {
  return netns.exec("cat", `/sys/class/net/${link}/address`).trim();
}

let tokens = 0;

/**
 * Sends a datagram along every path in both families and says which arrived: "in from left/4". A packet over veth
 * arrives within the sender's system call, so a short wait is enough; the control run without rules shows that it is.
 */
export async function probe(
  { agents }: HostBetween,
  paths: readonly Path[] = ALL_PATHS,
): Promise<readonly string[]> {
  tokens += 1;
  const run = tokens;
  const probes = paths.flatMap((path) => ([4, 6] as const).map((family) => ({ path, family })));
  for (const { path, family } of probes) {
    const { from, to } = PATHS[path];
    await agents[from].call("sendUdp", {
      family,
      to: ADDRESS[to][family],
      port: PORT,
      token: `${run} ${path}/${family}`,
    });
  }
  await delay(50);
  const got = {
    left: await agents.left.call("received"),
    host: await agents.host.call("received"),
    right: await agents.right.call("received"),
  };
  return probes
    .filter(({ path, family }) => got[PATHS[path].at].includes(`${run} ${path}/${family}`))
    .map(({ path, family }) => `${path}/${family}`);
}

export function inBothFamilies(paths: readonly Path[]): readonly string[] {
  return paths.flatMap((path) => [`${path}/4`, `${path}/6`]);
}

/** Loads a script with the nft program in the host's namespace, as somebody else would. */
export function foreignNft({ netns }: HostBetween, command: string): void {
  netns.host.exec("nft", command);
}
