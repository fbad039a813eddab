import { z } from "zod";

/**
 * One line of `ip -o -ts monitor label link address route`, read strictly: a time, a label, and the form that label
 * has. Attributes we do not use may be anything. What does not fit is "unknown": it is counted and looked into.
 */
export type NetEvent =
  | { readonly kind: "link"; readonly gone: boolean; readonly link: ShownLink; readonly enslaved: boolean }
  | { readonly kind: "address"; readonly gone: boolean; readonly address: Address }
  | { readonly kind: "routes"; readonly gone: boolean; readonly routes: readonly Route[] }
  /** A route of a type that counts for nothing here: see `countsAsRoute`. */
  | { readonly kind: "ignored" }
  | { readonly kind: "unknown" };

export type ShownLink = {
  readonly index: number;
  /** "eth0", or attached to another one "veth0@if3": see link-name.ts. */
  readonly shown: string;
  /** Switched on. */
  readonly up: boolean;
  /** Switched on and something at the other end. */
  readonly carrier: boolean;
};

export type Link = ShownLink & { readonly name: string };

export type Address = {
  readonly index: number;
  /** The interface's name at that time: `ip monitor` may go on using the first one it knew. */
  readonly name: string;
  /** "10.0.0.1/24" */
  readonly address: string;
  readonly family: "ipv4" | "ipv6";
};

export type Route = {
  readonly family: "ipv4" | "ipv6";
  /** With its prefix length; "0.0.0.0/0" and "::/0" for the default. */
  readonly destination: string;
  /** Next hop; "" on the link; the type ("blackhole" …) where there is none. */
  readonly via: string;
  /** Interface; "" for a blackhole and its like. */
  readonly interface: string;
  readonly table: string;
  readonly metric: string;
};

const MAX_LINE = 8_192;
const LINE = /^\[\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\] \[(LINK|ADDR|ROUTE)\](Deleted )?(.*)$/;
const LINK = /^(\d{1,10}): ([^\s:/]{1,40}): <([A-Z0-9_,-]*)>(.*)$/;
const ADDRESS = /^(\d{1,10}): (\S{1,40}) +(inet6?) (\S+)(?: peer (\S+))? /;
const TYPES = ["unicast", "blackhole", "unreachable", "prohibit", "throw"];
const IGNORED_TYPES = ["local", "broadcast", "multicast", "anycast"];

export function parseMonitorLine(line: string): NetEvent {
  const parts = line.length > MAX_LINE ? null : LINE.exec(line);
  if (parts === null) return { kind: "unknown" };
  const [, label, deleted, rest = ""] = parts;
  const gone = deleted !== undefined;
  if (label === "LINK") return parseLink(rest, gone);
  return label === "ADDR" ? parseAddress(rest, gone) : parseRoute(rest, gone);
}

/**
 * Which route types count. What the kernel makes of our own addresses (local, broadcast, anycast) and the multicast
 * routes every IPv6 link has come and go with addresses and links, and send nothing off the host. An ordinary route
 * counts in whatever table it is, the local one too.
 */
export function countsAsRoute(type: string): boolean {
  return !IGNORED_TYPES.includes(type);
}

/** A destination as `ip` prints it, in the one form used here; null when it is none. */
export function toDestination(text: string, family: Route["family"]): string | null {
  if (text === "default") return family === "ipv6" ? "::/0" : "0.0.0.0/0";
  return toPrefix(text)?.text ?? null;
}

/** The family of a route: of its destination, or for a default route what only IPv6 ones show. */
export function routeFamily(destination: string, via: string, showsPreference: boolean): Route["family"] {
  if (destination !== "default") return destination.includes(":") ? "ipv6" : "ipv4";
  return showsPreference || via.includes(":") ? "ipv6" : "ipv4";
}

function parseLink(text: string, gone: boolean): NetEvent {
  const parts = LINK.exec(text);
  if (parts === null) return { kind: "unknown" };
  const [, index, shown = "", flagText = "", rest = ""] = parts;
  const flags = flagText.split(",");
  const up = flags.includes("UP");
  const link = { index: Number(index), shown, up, carrier: up && flags.includes("LOWER_UP") };
  return { kind: "link", gone, link, enslaved: / master \S/.test(rest) };
}

function parseAddress(text: string, gone: boolean): NetEvent {
  const parts = ADDRESS.exec(text);
  if (parts === null) return { kind: "unknown" };
  const [, index, name = "", inet, local = "", peer] = parts;
  // of a point-to-point pair the prefix length stands with the peer
  const length = peer?.split("/")[1];
  const found = toPrefix(peer === undefined || length === undefined ? local : `${local}/${length}`);
  if (found === null || (found.family === "ipv6") !== (inet === "inet6")) return { kind: "unknown" };
  const address = { index: Number(index), name, address: found.text, family: found.family };
  return { kind: "address", gone, address };
}

function parseRoute(text: string, gone: boolean): NetEvent {
  const [first = "", ...hops] = text.split(/\\\s*nexthop /);
  const words = first.trim().split(/\s+/);
  const type = [...TYPES, ...IGNORED_TYPES].includes(words[0] ?? "") ? (words.shift() ?? "") : "unicast";
  if (!countsAsRoute(type)) return { kind: "ignored" };
  const head = readAttributes(words.slice(1));
  const ways = hops.length === 0 ? [head] : hops.map((hop) => readAttributes(hop.trim().split(/\s+/)));
  const family = routeFamily(words[0] ?? "", ways[0]?.via ?? "", words.includes("pref"));
  const destination = toDestination(words[0] ?? "", family);
  if (destination === null || !ways.every((way) => isWay(way, type))) return { kind: "unknown" };
  const { table, metric } = head;
  const routes = ways.map((way) => ({
    family,
    destination,
    via: type === "unicast" ? way.via : type,
    interface: type === "unicast" ? way.dev : "",
    table,
    metric,
  }));
  return { kind: "routes", gone, routes };
}

type Way = {
  readonly via: string;
  readonly dev: string;
  readonly table: string;
  readonly metric: string;
};

function readAttributes(words: readonly string[]): Way {
  const after = (name: string) => {
    const at = words.indexOf(name);
    return at < 0 ? "" : (words[at + 1] ?? "");
  };
  const via = after("via");
  const other = via === "inet" || via === "inet6"; // next hop of the other family: "via inet6 fe80::1"
  return {
    via: other ? (words[words.indexOf("via") + 2] ?? "") : via,
    dev: after("dev"),
    table: after("table") || "main",
    metric: after("metric"),
  };
}

const Ipv4 = z.ipv4();
const Ipv6 = z.ipv6();

/** 4, 6, or 0 for what is no address. */
function isIP(text: string): 0 | 4 | 6 {
  if (Ipv4.safeParse(text).success) return 4;
  return Ipv6.safeParse(text).success ? 6 : 0;
}

function isWay(way: Way, type: string): boolean {
  return (way.via === "" || isIP(way.via) !== 0) && (type !== "unicast" || way.dev !== "");
}

function toPrefix(text: string): { text: string; family: Route["family"] } | null {
  const [ip = "", length, more] = text.split("/");
  const version = isIP(ip);
  const longest = version === 4 ? 32 : 128;
  if (version === 0 || more !== undefined) return null;
  if (length !== undefined && (!/^\d{1,3}$/.test(length) || Number(length) > longest)) return null;
  return { text: `${ip}/${length ?? longest}`, family: version === 4 ? "ipv4" : "ipv6" };
}
