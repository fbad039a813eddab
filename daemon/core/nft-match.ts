import type { Flow } from "./flow.ts";
import { renderIpRange } from "./ip-range.ts";
import { type NetEntry, PROTOCOLS } from "./net-entry.ts";

/** Which way a rule's packets go. `far` is the other side's address, `link` the interface they pass. */
export type Side = "in" | "out";

/** Where a rule stands. "leaving": in postrouting. */
export type Hook = "input" | "output" | "leaving" | "forward";

/** Whether a hook can tell what an entry asks. What is forwarded has no socket here. */
export function canAsk(entry: NetEntry, hook: Hook): boolean {
  if (hook === "forward") return entry.uid === null && entry.cgroup === null;
  return hook !== "leaving" || entry.cgroup === null;
}

const FAR = { in: "saddr", out: "daddr" } as const;
const NEAR = { in: "daddr", out: "saddr" } as const;
const LINK = { in: "iifname", out: "oifname" } as const;

/**
 * What an entry says of the packets of one side, as the beginning of a rule. The kernel can be asked for a packet's
 * cgroup in the output hook and not in postrouting: elsewhere than there it is left out.
 */
export function matchEntry(entry: NetEntry, side: Side, hook: Hook): string {
  return words([
    ...linkAndFar(entry, side),
    entry.ports === null ? protocolOf(entry) : `${entry.protocol} dport ${portsOf(entry.ports)}`,
    entry.uid === null ? "" : `meta skuid ${entry.uid}`,
    entry.cgroup === null || hook !== "output"
      ? ""
      : `socket cgroupv2 level ${levelOf(entry.cgroup)} "${entry.cgroup}"`,
  ]);
}

/**
 * The packets of one side that answer what an entry says of the other, on the entry's port. `tracked`: only those of a
 * connection that began the other way. Without it the source port alone decides, which anybody can choose.
 */
export function matchAnswer(entry: NetEntry, side: Side, tracked: boolean): string {
  return words([
    ...linkAndFar(entry, side),
    entry.ports === null ? protocolOf(entry) : `${entry.protocol} sport ${portsOf(entry.ports)}`,
    tracked ? "ct direction reply" : "",
  ]);
}

/**
 * Lets the packets of one TCP connection pass one way, but for one that would open it: whoever has taken its addresses and
 * ports meanwhile begins nothing. By the flag, since this early nothing is tracked. And as a rule that refuses: nft of
 * some versions lists `!= syn` without its negation. What follows has to refuse too.
 */
export function flowRules(flow: Flow, side: Side, refuse: string): readonly string[] {
  const match = matchFlow(flow, side);
  return [`${match} tcp flags & (syn | ack) == syn ${refuse}`, `${match} accept`];
}

function matchFlow(flow: Flow, side: Side): string {
  const ip = flow.family === 4 ? "ip" : "ip6";
  const [from, to] = side === "in" ? [flow.remotePort, flow.localPort] : [flow.localPort, flow.remotePort];
  return `${ip} ${FAR[side]} ${flow.remoteAddress} ${ip} ${NEAR[side]} ${flow.localAddress} tcp sport ${from} tcp dport ${to}`;
}

/** IPv6 finds its neighbours by ICMPv6; ARP is no IP and needs nothing here. 255: from this link, not from beyond a router. */
export const NEIGHBOURS = "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } ip6 hoplimit 255";

/** Whether IPv6 packets can be what an entry speaks of. */
export function speaksOfIpv6(entry: NetEntry): boolean {
  return entry.address === null || entry.address.family === 6;
}

function linkAndFar(entry: NetEntry, side: Side): readonly string[] {
  const { address } = entry;
  return [
    entry.interface === null ? "" : `${LINK[side]} "${entry.interface}"`,
    address === null ? "" : `${address.family === 4 ? "ip" : "ip6"} ${FAR[side]} ${renderIpRange(address)}`,
  ];
}

function protocolOf({ protocol }: NetEntry): string {
  return protocol === null ? "" : `meta l4proto ${PROTOCOLS[protocol]}`;
}

function portsOf({ first, last }: NonNullable<NetEntry["ports"]>): string {
  return first === last ? String(first) : `${first}-${last}`;
}

function levelOf(path: string): number {
  return path.split("/").length;
}

function words(parts: readonly string[]): string {
  return parts.filter((part) => part !== "").join(" ");
}
