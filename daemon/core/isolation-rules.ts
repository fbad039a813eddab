import type { Domain, Isolation, Pass } from "./isolation.ts";
import { PROTOCOLS } from "./net-entry.ts";
import { NEIGHBOURS } from "./nft-match.ts";
import { chain, counters, quoted, removal, set, table } from "./nft-script.ts";

/** A table of its own: the modes' rules come and go beside it, and a packet has to pass both. */
export const ISOLATION_TABLE = "boundary_isolation";

/** As in the modes' table: before everybody else on the way in, after everybody else on the way out (`nft.ts`). */
const EARLY = -500;
const LATE = 500;
/** Before the modes' table, which may refuse loopback: the packet has to come as far as the chain that is tried. */
const CANARY = -510;

/**
 * Where the self-test sends its packets: loopback addresses that are nobody's, each to the end of one domain's chain.
 * Port 1 over UDP is nobody's either (RFC 1078 is TCP's alone).
 */
export const ISOLATION_CANARY = { ip: "127.255.255.253", ip6: "::1" } as const;

/** One packet of the self-test, and the counter that has to move. */
export type IsolationCanary = {
  readonly family: "ip" | "ip6";
  readonly address: string;
  readonly port: number;
  readonly domain: string;
};

/** A packet for each confined domain, and one of IPv6 for the first. */
export function isolationCanaries({ confined }: Isolation): readonly IsolationCanary[] {
  return confined.flatMap(({ name: domain }, at) => [
    { family: "ip", address: ISOLATION_CANARY.ip, port: at + 1, domain } as const,
    ...(at === 0 ? [{ family: "ip6", address: ISOLATION_CANARY.ip6, port: 1, domain } as const] : []),
  ]);
}

/** The counter of what is refused to a domain's packets. */
export function refusedCounter(domain: string): string {
  return `refused_from_${domain}`;
}

export const REFUSED_OUTSIDE = "refused_outside";

/**
 * The whole table as one script, and so one transaction: the old rules hold until the new ones do. What touches no
 * listed interface meets a chain that accepts it, and other tables decide.
 */
export function renderIsolation(isolation: Isolation): string {
  const { confined, unaffected } = isolation;
  const host = confined.find((domain) => domain.host);
  const lines = [
    ...removal("inet", ISOLATION_TABLE),
    ...table(
      "inet",
      [
        'comment "boundary-daemon isolation"',
        ...counters([...confined.map(({ name }) => refusedCounter(name)), REFUSED_OUTSIDE]),
        ...confined.flatMap(({ name, interfaces }) => set(setOf(name), "ifname", null, quoted(interfaces))),
        ...set("confined", "ifname", null, quoted(confined.flatMap(({ interfaces }) => interfaces))),
        ...set("unaffected", "ifname", null, quoted(unaffected.flatMap(({ interfaces }) => interfaces))),
        ...chain("forward", [
          declaration("forward", EARLY),
          "iifname @unaffected accept",
          "oifname @unaffected accept",
          ...confined.map(({ name }) => `iifname @${setOf(name)} jump from_${name}`),
          `oifname @confined counter name "${REFUSED_OUTSIDE}" drop`,
        ]),
        ...confined.flatMap((domain) => chain(`from_${domain.name}`, rulesFrom(domain, isolation))),
        ...(host === undefined ? [] : hostChains(host, isolation)),
        ...chain("selftest", [
          declaration("output", CANARY),
          ...isolationCanaries(isolation).map(
            ({ family, address, port, domain }) =>
              `${family} daddr ${address} udp dport ${port} jump from_${domain}`,
          ),
        ]),
      ],
      ISOLATION_TABLE,
    ),
  ];
  return `${lines.join("\n")}\n`;
}

/** Takes the table away, whether it is there or not. */
export function renderIsolationRemoval(): string {
  return `${removal("inet", ISOLATION_TABLE).join("\n")}\n`;
}

function declaration(hook: string, priority: number): string {
  return `type filter hook ${hook} priority ${priority}; policy accept;`;
}

function setOf(domain: string): string {
  return `domain_${domain}`;
}

/** What is forwarded out of a domain: within it all, to others what passes, and nothing to where no domain is. */
function rulesFrom({ name }: Domain, { confined, passes }: Isolation): readonly string[] {
  const toOthers = confined
    .filter((other) => other.name !== name && other.interfaces.length > 0)
    .flatMap((other) =>
      matches(passes, name, other.name).map((match) => `oifname @${setOf(other.name)} ${match} accept`),
    );
  return [`oifname @${setOf(name)} accept`, ...toOthers, refuse(name)];
}

/**
 * This host's own packets, where it is of a domain. What leaves is asked in postrouting, since only that sees the
 * interface it really leaves by; there a packet of this host has come in by none. IPv6 has to find its neighbours.
 */
function hostChains(host: Domain, { confined, passes }: Isolation): string[] {
  const others = confined.filter((domain) => domain !== host && domain.interfaces.length > 0);
  const accept = (from: string, to: string) =>
    [NEIGHBOURS, ...matches(passes, from, to)].map((match) => `${match} accept`);
  return [
    ...chain("input", [
      declaration("input", EARLY),
      ...others.map(({ name }) => `iifname @${setOf(name)} jump in_${name}`),
    ]),
    ...chain("leaving", [
      declaration("postrouting", LATE),
      ...others.map(({ name }) => `iif 0 oifname @${setOf(name)} jump out_${name}`),
    ]),
    ...others.flatMap(({ name }) => [
      ...chain(`in_${name}`, [...accept(name, host.name), refuse(name)]),
      ...chain(`out_${name}`, [...accept(host.name, name), refuse(host.name)]),
    ]),
  ];
}

/** What passes one way: what is named, and the answers to what is named the other way. */
function matches(passes: readonly Pass[], from: string, to: string): readonly string[] {
  return passes.flatMap((pass) => {
    if (pass.from === from && pass.to === to) return [matchOf(pass, "dport")];
    if (pass.from !== to || pass.to !== from || !pass.answers) return [];
    // an error about a connection (ICMP) is "related", and no answer
    return [`${matchOf(pass, "sport")} ct direction reply ct state established`];
  });
}

/** By number, and by `meta l4proto`: `ip protocol` knows nothing of IPv6. */
function matchOf({ protocol, ports }: Pass, end: "dport" | "sport"): string {
  if (ports === null) return `meta l4proto ${protocol}`;
  const port = ports.first === ports.last ? String(ports.first) : `${ports.first}-${ports.last}`;
  return `${protocol === PROTOCOLS.tcp ? "tcp" : "udp"} ${end} ${port}`;
}

function refuse(domain: string): string {
  return `counter name "${refusedCounter(domain)}" drop`;
}
