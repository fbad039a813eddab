import { PROTOCOLS } from "./net-entry.ts";
import type { Listing } from "./nft-listing.ts";
import { chain } from "./nft-script.ts";

/** What a mode in shadow would have refused, since at most an hour ago. `port`: the destination's; null where there is none. */
export type WouldBlock = {
  readonly direction: "in" | "out" | "forward";
  /** Of the far end; of what is forwarded, the destination's. */
  readonly address: string;
  readonly protocol: string;
  readonly port: number | null;
};

/** Since the last packet of its kind. Renewed by each. */
const LASTS = "1h";

/** How many each set holds at most; the kernel forgets nothing earlier for a newcomer. */
export const SHADOW_SIZE = 1_024;

const WAYS = { in: "saddr", out: "daddr", forward: "daddr" } as const;
type Way = keyof typeof WAYS;
const ALL_WAYS = Object.keys(WAYS) as readonly Way[];
const SET = /^set would_(in|out|forward)[46]$/;
const NAMES: ReadonlyMap<string, string> = new Map([
  ...Object.entries(PROTOCOLS).map(([name, number]) => [String(number), name] as const),
  ["ipv6-icmp", "icmpv6"],
]);

/** The sets, and the chains that a refusal goes to instead of being dropped: they take a note, and let it pass. */
export function renderShadow(): string[] {
  return ALL_WAYS.flatMap((way) => [...noteSet(way, 4), ...noteSet(way, 6), ...noteChain(way)]);
}

/** Whether a block is one that the kernel itself adds elements to. */
export function isShadowSet(key: string): boolean {
  return SET.test(key);
}

/** Reads them back, sorted. An element in another form is left out. */
export function readShadow(inet: Listing): readonly WouldBlock[] {
  const seen: WouldBlock[] = [];
  for (const [key, block] of inet.blocks) {
    const direction = SET.exec(key)?.[1] as Way | undefined;
    if (direction === undefined) continue;
    for (const text of block.elements.slice(0, SHADOW_SIZE)) {
      const match = ELEMENT.exec(text);
      if (match === null) continue;
      const [, address = "", protocol = "", port = ""] = match;
      seen.push({
        direction,
        address,
        protocol: NAMES.get(protocol) ?? protocol,
        port: port === "0" ? null : Number(port),
      });
    }
  }
  return seen.toSorted((a, b) => compare(keyOf(a), keyOf(b)));
}

/**
 * A script that puts what the sets held into those of newly loaded rules, each for the time that it had left; "" where
 * there is nothing. Nothing of what the kernel listed gets into it but addresses, words and numbers.
 */
export function renderNotes(inet: Listing): string {
  return [...inet.blocks]
    .filter(([key]) => isShadowSet(key))
    .map(([key, { elements }]) => {
      const kept = elements.slice(0, SHADOW_SIZE).flatMap((text) => {
        const [, address, protocol, port, left] = ELEMENT.exec(text) ?? [];
        return left === undefined
          ? []
          : [`${address} . ${protocol} . ${port} timeout ${LASTS} expires ${left}`];
      });
      const name = key.slice("set ".length);
      return kept.length === 0 ? "" : `add element inet boundary ${name} { ${kept.join(", ")} }\n`;
    })
    .join("");
}

/** What the list may lack, a sentence each. `all`: what was read back, unshortened. */
export function limitsOf(all: readonly WouldBlock[]): readonly string[] {
  const counts = Map.groupBy(all, ({ direction, address }) =>
    [direction, address.includes(":") ? "IPv6" : "IPv4"].join(", "),
  );
  const full = [...counts].filter(([, { length }]) => length >= SHADOW_SIZE).map(([which]) => which);
  return [
    "an entry is listed for an hour after its last packet",
    "refusals of ARP, and of raw frames on the links, are not listed",
    ...full.map(
      (which) => `full (${which}): ${SHADOW_SIZE} are listed, and nothing new until one is an hour old`,
    ),
  ];
}

const ELEMENT =
  /^([0-9a-f.:]{2,45}) \. ([a-z0-9-]{1,32}) \. (\d{1,5})(?: timeout 1h)?(?: expires ((?:\d{1,9}(?:d|h|ms|m|s)){1,5}))?(?: |$)/;

function noteSet(way: Way, family: 4 | 6): string[] {
  return [
    `set would_${way}${family} {`,
    `type ipv${family}_addr . inet_proto . inet_service`,
    `size ${SHADOW_SIZE}`,
    "flags dynamic,timeout",
    `timeout ${LASTS}`,
    "}",
  ];
}

function noteChain(way: Way): string[] {
  const note = (family: 4 | 6, port: string) =>
    `update @would_${way}${family} { ${family === 4 ? "ip" : "ip6"} ${WAYS[way]} . meta l4proto . ${port} }`;
  return chain(`shadow_${way}`, [
    ...([4, 6] as const).flatMap((family) => [
      `meta l4proto { 6, 17 } ${note(family, "th dport")}`,
      `meta l4proto != { 6, 17 } ${note(family, "0")}`,
    ]),
    "accept",
  ]);
}

function keyOf({ direction, address, protocol, port }: WouldBlock): string {
  return `${direction} ${address} ${protocol} ${String(port ?? 0).padStart(5, "0")}`;
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
