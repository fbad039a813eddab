import type { IsolationInput } from "../../daemon/core/isolation.ts";
import { connect, createNetns, type Netns, setSysctl } from "./netns.ts";
import { type Agent, delay, startAgent } from "./packets.ts";
import type { PacketKind } from "./raw-socket.ts";

/**
 * Three domains and a neighbour that is of none, each a namespace, around a router in which the rules are loaded:
 * ct (ct1) ─ (ct0) router (pt0) ─ (pt1) pt, and so mgmt and other.
 */
export const OUTER = ["ct", "pt", "mgmt", "other"] as const;
export type Outer = (typeof OUTER)[number];
export type Place = Outer | "router";
export type Family = 4 | 6;

export type Domains = {
  readonly netns: Readonly<Record<Place, Netns>>;
  readonly agents: Record<Place, Agent>;
  /** By place and what arrives there. */
  readonly sockets: ReadonlyMap<string, number>;
};

const NUMBER: Readonly<Record<Outer, number>> = { ct: 1, pt: 2, mgmt: 3, other: 4 };

/** Of an outer place, or of the router towards it. */
export function addressOf(place: Outer, end: Outer | "router", family: Family): string {
  const host = end === "router" ? 2 : 1;
  return family === 4 ? `10.83.${NUMBER[place]}.${host}` : `fd83:${NUMBER[place]}::${host}`;
}

/** What is sent, each with what receives it. */
export const KINDS = {
  "udp 500": { kind: "udp", port: 500, protocol: 17 },
  "udp 4500": { kind: "udp", port: 4_500, protocol: 17 },
  "udp 9999": { kind: "udp", port: 9_999, protocol: 17 },
  "tcp 500": { kind: "tcp-new", port: 500, protocol: 6 },
  "tcp 22": { kind: "tcp-new", port: 22, protocol: 6 },
  icmp: { kind: "icmp", port: 0, protocol: 1 },
  icmpv6: { kind: "icmpv6", port: 0, protocol: 58 },
  esp: { kind: "esp", port: 0, protocol: 50 },
  sctp: { kind: "sctp", port: 0, protocol: 132 },
} as const satisfies Record<string, { kind: PacketKind; port: number; protocol: number }>;
export type Kind = keyof typeof KINDS;

export type Case = { readonly from: Place; readonly to: Place; readonly kind: Kind; readonly family: Family };

const PLACES: readonly Place[] = [...OUTER, "router"];

/** Every kind, every way, both families. */
export const CASES: readonly Case[] = PLACES.flatMap((from) =>
  PLACES.filter((to) => to !== from).flatMap((to) =>
    (Object.keys(KINDS) as Kind[]).flatMap((kind) =>
      familiesOf(kind).map((family) => ({ from, to, kind, family })),
    ),
  ),
);

export function nameOf({ from, to, kind, family }: Case): string {
  return `${from} > ${to} ${kind}/${family}`;
}

export async function createDomains(): Promise<Domains> {
  const netns = {
    ct: createNetns("ct"),
    pt: createNetns("pt"),
    mgmt: createNetns("mgmt"),
    other: createNetns("other"),
    router: createNetns("router"),
  };
  for (const place of OUTER) {
    const addresses = (end: Outer | "router") => [
      `${addressOf(place, end, 4)}/24`,
      `${addressOf(place, end, 6)}/64`,
    ];
    connect(
      { netns: netns[place], link: `${place}1`, addresses: addresses(place) },
      { netns: netns.router, link: `${place}0`, addresses: addresses("router") },
    );
    netns[place].exec("ip", "route", "add", "default", "via", addressOf(place, "router", 4));
    netns[place].exec("ip", "-6", "route", "add", "default", "via", addressOf(place, "router", 6));
  }
  setSysctl(netns.router, "net/ipv4/ip_forward", "1");
  setSysctl(netns.router, "net/ipv6/conf/all/forwarding", "1");
  const agents = {
    ct: startAgent(netns.ct),
    pt: startAgent(netns.pt),
    mgmt: startAgent(netns.mgmt),
    other: startAgent(netns.other),
    router: startAgent(netns.router),
  };
  const sockets = new Map<string, number>();
  for (const place of PLACES) {
    for (const kind of Object.keys(KINDS) as Kind[]) {
      for (const family of familiesOf(kind)) {
        const { protocol } = KINDS[kind];
        const key = `${place} ${protocol} ${family}`;
        if (sockets.has(key)) continue;
        sockets.set(key, await agents[place].call("openRaw", { family, protocol }));
      }
    }
  }
  return { netns, agents, sockets };
}

let runs = 0;

/** Sends each as a packet of a raw socket, and says which have arrived. */
export async function arrived(
  { agents, sockets }: Domains,
  cases: readonly Case[] = CASES,
): Promise<readonly string[]> {
  runs += 1;
  const run = runs;
  for (const each of cases) {
    const { kind, port, protocol } = KINDS[each.kind];
    await agents[each.from].call("sendRaw", {
      fd: sockets.get(`${each.from} ${protocol} ${each.family}`) ?? -1,
      family: each.family,
      to: targetOf(each),
      kind,
      port,
      token: `[${run} ${nameOf(each)}]`,
    });
  }
  await delay(50);
  const seen = new Map<string, string>();
  for (const [key, fd] of sockets) {
    const [place] = key.split(" ") as [Place];
    seen.set(key, (await agents[place].call("drain", { fd })).join(""));
  }
  return cases
    .filter((each) =>
      seen
        .get(`${each.to} ${KINDS[each.kind].protocol} ${each.family}`)
        ?.includes(`[${run} ${nameOf(each)}]`),
    )
    .map(nameOf);
}

function targetOf({ from, to, family }: Case): string {
  if (to === "router") return addressOf(from === "router" ? "ct" : from, "router", family);
  return addressOf(to, to, family);
}

function familiesOf(kind: Kind): readonly Family[] {
  return kind === "icmp" ? [4] : kind === "icmpv6" ? [6] : [4, 6];
}

/** The shipped example, with the links of this world. */
export const IKE_AND_ESP: IsolationInput = {
  domains: [
    { name: "CT", interfaces: ["ct0"], host: false, unaffected: false },
    { name: "PT", interfaces: ["pt0"], host: false, unaffected: false },
    { name: "MGMT", interfaces: ["mgmt0"], host: false, unaffected: true },
  ],
  passes: [
    { between: ["PT", "CT"], protocol: "udp", port: 500 },
    { between: ["PT", "CT"], protocol: "udp", port: 4_500 },
    { between: ["PT", "CT"], protocol: "esp" },
  ],
};
