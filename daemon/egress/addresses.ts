import { type IpRange, parseIpRange } from "../core/ip-range.ts";

export type Reachable = { readonly ok: true } | { readonly ok: false; readonly why: string };

/** What of this host and its neighbours may not be reached, and what may all the same. */
export type AddressRules = {
  /** Addresses that are not public and may be reached (config: egress.addresses). */
  readonly listed: readonly IpRange[];
  /** This host's own, which are as near to its services as loopback is. */
  readonly own: readonly string[];
};

type Row = readonly [range: string, why: string];

/** Reached by name of a cloud, from within: a range that has them in it does not list them. */
const METADATA: readonly Row[] = [
  ["169.254.169.254", "metadata"],
  ["169.254.170.2", "metadata"],
  ["100.100.100.200", "metadata"],
  ["168.63.129.16", "metadata"],
  ["192.0.0.192", "metadata"],
  ["fd00:ec2::254", "metadata"],
  ["fd20:ce::254", "metadata"],
];

/** RFC 6890 and the IANA registries of special-purpose addresses; 240.0.0.0/4 and multicast with them. */
const NOT_PUBLIC_4: readonly Row[] = [
  ["0.0.0.0/8", "this network"],
  ["10.0.0.0/8", "private"],
  ["100.64.0.0/10", "shared by a carrier"],
  ["127.0.0.0/8", "loopback"],
  ["169.254.0.0/16", "link-local"],
  ["172.16.0.0/12", "private"],
  ["192.0.0.0/24", "special purpose"],
  ["192.0.2.0/24", "documentation"],
  ["192.31.196.0/24", "special purpose"],
  ["192.52.193.0/24", "special purpose"],
  ["192.88.99.0/24", "a 6to4 relay"],
  ["192.168.0.0/16", "private"],
  ["192.175.48.0/24", "special purpose"],
  ["198.18.0.0/15", "benchmarking"],
  ["198.51.100.0/24", "documentation"],
  ["203.0.113.0/24", "documentation"],
  ["224.0.0.0/4", "multicast"],
  ["240.0.0.0/4", "reserved"],
];

/** Forms that carry an IPv4 address: no list lets them pass, the IPv4 address itself can be listed. */
const EMBEDDED_6: readonly Row[] = [
  ["::1", "loopback"],
  ["::/96", "an IPv4 address in IPv6"],
  ["::ffff:0:0/96", "an IPv4 address in IPv6"],
  ["::ffff:0:0:0/96", "an IPv4 address in IPv6"],
  ["64:ff9b:1::/48", "a translator's"],
  ["2001::/32", "Teredo"],
  ["2002::/16", "6to4"],
];

const NOT_PUBLIC_6: readonly Row[] = [
  ["2001::/23", "special purpose"],
  ["2001:db8::/32", "documentation"],
  ["2620:4f:8000::/48", "special purpose"],
  ["3fff::/20", "documentation"],
  ["fc00::/7", "private"],
  ["fe80::/10", "link-local"],
  ["fec0::/10", "site-local"],
  ["ff00::/8", "multicast"],
];
/** All that is given out as global unicast (RFC 4291, IANA). */
const GLOBAL_6 = rangeOf("2000::/3");
const NAT64 = rangeOf("64:ff9b::/96");

const TABLES = {
  metadata: METADATA.map(toRule),
  four: NOT_PUBLIC_4.map(toRule),
  embedded: EMBEDDED_6.map(toRule),
  six: NOT_PUBLIC_6.map(toRule),
};

/**
 * Whether an address that a name came to may be connected to: public ones, and those that are listed. What cannot be read,
 * also one with a zone, is refused. A NAT64 address is what the IPv4 address in it is.
 */
export function judgeAddress(text: string, rules: AddressRules): Reachable {
  const address = parseIpRange(text);
  if (address === null || address.first !== address.last || text.includes("-"))
    return refused("it cannot be read");
  return judge(address, rules);
}

function judge(address: IpRange, rules: AddressRules): Reachable {
  if (address.family === 6 && within(address, NAT64)) {
    const last = address.first & 0xffff_ffffn;
    return judge({ family: 4, first: last, last }, rules);
  }
  const hit = (table: readonly Rule[]): string | undefined =>
    table.find(({ range }) => within(address, range))?.why;
  const embedded = address.family === 6 ? (hit(TABLES.embedded) ?? isatapOf(address)) : undefined;
  const listed = rules.listed.some((range) => within(address, range));
  if (embedded !== undefined) return embedded === "loopback" && listed ? { ok: true } : refused(embedded);
  const metadata = hit(TABLES.metadata);
  if (
    metadata !== undefined &&
    !rules.listed.some(({ first, last }) => first === last && first === address.first)
  )
    return refused(metadata);
  if (listed) return { ok: true };
  if (rules.own.some((own) => isSame(own, address))) return refused("this host's own");
  const special = hit(address.family === 4 ? TABLES.four : TABLES.six);
  if (special !== undefined) return refused(special);
  if (address.family === 6 && !within(address, GLOBAL_6)) return refused("not given out");
  return { ok: true };
}

type Rule = { readonly range: IpRange; readonly why: string };

function toRule([text, why]: Row): Rule {
  return { range: rangeOf(text), why };
}

function rangeOf(text: string): IpRange {
  const range = parseIpRange(text);
  // a mistake in the tables above would let something pass: no daemon starts with one
  if (range === null) throw new RangeError(`${text} is no range`);
  return range;
}

function within(address: IpRange, range: IpRange): boolean {
  return address.family === range.family && range.first <= address.first && address.last <= range.last;
}

/** RFC 5214: an interface identifier 0000:5efe or 0200:5efe, and an IPv4 address behind it. */
function isatapOf({ first }: IpRange): string | undefined {
  const identifier = (first >> 32n) & 0xfdff_ffffn;
  return identifier === 0x5efen ? "an IPv4 address in IPv6" : undefined;
}

function isSame(text: string, address: IpRange): boolean {
  const own = parseIpRange(text.replace(/%.*$/, ""));
  return own !== null && own.family === address.family && own.first === address.first;
}

function refused(why: string): Reachable {
  return { ok: false, why };
}
