import { type IpRange, parseIpRange } from "./ip-range.ts";

/** Protocols that a list may name, with their numbers: nft's own names depend on /etc/protocols, which may be missing. */
export const PROTOCOLS = {
  icmp: 1,
  tcp: 6,
  udp: 17,
  gre: 47,
  esp: 50,
  ah: 51,
  icmpv6: 58,
  sctp: 132,
} as const;

export type Protocol = keyof typeof PROTOCOLS;

export const PROTOCOL_NAMES = Object.keys(PROTOCOLS) as [Protocol, ...Protocol[]];

/** An entry of network.deny or network.allow as the configuration has it. */
export type NetEntryInput =
  | string
  | {
      readonly address?: string | undefined;
      readonly port?: number | string | undefined;
      readonly protocol?: Protocol | undefined;
      readonly interface?: string | undefined;
      readonly uid?: number | undefined;
      readonly cgroup?: string | undefined;
      readonly direction?: "in" | "out" | undefined;
    };

/** The same, read. null: anything. `sides`: the directions that it speaks of. */
export type NetEntry = {
  readonly address: IpRange | null;
  /** Destination ports, both ends included. */
  readonly ports: { readonly first: number; readonly last: number } | null;
  readonly protocol: Protocol | null;
  readonly interface: string | null;
  readonly uid: number | null;
  readonly cgroup: string | null;
  readonly sides: readonly ("in" | "out")[];
};

/** Reads an entry; a sentence that says what is wrong where it is none. */
export function readEntry(input: NetEntryInput): NetEntry | string {
  const given = typeof input === "string" ? { address: input } : input;
  const address = given.address === undefined ? null : parseIpRange(given.address);
  if (given.address !== undefined && address === null) return `${given.address} is no address and no network`;
  const ports = given.port === undefined ? null : readPorts(given.port);
  if (given.port !== undefined && ports === null) return `${given.port} is no port and no range of ports`;
  if (ports !== null && given.protocol !== "tcp" && given.protocol !== "udp")
    return "a port needs protocol: tcp or udp";
  const ofSocket = given.uid !== undefined || given.cgroup !== undefined;
  if (ofSocket && given.direction === "in")
    return "uid and cgroup are known of what leaves, not of what comes in";
  if (given.cgroup !== undefined && !isCgroupPath(given.cgroup))
    return `${JSON.stringify(given.cgroup)} is no plain path below /sys/fs/cgroup`;
  const entry: NetEntry = {
    address,
    ports,
    protocol: given.protocol ?? null,
    interface: given.interface ?? null,
    uid: given.uid ?? null,
    cgroup: given.cgroup ?? null,
    sides: ofSocket ? ["out"] : given.direction === undefined ? ["in", "out"] : [given.direction],
  };
  return isEmpty(entry) ? "name at least one of address, port, protocol, interface, uid, cgroup" : entry;
}

/** An address alone, both ways: what a set of addresses can hold. */
export function isAddressOnly(entry: NetEntry): boolean {
  return entry.address !== null && entry.sides.length === 2 && isEmpty({ ...entry, address: null });
}

/** `n` or "a-b", 1 to 65535. */
function readPorts(text: number | string): NetEntry["ports"] {
  const match = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(String(text));
  if (match === null) return null;
  const first = Number(match[1]);
  const last = Number(match[2] ?? match[1]);
  return first >= 1 && last <= 65_535 && first <= last ? { first, last } : null;
}

/** It goes into a script of nft, in quotes. */
function isCgroupPath(text: string): boolean {
  return (
    text.length <= 255 &&
    text.split("/").every((part) => /^[A-Za-z0-9_.@:\\-]+$/.test(part) && part !== "." && part !== "..")
  );
}

function isEmpty({ address, ports, protocol, uid, cgroup, interface: link }: NetEntry): boolean {
  return [address, ports, protocol, link, uid, cgroup].every((part) => part === null);
}
