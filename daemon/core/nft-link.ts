import type { Flow } from "./flow.ts";
import { flowRules, NEIGHBOURS } from "./nft-match.ts";
import { chain, counters, type DeadMan, type Firmness, quoted, set, table } from "./nft-script.ts";
import type { Posture } from "./posture.ts";

/** Before anything else on these hooks: what we drop is not forwarded past us (`fwd`, a flowtable) first. */
const FIRST = -2_147_483_648;
const EARLY = -500;

/** What stands below IP: two tables beside `inet boundary`. `flow`: the connection that is let through, or null. */
export type BelowIp = {
  readonly dead: DeadMan;
  readonly flow: Flow | null;
  readonly firmness: Firmness;
  readonly links: readonly string[];
};

/** Whether a mode closes what is below IP. */
export function isLinkClosed(posture: Posture): boolean {
  return posture.network === "loopback" || posture.network === "nothing";
}

/**
 * ARP: closed where the links are, but for the local address of a flow that is kept; in every other mode open, and closed
 * by a dead-man of its own. Its set holds the type `arp`, so an empty one matches nothing, as in the inet table.
 */
export function renderArp(posture: Posture, below: BelowIp): string[] {
  const { dead, flow, firmness } = below;
  const closed = isLinkClosed(posture);
  const alive = dead.kind === "dead-man" && (!closed || flow?.family === 4);
  const beat = alive ? "meta protocol @alive " : "";
  const open = (end: "saddr" | "daddr") => {
    if (!closed) return [`${beat}accept`];
    return flow?.family === 4 ? [`${beat}arp ${end} ip ${flow.localAddress} accept`] : [];
  };
  const name = closed ? "refused_arp" : "no_heartbeat_arp";
  const refuses = closed || alive;
  const base = (hook: "input" | "output", end: "saddr" | "daddr") =>
    chain(hook, [
      `type filter hook ${hook} priority ${EARLY}; policy ${firmness === "shadow" ? "accept" : "drop"};`,
      ...open(end),
      ...(refuses ? [refusal(name, firmness)] : []),
    ]);
  return table("arp", [
    `comment "boundary-daemon mode ${posture.mode}"`,
    ...counters(refuses ? [name] : []),
    ...(alive ? set("alive", "ether_type", "timeout", arpElements(dead.timeoutMs)) : []),
    ...base("input", "daddr"),
    ...base("output", "saddr"),
  ]);
}

/** The elements of the dead-man's set in the arp table. */
export function arpElements(timeoutMs: number): string {
  return `{ arp timeout ${timeoutMs}ms }`;
}

/**
 * The links themselves, where a mode closes them: a raw (AF_PACKET) sender passes no hook of IP. Loopback is told by its
 * type, as everywhere. Empty where the links stay open, or there are none.
 */
export function renderNetdev(posture: Posture, below: BelowIp): string[] {
  const devices = quoted(below.links);
  if (!isLinkClosed(posture) || devices === null) return [];
  const { flow, firmness } = below;
  const base = (hook: "ingress" | "egress", end: "iif" | "oif", side: "in" | "out") => {
    const refuse = refusal(`refused_link_${side}`, firmness);
    return chain(hook, [
      `type filter hook ${hook} devices = ${devices} priority ${FIRST}; policy ${firmness === "shadow" ? "accept" : "drop"};`,
      ...(posture.network === "loopback" ? loopbackOf(end, refuse) : []),
      ...(flow === null ? [] : keptOf(flow, side, refuse)),
      refuse,
    ]);
  };
  return table("netdev", [
    `comment "boundary-daemon mode ${posture.mode}"`,
    ...counters(["refused_link_in", "refused_link_out"]),
    ...base("ingress", "iif", "in"),
    ...base("egress", "oif", "out"),
  ]);
}

/**
 * Never by address: 127.0.0.1 and ::1 can be forged on the wire. Nor by name: nft takes `iif "lo"` for whatever link is
 * called that. By type, which only the kernel's own loopback has, and a tun device whose opener gave it that.
 */
export function loopbackOf(end: "iif" | "oif", refuse: string): string[] {
  return [`meta ${end}kind "tun" meta ${end}type loopback ${refuse}`, `meta ${end}type loopback accept`];
}

function keptOf(flow: Flow, side: "in" | "out", refuse: string): string[] {
  const neighbours =
    flow.family === 4 ? `arp ${side === "in" ? "daddr" : "saddr"} ip ${flow.localAddress}` : NEIGHBOURS;
  return [...flowRules(flow, side, refuse), `${neighbours} accept`];
}

function refusal(counter: string, firmness: Firmness): string {
  return `counter name "${counter}" ${firmness === "shadow" ? "accept" : "drop"}`;
}
