import type { Config } from "./config.ts";
import { BoundaryError } from "./errors.ts";
import type { Flow } from "./flow.ts";
import { renderIpRange, withoutContained } from "./ip-range.ts";
import { isAddressOnly, type NetEntry, readEntry } from "./net-entry.ts";
import { arpElements, loopbackOf, renderArp, renderNetdev } from "./nft-link.ts";
import {
  canAsk,
  flowRules,
  type Hook,
  matchAnswer,
  matchEntry,
  NEIGHBOURS,
  type Side,
  speaksOfIpv6,
} from "./nft-match.ts";
import { chain, counters, type DeadMan, type Firmness, quoted, removal, set, table } from "./nft-script.ts";
import { renderShadow } from "./nft-shadow.ts";
import type { Posture } from "./posture.ts";

type Network = Config["network"];

/** What the rules depend on besides the mode and the lists. */
export type Extra = {
  /** An established TCP connection that is let through in TRUSTED, AIRGAP and COLDROOM. A list that denies it wins. */
  readonly keep: Flow | null;
  readonly hold: Firmness;
  /** The links that are there: where a mode closes them, each is named. */
  readonly links: readonly string[];
  /** In which families there is to be a table: in all, where nothing is said; in inet always. */
  readonly families?: readonly Family[];
  /** In which there may be one that has to go. To a kernel that has not all families, only those that it has may be named. */
  readonly there?: readonly Family[];
};

/** The families in which there can be a table of ours. */
export const FAMILIES = ["inet", "arp", "netdev"] as const;
export type Family = (typeof FAMILIES)[number];

const COUNTERS = ["refused_in", "refused_out", "refused_forward"];

/**
 * Where the self-test sends its packets: refused in every mode, so that "it blocks" can be tried where nothing else is
 * refused. Port 9 discards in any case (RFC 863), and loopback's last address is nobody's.
 */
export const CANARIES = [
  { family: "ip", address: "127.255.255.254", port: 9 },
  { family: "ip6", address: "::1", port: 9 },
] as const;

/**
 * Where it sends those that the mode itself has to refuse, where the mode leaves no network: documentation addresses
 * (RFC 5737, RFC 3849), which nobody has. They are counted after everything that the mode lets pass: the service's own
 * IPAddressDeny= refuses them too, so that a refusal alone would show nothing.
 */
export const MODE_CANARIES = [
  { family: "ip", address: "192.0.2.1", port: 9 },
  { family: "ip6", address: "2001:db8::1", port: 9 },
] as const;

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
 * The whole of our tables for a posture, as one script and so one transaction: the old rules hold until the new ones
 * do, and packets in between are dropped (a new base chain is hooked, with its drop policy, before the switch).
 * Throws "config-invalid" for an entry of the lists that is none.
 */
export function renderRules(posture: Posture, network: Network, dead: DeadMan, extra: Extra): string {
  const rules: Rules = {
    posture,
    // in shadow nothing may close by itself
    dead: extra.hold === "shadow" ? { kind: "settled" } : dead,
    shadow: extra.hold === "shadow",
    flow: keepable(posture) ? extra.keep : null,
    network,
    deny: entriesOf("deny", network.deny),
    allow: entriesOf("allow", posture.network === "trusted-only" ? network.allow : []),
  };
  const below = { dead: rules.dead, flow: rules.flow, firmness: extra.hold, links: extra.links };
  const { families = FAMILIES, there = FAMILIES } = extra;
  const lines = [
    ...goingFrom([...families, ...there]),
    ...renderInet(rules),
    ...(families.includes("arp") ? renderArp(posture, below) : []),
    ...(families.includes("netdev") ? renderNetdev(posture, below) : []),
  ];
  return `${lines.join("\n")}\n`;
}

/** Takes our tables away, in one transaction; those of the families that may have one. */
export function renderRelease(there: readonly Family[] = FAMILIES): string {
  return `${goingFrom(there).join("\n")}\n`;
}

function goingFrom(families: readonly Family[]): readonly string[] {
  return FAMILIES.filter((family) => family === "inet" || families.includes(family)).flatMap((family) =>
    removal(family),
  );
}

/**
 * Renews the dead-man's elements in one transaction, in those of our tables that have them. Flushing also removes
 * elements somebody else may have put there.
 */
export function renderHeartbeat(timeoutMs: number, families: readonly ("inet" | "arp")[]): string {
  return families
    .map((family) => {
      const elements = family === "inet" ? aliveElements(timeoutMs) : arpElements(timeoutMs);
      return `flush set ${family} boundary alive\nadd element ${family} boundary alive ${elements}\n`;
    })
    .join("");
}

type Rules = {
  readonly posture: Posture;
  readonly dead: DeadMan;
  readonly shadow: boolean;
  readonly flow: Flow | null;
  readonly network: Network;
  readonly deny: readonly NetEntry[];
  readonly allow: readonly NetEntry[];
};

function renderInet(rules: Rules): string[] {
  const { posture, dead, shadow } = rules;
  const leaving = differsWhenLeaving(rules);
  return table("inet", [
    `comment "boundary-daemon mode ${posture.mode}${shadow ? ", shadow" : ""}"`,
    ...counters([
      ...COUNTERS,
      ...(shadow ? [] : ["canary", ...(isClosed(posture) ? ["canary_mode"] : [])]),
      ...(dead.kind === "dead-man" ? ["no_heartbeat"] : []),
    ]),
    ...(dead.kind === "dead-man" ? set("alive", "nf_proto", "timeout", aliveElements(dead.timeoutMs)) : []),
    ...setsOf(rules),
    ...(shadow ? renderShadow() : []),
    ...baseChain("input", "input", EARLY, "mode_in", rules),
    ...baseChain("output", "output", EARLY, "mode_out", rules),
    ...baseChain("forward", "forward", EARLY, "mode_forward", rules),
    // in shadow every packet that leaves would be counted twice
    ...(shadow
      ? []
      : baseChain("leaving", "postrouting", LATE, leaving ? "mode_leaving" : "mode_out", rules)),
    ...chain("mode_in", rulesIn(rules)),
    ...chain("mode_out", [...(shadow ? [] : canaries(CANARIES, "canary")), ...rulesOut(rules, "output")]),
    ...(leaving && !shadow ? chain("mode_leaving", rulesOut(rules, "leaving")) : []),
    ...chain("mode_forward", rulesForward(rules)),
  ]);
}

function canaries(to: typeof CANARIES | typeof MODE_CANARIES, counter: string): string[] {
  return to.map(
    ({ family, address, port }) =>
      `${family} daddr ${address} udp dport ${port} counter name "${counter}" drop`,
  );
}

/** Whether nothing of the network is left but, at most, loopback. */
function isClosed({ network }: Posture): boolean {
  return network === "loopback" || network === "nothing";
}

function aliveElements(timeoutMs: number): string {
  return `{ ipv4 timeout ${timeoutMs}ms, ipv6 timeout ${timeoutMs}ms }`;
}

function keepable({ network, mode }: Posture): boolean {
  return mode !== "LOCKDOWN" && (network === "trusted-only" || network === "loopback");
}

function entriesOf(list: "deny" | "allow", inputs: Network["deny"]): readonly NetEntry[] {
  return inputs.map((input) => {
    const entry = readEntry(input);
    if (typeof entry !== "string") return entry;
    throw new BoundaryError("config-invalid", `reading network.${list}: ${entry}`);
  });
}

function setsOf({ posture, network, deny, flow }: Rules): string[] {
  switch (posture.network) {
    case "minus-denied":
      return denySets(deny);
    case "trusted-only":
      return [...denySets(deny), ...set("trusted", "ifname", null, quoted(network.trustedInterfaces))];
    case "loopback":
      return flow === null ? [] : denySets(deny);
    case "as-host":
    case "nothing":
      return [];
  }
}

/** Addresses alone, of which there may be a thousand; every other entry is a rule. */
function denySets(deny: readonly NetEntry[]): string[] {
  return [
    ...set("deny4", "ipv4_addr", "interval", deniedElements(deny, 4)),
    ...set("deny6", "ipv6_addr", "interval", deniedElements(deny, 6)),
  ];
}

function deniedElements(deny: readonly NetEntry[], family: 4 | 6): string | null {
  const ranges = deny.filter(isAddressOnly).flatMap(({ address }) => address ?? []);
  const ours = withoutContained(ranges.filter((range) => range.family === family)).map(renderIpRange);
  return ours.length === 0 ? null : `{ ${ours.join(", ")} }`;
}

function baseChain(
  name: string,
  hook: string,
  priority: number,
  to: string,
  { dead, shadow }: Rules,
): string[] {
  const declaration = `type filter hook ${hook} priority ${priority}; policy ${shadow ? "accept" : "drop"};`;
  if (dead.kind === "settled") return chain(name, [declaration, `jump ${to}`]);
  return chain(name, [declaration, `meta nfproto @alive jump ${to}`, 'counter name "no_heartbeat" drop']);
}

function refusal(way: "in" | "out" | "forward", { shadow }: Rules): string {
  return `counter name "refused_${way}" ${shadow ? `goto shadow_${way}` : "drop"}`;
}

function rulesIn(rules: Rules): string[] {
  const refuse = refusal("in", rules);
  switch (rules.posture.network) {
    case "as-host":
      return ["accept"];
    case "minus-denied":
      return [...loopbackOf("iif", refuse), ...denied("in", rules, refuse, "input"), "accept"];
    case "trusted-only":
      return [
        ...loopbackOf("iif", refuse),
        ...denied("in", rules, refuse, "input"),
        "iifname @trusted accept",
        ...allowed("in", rules, "input"),
        ...kept("in", rules, refuse),
        refuse,
      ];
    case "loopback":
      return [...loopbackOf("iif", refuse), ...keptUnlessDenied("in", rules, refuse, "input"), refuse];
    case "nothing":
      return [refuse];
  }
}

/** Also for what leaves after forwarding: it passes postrouting. */
function rulesOut(rules: Rules, hook: "output" | "leaving"): string[] {
  const refuse = refusal("out", rules);
  switch (rules.posture.network) {
    case "as-host":
      return ["accept"];
    case "minus-denied":
      return [...loopbackOf("oif", refuse), ...denied("out", rules, refuse, hook), "accept"];
    case "trusted-only":
      return [
        ...loopbackOf("oif", refuse),
        ...denied("out", rules, refuse, hook),
        "oifname @trusted accept",
        ...allowed("out", rules, hook),
        ...kept("out", rules, refuse),
        refuse,
      ];
    case "loopback":
      return [
        ...loopbackOf("oif", refuse),
        ...keptUnlessDenied("out", rules, refuse, hook),
        ...modeCanaries(rules, hook),
        refuse,
      ];
    case "nothing":
      return [...modeCanaries(rules, hook), refuse];
  }
}

function modeCanaries({ shadow }: Rules, hook: "output" | "leaving"): string[] {
  return shadow || hook === "leaving" ? [] : canaries(MODE_CANARIES, "canary_mode");
}

/** What is forwarded comes in and leaves: an entry about either is about it. Nothing of the allow list: that is this host's own. */
function rulesForward(rules: Rules): string[] {
  const refuse = refusal("forward", rules);
  switch (rules.posture.network) {
    case "as-host":
      return ["accept"];
    case "minus-denied":
      return [
        ...denied("in", rules, refuse, "forward"),
        ...denied("out", rules, refuse, "forward"),
        "accept",
      ];
    case "trusted-only":
      return [
        ...denied("in", rules, refuse, "forward"),
        ...denied("out", rules, refuse, "forward"),
        "iifname @trusted oifname @trusted accept",
        refuse,
      ];
    case "loopback":
    case "nothing":
      return [refuse];
  }
}

/**
 * The far end is what is denied: our own address may lie in a denied network. TRUSTED denies what RESTRICTED does and
 * loopback passes in both, since a stricter mode must never let through what a looser one refuses.
 */
function denied(side: Side, { deny }: Rules, refuse: string, hook: Hook): string[] {
  const end = side === "in" ? "saddr" : "daddr";
  const rules = deny.filter(
    (entry) => !isAddressOnly(entry) && entry.sides.includes(side) && canAsk(entry, hook),
  );
  return [
    `ip ${end} @deny4 ${refuse}`,
    `ip6 ${end} @deny6 ${refuse}`,
    ...rules.map((entry) => `${matchEntry(entry, side, hook)} ${refuse}`),
  ];
}

/**
 * What an entry speaks of, and the answers to it. Whether a packet answers is known to connection tracking, which has not
 * seen it yet in the output hook: there its port is enough, since postrouting asks again. The other way round with its
 * cgroup: postrouting lets pass what the output hook has asked.
 */
function allowed(side: Side, { allow }: Rules, hook: "input" | "output" | "leaving"): string[] {
  const asked = allow
    .filter((entry) => entry.sides.includes(side))
    .map((entry) => matchEntry(entry, side, hook));
  const answers = allow
    .filter((entry) => needsAnswers(entry, side))
    .map((entry) => matchAnswer(entry, side, hook !== "output"));
  const neighbours = allow.some(speaksOfIpv6) ? [NEIGHBOURS] : [];
  return [...asked, ...answers, ...neighbours].map((match) => (match === "" ? "accept" : `${match} accept`));
}

/** Whether the answers that go to one side need a rule of their own. */
function needsAnswers(entry: NetEntry, side: Side): boolean {
  const other = side === "in" ? "out" : "in";
  if (!entry.sides.includes(other)) return false;
  return !entry.sides.includes(side) || entry.ports !== null;
}

/** Whether postrouting asks other questions than the output hook. */
function differsWhenLeaving({ allow, deny, posture, flow }: Rules): boolean {
  const denies = posture.network === "minus-denied" || posture.network === "trusted-only" || flow !== null;
  return (
    allow.some((entry) => needsAnswers(entry, "out") || entry.cgroup !== null) ||
    (denies && deny.some((entry) => entry.cgroup !== null))
  );
}

function kept(side: Side, { flow }: Rules, refuse: string): string[] {
  if (flow === null) return [];
  const neighbours = flow.family === 6 ? [`${NEIGHBOURS} accept`] : [];
  return [...flowRules(flow, side, refuse), ...neighbours];
}

function keptUnlessDenied(side: Side, rules: Rules, refuse: string, hook: Hook): string[] {
  return rules.flow === null ? [] : [...denied(side, rules, refuse, hook), ...kept(side, rules, refuse)];
}
