import type { Config } from "./config.ts";
import type { Family } from "./nft.ts";
import { isLinkClosed } from "./nft-link.ts";
import type { Posture } from "./posture.ts";

/** What is left out of a mode's rules because the kernel refused them with it. */
export type Without = { readonly allow: boolean; readonly links: boolean; readonly arp: boolean };

export const NOTHING: Without = { allow: false, links: false, arp: false };

/**
 * What is tried, one after the other, when the kernel refuses a mode's rules: an entry that lets through must not hold up
 * a mode that closes, nor must a kernel without an egress hook (before 5.16) or without ARP tables. The second differs
 * from the first in TRUSTED alone; elsewhere it is a second try, since a link may have gone between the look and the load.
 */
export const FALLBACKS: readonly Without[] = [
  NOTHING,
  { allow: true, links: false, arp: false },
  { allow: false, links: true, arp: false },
  { allow: false, links: true, arp: true },
  { allow: true, links: true, arp: true },
];

/** The families in which there is to be a table then. */
export function familiesOf({ links, arp }: Without): readonly Family[] {
  return ["inet", ...(arp ? [] : (["arp"] as const)), ...(links ? [] : (["netdev"] as const))];
}

/** What the rules of a mode leave out, for people. */
export type LeftOut = {
  readonly what: string;
  /** The mode closes it, and it stays open: the mode is not enforced then. */
  readonly opens: boolean;
  /** The kernel refused it, and may take it later. */
  readonly refused: boolean;
};

/** What a mode lacks without them. */
export function lacking(
  without: Without,
  posture: Posture,
  { allow }: Config["network"],
): readonly LeftOut[] {
  const closed = isLinkClosed(posture);
  const refused = true;
  return [
    ...(without.allow && posture.network === "trusted-only" && allow.length > 0
      ? [{ what: "network.allow, none of which passes", opens: false, refused }]
      : []),
    ...(without.arp
      ? [{ what: closed ? "ARP, which stays open" : "ARP's dead-man", opens: closed, refused }]
      : []),
    ...(without.links && closed
      ? [{ what: "the links, over which raw frames pass", opens: true, refused }]
      : []),
  ];
}

const MAX_WHY_CHARS = 160;

/** One of them, with what the kernel said, as one line of printable ASCII. */
export function renderLeftOut({ what, refused }: LeftOut, why: string): string {
  const said = why.replace(/[^ -~]+/g, " ").slice(0, MAX_WHY_CHARS);
  return refused ? `${what} (refused: ${said})` : what;
}
