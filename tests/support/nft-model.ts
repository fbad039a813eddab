import { type IpRange, parseIpRange } from "../../daemon/core/ip-range.ts";
import { PROTOCOLS } from "../../daemon/core/net-entry.ts";
import type { Listing } from "../../daemon/core/nft-listing.ts";
import type { Packet } from "../../daemon/core/would-pass.ts";

/**
 * Reads our rendered rules as the kernel would, for packets of the pure model: another way from the same configuration
 * to a verdict. It knows the words that `renderRules` uses and throws at any other. Every set of the dead-man is alive.
 */
export type Hook = "input" | "output" | "forward" | "leaving";

/** Whether a packet passes all the hooks on its way. */
export function passesRules(inet: Listing, packet: Packet): boolean {
  const hooks: readonly Hook[] =
    packet.direction === "in"
      ? ["input"]
      : packet.direction === "out"
        ? ["output", "leaving"]
        : ["forward", "leaving"];
  return hooks.every((hook) => verdict(inet, `chain ${hook}`, packet, hook) === "accept");
}

type Verdict = "accept" | "drop";

function verdict(inet: Listing, key: string, packet: Packet, hook: Hook): Verdict | null {
  const [declaration, policy, ...rules] = inet.blocks.get(key)?.statements ?? [];
  const isBase = declaration?.startsWith("type filter") === true;
  const all = isBase ? rules : (inet.blocks.get(key)?.statements ?? []);
  for (const rule of all) {
    const given = run(inet, rule.split(" "), packet, hook);
    if (given !== null) return given;
  }
  return isBase ? (policy === "policy drop" ? "drop" : "accept") : null;
}

function run(inet: Listing, words: readonly string[], packet: Packet, hook: Hook): Verdict | null {
  let at = 0;
  const take = () => words[at++] ?? "";
  while (at < words.length) {
    const word = take();
    switch (word) {
      case "accept":
      case "drop":
        return word;
      case "jump":
        return verdict(inet, `chain ${take()}`, packet, hook);
      case "counter":
        at += 2;
        break;
      default:
        if (!matches(inet, word, take, packet, hook)) return null;
    }
  }
  return null;
}

function matches(inet: Listing, word: string, take: () => string, packet: Packet, hook: Hook): boolean {
  const outwards = hook === "output" || hook === "leaving";
  const port = packet.port;
  switch (word) {
    case "iifname":
      return isIn(inet, packet.interface, take());
    case "oifname":
      return isIn(
        inet,
        packet.direction === "forward" ? (packet.outInterface ?? "") : packet.interface,
        take(),
      );
    case "ip":
    case "ip6": {
      const end = take();
      const range = take();
      if (packet.family !== (word === "ip" ? 4 : 6)) return false;
      const forwarded = packet.direction === "forward";
      const source = forwarded || packet.direction === "in" ? packet.remoteAddress : packet.localAddress;
      const target = forwarded || packet.direction === "in" ? packet.localAddress : packet.remoteAddress;
      return isWithin(inet, end === "saddr" ? source : target, range);
    }
    case "tcp":
    case "udp": {
      const end = take();
      const [first = "", last = first] = take().split("-");
      const its = end === "dport" ? port : (packet.answersFrom ?? 40_000);
      return packet.protocol === word && its !== null && Number(first) <= its && its <= Number(last);
    }
    case "meta":
      return matchesMeta(inet, take(), take(), packet, outwards);
    case "socket": {
      take();
      take();
      take();
      const path = take().replace(/"/g, "");
      return packet.cgroup != null && `${packet.cgroup}/`.startsWith(`${path}/`);
    }
    case "ct":
      take();
      take();
      return packet.answersFrom !== undefined;
    case "icmpv6":
      for (let i = 0; i < 8; i++) take();
      return false; // no packet of the model is of neighbour discovery
    default:
      throw new Error(`the model does not know ${word}`);
  }
}

function matchesMeta(inet: Listing, what: string, value: string, packet: Packet, outwards: boolean): boolean {
  switch (what) {
    case "nfproto":
      return inet.blocks.has("set alive");
    case "iifkind":
    case "oifkind":
      return false; // no packet of the model comes by a tun device
    case "iiftype":
    case "oiftype":
      return packet.loopback && outwards === (what === "oiftype");
    case "l4proto":
      return PROTOCOLS[packet.protocol as keyof typeof PROTOCOLS] === Number(value);
    case "skuid":
      return packet.uid === Number(value);
    default:
      throw new Error(`the model does not know meta ${what}`);
  }
}

function isIn(inet: Listing, name: string, wanted: string): boolean {
  if (!wanted.startsWith("@")) return wanted === name;
  return inet.blocks.get(`set ${wanted.slice(1)}`)?.elements.includes(name) === true;
}

function isWithin(inet: Listing, address: string, wanted: string): boolean {
  const ranges = wanted.startsWith("@")
    ? (inet.blocks.get(`set ${wanted.slice(1)}`)?.elements ?? [])
    : [wanted];
  const at = rangeOf(address);
  return ranges
    .map(rangeOf)
    .some((range) => range.family === at.family && range.first <= at.first && at.last <= range.last);
}

function rangeOf(text: string): IpRange {
  const range = parseIpRange(text);
  if (range === null) throw new Error(`${text} is no address`);
  return range;
}
