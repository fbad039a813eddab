import type { Config } from "./config.ts";
import { BoundaryError } from "./errors.ts";
import { parseIpRange } from "./ip-range.ts";
import { type NetEntry, type NetEntryInput, readEntry } from "./net-entry.ts";
import type { Posture } from "./posture.ts";

/** A packet, as far as the rules ask. The far end is `remoteAddress`; of a forwarded one it is the source, `localAddress` the destination. */
export type Packet = {
  readonly direction: "in" | "out" | "forward";
  readonly family: 4 | 6;
  readonly localAddress: string;
  readonly remoteAddress: string;
  /** A name of `PROTOCOLS`, or anything else: then no entry that names a protocol is about it. */
  readonly protocol: string;
  /** The destination's port; null where the protocol has none. */
  readonly port: number | null;
  /** It comes in by this one, or leaves by it. Of a forwarded one: the one it comes in by. */
  readonly interface: string;
  /** Of a forwarded one: the one it leaves by. */
  readonly outInterface?: string;
  /** Over the kernel's own loopback. */
  readonly loopback: boolean;
  /** Of the socket that sends; null: none (the kernel itself). Absent: not known, and then it is what a list denies. */
  readonly uid?: number | null;
  /** Path below /sys/fs/cgroup of the socket that sends; as `uid`. */
  readonly cgroup?: string | null;
  /** The source's port, where the packet answers a connection that this host's connection tracking saw begin the other way. */
  readonly answersFrom?: number | null;
};

type Network = Config["network"];
type Verdict = { readonly pass: boolean; readonly rule: string };

/**
 * What the rules of a mode do with a packet, and by which of them: the model that `core/nft.ts` is tested against.
 * `rule` is for people: "mode OPEN", "loopback", "deny[2]", "trusted interface wg0", "allow[0]". Pure. An entry that
 * cannot be read denies everything where it denies, and allows nothing. Neighbour discovery, which an allowed address of
 * IPv6 needs, passes as well and is not modelled. Throws "argument-invalid" for a packet whose far address is none.
 */
export function wouldPass(posture: Posture, network: Network, packet: Packet): Verdict {
  if (posture.network === "as-host") return passes("mode OPEN");
  if (posture.network === "nothing") return refused(posture);
  if (packet.loopback && packet.direction !== "forward") return passes("loopback");
  if (posture.network === "loopback") return refused(posture);
  const denied = network.deny.findIndex((input) => denies(input, packet));
  if (denied >= 0) return { pass: false, rule: `deny[${denied}]` };
  return posture.network === "minus-denied"
    ? passes(`mode ${posture.mode}`)
    : overTrusted(posture, network, packet);
}

function overTrusted(posture: Posture, network: Network, packet: Packet): Verdict {
  const links =
    packet.direction === "forward" ? [packet.interface, packet.outInterface ?? ""] : [packet.interface];
  if (links.every((link) => network.trustedInterfaces.includes(link)))
    return passes(`trusted interface ${links.join(" and ")}`);
  if (packet.direction === "forward") return refused(posture);
  const allowed = network.allow.findIndex((input) => allows(input, packet));
  return allowed >= 0 ? passes(`allow[${allowed}]`) : refused(posture);
}

/** What is forwarded comes in and leaves: an entry about either is about it. */
function denies(input: NetEntryInput, packet: Packet): boolean {
  const entry = readEntry(input);
  if (typeof entry === "string") return true;
  return entry.sides.some((side) => {
    if (packet.direction !== "forward" && side !== packet.direction) return false;
    return matches(entry, { ...packet, ...endsOf(packet, side) }, packet.direction === "out");
  });
}

/** The way of the connection's first packet is what an entry allows, and its answers with it. */
function allows(input: NetEntryInput, packet: Packet): boolean {
  const entry = readEntry(input);
  if (typeof entry === "string" || packet.direction === "forward") return false;
  if (entry.sides.includes(packet.direction) && matches(entry, packet, false)) return true;
  const other = packet.direction === "in" ? "out" : "in";
  if (packet.answersFrom === undefined || !entry.sides.includes(other)) return false;
  // whose socket began it is not asked again of the answers
  return matches({ ...entry, uid: null, cgroup: null }, { ...packet, port: packet.answersFrom }, false);
}

function endsOf(packet: Packet, side: "in" | "out"): Pick<Packet, "remoteAddress" | "interface"> {
  if (packet.direction !== "forward") return packet;
  return side === "in"
    ? { remoteAddress: packet.remoteAddress, interface: packet.interface }
    : { remoteAddress: packet.localAddress, interface: packet.outInterface ?? "" };
}

function matches(entry: NetEntry, packet: Packet, unknown: boolean): boolean {
  return (
    (entry.address === null || contains(entry.address, packet.remoteAddress)) &&
    (entry.protocol === null || entry.protocol === packet.protocol) &&
    (entry.ports === null ||
      (packet.port !== null && entry.ports.first <= packet.port && packet.port <= entry.ports.last)) &&
    (entry.interface === null || entry.interface === packet.interface) &&
    (entry.uid === null || (packet.uid === undefined ? unknown : packet.uid === entry.uid)) &&
    (entry.cgroup === null || (packet.cgroup === undefined ? unknown : isBelow(entry.cgroup, packet.cgroup)))
  );
}

function contains(range: NonNullable<NetEntry["address"]>, text: string): boolean {
  const address = parseIpRange(text);
  if (address === null) throw new BoundaryError("argument-invalid", `${text} is no address`);
  return address.family === range.family && range.first <= address.first && address.last <= range.last;
}

function isBelow(ancestor: string, path: string | null): boolean {
  return path !== null && (path === ancestor || path.startsWith(`${ancestor}/`));
}

function passes(rule: string): Verdict {
  return { pass: true, rule };
}

function refused(posture: Posture): Verdict {
  return { pass: false, rule: `mode ${posture.mode}` };
}
