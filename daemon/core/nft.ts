import type { Config } from "./config.ts";
import { BoundaryError } from "./errors.ts";
import { renderIpRange, withoutContained } from "./ip-range.ts";
import { isAddressOnly, readEntry } from "./net-entry.ts";
import type { Posture } from "./posture.ts";

/**
 * Whether the rules need a heartbeat. "dead-man": everything is dropped once `timeoutMs` has passed without one.
 * "settled": the same rules without it, for the time after a clean stop.
 */
export type DeadMan =
  | { readonly kind: "dead-man"; readonly timeoutMs: number }
  | { readonly kind: "settled" };

type Network = Config["network"];

/** The counters of the rules that drop; packets that a chain of ours let through are not counted. */
export const COUNTERS = ["refused_in", "refused_out", "refused_forward", "no_heartbeat"] as const;

/**
 * Before every other table's chain on these hooks (iptables' raw table is at -300, defragmentation at -400), so that
 * what we drop is not redirected, queued or tracked first. An accept of ours ends nothing: other tables still decide.
 */
const EARLY = -500;
/**
 * After every other table. An output chain sees the interface of the first routing decision; address translation and
 * packet marks of another table can send the packet elsewhere afterwards ("to loopback" becomes "to eth0").
 * Only postrouting sees the interface it really leaves by.
 */
const LATE = 500;

/**
 * The whole of our table for a posture, as one script and so one transaction: the old rules hold until the new ones
 * do, and packets in between are dropped (a new base chain is hooked, with its drop policy, before the switch).
 * Throws "config-invalid" for a network of the deny list that is none.
 */
export function renderRules(posture: Posture, network: Network, dead: DeadMan): string {
  const lines = [
    "add table inet boundary", // add, delete, add: a lone delete fails when the table is absent
    "delete table inet boundary",
    "table inet boundary {",
    `comment "boundary-daemon mode ${posture.mode}"`,
    ...counters(dead),
    ...aliveSet(dead),
    ...setsOf(posture, network),
    ...baseChain("input", "input", EARLY, "mode_in", dead),
    ...baseChain("output", "output", EARLY, "mode_out", dead),
    ...baseChain("forward", "forward", EARLY, "mode_forward", dead),
    ...baseChain("leaving", "postrouting", LATE, "mode_out", dead),
    ...chain("mode_in", rulesIn(posture)),
    ...chain("mode_out", rulesOut(posture)),
    ...chain("mode_forward", rulesForward(posture)),
    "}",
  ];
  return `${lines.join("\n")}\n`;
}

/** Renews the dead-man's elements in one transaction. Flushing also removes elements somebody else may have put there. */
export function renderHeartbeat(timeoutMs: number): string {
  return `flush set inet boundary alive\nadd element inet boundary alive ${aliveElements(timeoutMs)}\n`;
}

function counters(dead: DeadMan): string[] {
  const names = COUNTERS.filter((name) => name !== "no_heartbeat" || dead.kind === "dead-man");
  return names.flatMap((name) => [`counter ${name} {`, "}"]);
}

function aliveSet(dead: DeadMan): string[] {
  if (dead.kind === "settled") return [];
  return set("alive", "nf_proto", "timeout", aliveElements(dead.timeoutMs));
}

function aliveElements(timeoutMs: number): string {
  return `{ ipv4 timeout ${timeoutMs}ms, ipv6 timeout ${timeoutMs}ms }`;
}

function setsOf(posture: Posture, network: Network): string[] {
  switch (posture.network) {
    case "minus-denied":
      return denySets(network);
    case "trusted-only":
      return [...denySets(network), ...set("trusted", "ifname", null, quoted(network.trustedInterfaces))];
    case "as-host":
    case "loopback":
    case "nothing":
      return [];
  }
}

function denySets(network: Network): string[] {
  return [
    ...set("deny4", "ipv4_addr", "interval", deniedElements(network, 4)),
    ...set("deny6", "ipv6_addr", "interval", deniedElements(network, 6)),
  ];
}

function set(name: string, type: string, flags: string | null, elements: string | null): string[] {
  return [
    `set ${name} {`,
    `type ${type}`,
    ...(flags === null ? [] : [`flags ${flags}`]),
    ...(elements === null ? [] : [`elements = ${elements}`]),
    "}",
  ];
}

function deniedElements(network: Network, family: 4 | 6): string | null {
  const ranges = network.deny.flatMap((input) => {
    const entry = readEntry(input);
    if (typeof entry === "string")
      throw new BoundaryError("config-invalid", `reading network.deny: ${entry}`);
    return entry.address !== null && isAddressOnly(entry) ? [entry.address] : [];
  });
  const ours = withoutContained(ranges.filter((range) => range.family === family)).map(renderIpRange);
  return ours.length === 0 ? null : `{ ${ours.join(", ")} }`;
}

function quoted(names: readonly string[]): string | null {
  const unique = [...new Set(names)].toSorted();
  return unique.length === 0 ? null : `{ ${unique.map((name) => `"${name}"`).join(", ")} }`;
}

function baseChain(name: string, hook: string, priority: number, to: string, dead: DeadMan): string[] {
  const declaration = `type filter hook ${hook} priority ${priority}; policy drop;`;
  if (dead.kind === "settled") return chain(name, [declaration, `jump ${to}`]);
  return chain(name, [declaration, `meta nfproto @alive jump ${to}`, 'counter name "no_heartbeat" drop']);
}

function chain(name: string, statements: readonly string[]): string[] {
  return [`chain ${name} {`, ...statements, "}"];
}

function rulesIn(posture: Posture): string[] {
  const refuse = 'counter name "refused_in" drop';
  switch (posture.network) {
    case "as-host":
      return ["accept"];
    case "minus-denied":
      return [...loopback("iif", refuse), ...denied("saddr", refuse), "accept"];
    case "trusted-only":
      return [...loopback("iif", refuse), ...denied("saddr", refuse), "iifname @trusted accept", refuse];
    case "loopback":
      return [...loopback("iif", refuse), refuse];
    case "nothing":
      return [refuse];
  }
}

/** Also for what leaves after forwarding: it passes postrouting. */
function rulesOut(posture: Posture): string[] {
  const refuse = 'counter name "refused_out" drop';
  switch (posture.network) {
    case "as-host":
      return ["accept"];
    case "minus-denied":
      return [...loopback("oif", refuse), ...denied("daddr", refuse), "accept"];
    case "trusted-only":
      return [...loopback("oif", refuse), ...denied("daddr", refuse), "oifname @trusted accept", refuse];
    case "loopback":
      return [...loopback("oif", refuse), refuse];
    case "nothing":
      return [refuse];
  }
}

function rulesForward(posture: Posture): string[] {
  const refuse = 'counter name "refused_forward" drop';
  switch (posture.network) {
    case "as-host":
      return ["accept"];
    case "minus-denied":
      return [...denied("saddr", refuse), ...denied("daddr", refuse), "accept"];
    case "trusted-only":
      return [
        ...denied("saddr", refuse),
        ...denied("daddr", refuse),
        "iifname @trusted oifname @trusted accept",
        refuse,
      ];
    case "loopback":
    case "nothing":
      return [refuse];
  }
}

/**
 * Never by address: 127.0.0.1 and ::1 can be forged on the wire. Nor by name: nft takes `iif "lo"` for whatever link is
 * called that. By type, which only the kernel's own loopback has, and a tun device whose opener gave it that.
 */
function loopback(end: "iif" | "oif", refuse: string): string[] {
  return [`meta ${end}kind "tun" meta ${end}type loopback ${refuse}`, `meta ${end}type loopback accept`];
}

/**
 * The far end is what is denied: our own address may lie in a denied network. TRUSTED denies what RESTRICTED does and
 * loopback passes in both, since a stricter mode must never let through what a looser one refuses.
 */
function denied(end: "saddr" | "daddr", refuse: string): string[] {
  return [`ip ${end} @deny4 ${refuse}`, `ip6 ${end} @deny6 ${refuse}`];
}
