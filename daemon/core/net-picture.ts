import { z } from "zod";
import { guessName, readingsOf, renderShown } from "./link-name.ts";
import {
  type Address,
  countsAsRoute,
  type Link,
  type NetEvent,
  type Route,
  routeFamily,
  type ShownLink,
  toDestination,
} from "./net-events.ts";
import type { Facts, SignalKind } from "./signal.ts";

/** The links, addresses and routes of the host, as far as we have been told. */
export type Picture = {
  /** By interface index. */
  readonly links: ReadonlyMap<number, Link>;
  readonly addresses: ReadonlyMap<string, Address>;
  readonly routes: ReadonlyMap<string, Route>;
};

export type NetChange = {
  readonly kind: Extract<SignalKind, `network.${string}`>;
  readonly facts: Facts;
};

export type Applied = {
  readonly picture: Picture;
  readonly changes: readonly NetChange[];
  /**
   * Why the picture may be wrong now, and needs a fresh look; null when it is sure. "renamed": routes name their
   * interface, and a running `ip monitor` goes on using the name it knew first: it has to be started anew.
   * "ambiguous": the name of a link was guessed.
   */
  readonly unsure: "not understood" | "renamed" | "ambiguous" | "left its bridge" | "too many" | null;
};

/** Of each kind. More are not kept, and make the picture unsure. */
export const MAX_ENTRIES = 4_096;

/** What one event of the kernel changes. Repeats change nothing. */
export function applyEvent(picture: Picture, event: NetEvent): Applied {
  switch (event.kind) {
    case "link":
      return event.gone ? removeLink(picture, event) : putLink(picture, event.link);
    case "address":
      return changeAddress(picture, event);
    case "routes":
      return changeRoutes(picture, event);
    case "ignored":
      return { picture, changes: [], unsure: null };
    case "unknown":
      return { picture, changes: [], unsure: "not understood" };
  }
}

/** How two pictures differ, as the changes that lead from one to the other. */
export function diffPictures(before: Picture, after: Picture): readonly NetChange[] {
  const links = [...new Set([...before.links.keys(), ...after.links.keys()])].flatMap((index) =>
    linkChanges(before.links.get(index), after.links.get(index)),
  );
  const addresses = [
    ...missing(after.addresses, before.addresses).map((one) => addressChange(before, one, "removed")),
    ...missing(before.addresses, after.addresses).map((one) => addressChange(after, one, "added")),
  ];
  const routes = [
    ...missing(after.routes, before.routes).map((one) => routeChange(one, "removed")),
    ...missing(before.routes, after.routes).map((one) => routeChange(one, "added")),
  ];
  return [...links, ...addresses, ...routes];
}

/** Whether a link goes by another name in the second picture. */
export function hasRenamed(before: Picture, after: Picture): boolean {
  return [...after.links].some(([index, { name }]) => (before.links.get(index)?.name ?? name) !== name);
}

const AddressDump = z.array(
  z.object({
    ifindex: z.number().int(),
    ifname: z.string().min(1),
    link: z.string().nullable().optional(),
    link_index: z.number().int().optional(),
    flags: z.array(z.string()),
    addr_info: z
      .array(
        z.object({
          family: z.enum(["inet", "inet6"]),
          local: z.string(),
          prefixlen: z.number().int().min(0).max(128),
        }),
      )
      .default([]),
  }),
);

const Hop = z.object({
  gateway: z.string().default(""),
  via: z.object({ host: z.string() }).optional(),
  dev: z.string().default(""),
});

const RouteDump = z.array(
  Hop.extend({
    type: z.string().default("unicast"),
    dst: z.string(),
    table: z.string().default("main"),
    metric: z.number().optional(),
    pref: z.string().optional(),
    nexthops: z.array(Hop).optional(),
  }),
);

/**
 * From `ip -json address show` and `ip -json route show table all`, parsed. Throws a ZodError or RangeError when
 * they are not what they should be: the picture is then unknown.
 */
export function parseDumps(addressDump: unknown, routeDump: unknown): Picture {
  const interfaces = AddressDump.parse(addressDump);
  const links = interfaces.map((one): Link => {
    const up = one.flags.includes("UP");
    const shown = renderShown(one.ifname, one.link, one.link_index);
    return { index: one.ifindex, name: one.ifname, shown, up, carrier: up && one.flags.includes("LOWER_UP") };
  });
  const addresses = interfaces.flatMap((one) =>
    one.addr_info.map((info): Address => {
      const family = info.family === "inet" ? "ipv4" : "ipv6";
      return { index: one.ifindex, name: one.ifname, address: `${info.local}/${info.prefixlen}`, family };
    }),
  );
  const routes = RouteDump.parse(routeDump)
    .filter((route) => countsAsRoute(route.type))
    .flatMap(toRoutes);
  if (Math.max(links.length, addresses.length, routes.length) > MAX_ENTRIES) {
    throw new RangeError(`more than ${MAX_ENTRIES} links, addresses or routes`);
  }
  return {
    links: new Map(links.map((link) => [link.index, link])),
    addresses: new Map(addresses.map((address) => [addressKey(address), address])),
    routes: new Map(routes.map((route) => [routeKey(route), route])),
  };
}

function toRoutes(dump: z.infer<typeof RouteDump>[number]): readonly Route[] {
  const hops = dump.nexthops ?? [dump];
  const family = routeFamily(dump.dst, hops[0] ? nextHop(hops[0]) : "", dump.pref !== undefined);
  const destination = toDestination(dump.dst, family);
  if (destination === null) throw new RangeError(`a route to ${JSON.stringify(dump.dst)}`);
  const unicast = dump.type === "unicast";
  return hops.map((hop) => ({
    family,
    destination,
    via: unicast ? nextHop(hop) : dump.type,
    interface: unicast ? hop.dev : "",
    table: dump.table,
    metric: dump.metric === undefined ? "" : String(dump.metric),
  }));
}

function nextHop(hop: z.infer<typeof Hop>): string {
  return hop.gateway || (hop.via?.host ?? "");
}

function putLink(picture: Picture, told: ShownLink): Applied {
  const before = picture.links.get(told.index);
  const isLink = (name: string) => [...picture.links.values()].some((one) => one.name === name);
  const link: Link = { ...told, name: guessName(told.shown, before?.name, isLink) };
  // shown as before, a known link is the one we know
  const guessed = readingsOf(told.shown).length > 1 && before?.shown !== told.shown;
  if (before === undefined && picture.links.size >= MAX_ENTRIES) return full(picture);
  const links = new Map(picture.links).set(link.index, link);
  const changes = linkChanges(before, link);
  if (before !== undefined && before.name !== link.name) {
    return { picture: { ...picture, links }, changes, unsure: "renamed" };
  }
  const unsure = guessed ? "ambiguous" : null;
  if (before === undefined || !before.up || link.up) {
    return { picture: { ...picture, links }, changes, unsure };
  }
  // IPv4 routes over a link that is switched off go without a word from the kernel; IPv6 ones are told
  const lost = [...picture.routes.values()].filter((r) => r.interface === link.name && r.family === "ipv4");
  const routes = without(picture.routes, lost.map(routeKey));
  return {
    picture: { ...picture, links, routes },
    changes: [...changes, ...lost.map((route) => routeChange(route, "removed"))],
    unsure,
  };
}

function removeLink(picture: Picture, event: Extract<NetEvent, { kind: "link" }>): Applied {
  const before = picture.links.get(event.link.index);
  // a port that leaves its bridge is told as a deleted link that still has a master
  if (event.enslaved) return { picture, changes: [], unsure: "left its bridge" };
  if (before === undefined) return { picture, changes: [], unsure: null };
  const next: Picture = {
    links: without(picture.links, [before.index]),
    addresses: new Map([...picture.addresses].filter(([, one]) => one.index !== before.index)),
    routes: new Map([...picture.routes].filter(([, route]) => route.interface !== before.name)),
  };
  return { picture: next, changes: diffPictures(picture, next), unsure: null };
}

function changeAddress(picture: Picture, event: Extract<NetEvent, { kind: "address" }>): Applied {
  const key = addressKey(event.address);
  const known = picture.addresses.has(key);
  if (known !== event.gone) return { picture, changes: [], unsure: null };
  if (!event.gone && picture.addresses.size >= MAX_ENTRIES) return full(picture);
  const addresses = event.gone
    ? without(picture.addresses, [key])
    : new Map(picture.addresses).set(key, event.address);
  const change = addressChange(picture, event.address, event.gone ? "removed" : "added");
  return { picture: { ...picture, addresses }, changes: [change], unsure: null };
}

function changeRoutes(picture: Picture, event: Extract<NetEvent, { kind: "routes" }>): Applied {
  const news = event.routes.filter((route) => picture.routes.has(routeKey(route)) === event.gone);
  if (news.length === 0) return { picture, changes: [], unsure: null };
  if (!event.gone && picture.routes.size + news.length > MAX_ENTRIES) return full(picture);
  const routes = event.gone
    ? without(picture.routes, news.map(routeKey))
    : new Map([...picture.routes, ...news.map((route) => [routeKey(route), route] as const)]);
  const changes = news.map((route) => routeChange(route, event.gone ? "removed" : "added"));
  return { picture: { ...picture, routes }, changes, unsure: null };
}

function full(picture: Picture): Applied {
  return { picture, changes: [], unsure: "too many" };
}

/** A carrier that comes is "up", also when the link was switched on before: that is when the cable goes in. */
function linkChanges(before: Link | undefined, after: Link | undefined): readonly NetChange[] {
  if (before === undefined && after === undefined) return [];
  if (after === undefined) return before === undefined ? [] : [linkChange(before, "removed")];
  if (before === undefined) {
    const added = linkChange(after, "added");
    return after.up ? [added, linkChange(after, "up")] : [added];
  }
  if (before.name !== after.name) return [linkChange(before, "removed"), ...linkChanges(undefined, after)];
  if ((after.up && !before.up) || (after.carrier && !before.carrier)) return [linkChange(after, "up")];
  const lost = (before.up && !after.up) || (before.carrier && !after.carrier);
  return lost ? [linkChange(after, "down")] : [];
}

function linkChange(link: Link, change: "added" | "removed" | "up" | "down"): NetChange {
  return { kind: "network.link", facts: { interface: link.name, change } };
}

function addressChange(picture: Picture, one: Address, change: "added" | "removed"): NetChange {
  const { address, family } = one;
  const name = picture.links.get(one.index)?.name ?? one.name;
  return { kind: "network.address", facts: { interface: name, address, family, change } };
}

function routeChange(route: Route, change: "added" | "removed"): NetChange {
  const { destination, via } = route;
  return { kind: "network.route", facts: { interface: route.interface, destination, via, change } };
}

function addressKey(one: Address): string {
  return `${one.index} ${one.address}`;
}

function routeKey(route: Route): string {
  return [route.table, route.destination, route.via, route.interface, route.metric].join(" ");
}

/** The values of `all` that `some` does not have. */
function missing<Key, Value>(some: ReadonlyMap<Key, Value>, all: ReadonlyMap<Key, Value>): readonly Value[] {
  return [...all].filter(([key]) => !some.has(key)).map(([, value]) => value);
}

function without<Key, Value>(map: ReadonlyMap<Key, Value>, keys: readonly Key[]): ReadonlyMap<Key, Value> {
  const rest = new Map(map);
  for (const key of keys) rest.delete(key);
  return rest;
}
