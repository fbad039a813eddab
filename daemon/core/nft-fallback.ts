import type { Family } from "./nft.ts";

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
