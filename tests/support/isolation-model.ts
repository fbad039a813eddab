import type { Listing } from "../../daemon/core/nft-listing.ts";

/** A packet as a hook of the router meets it. `from`, `to`: the interfaces; "" is this host. */
export type DomainPacket = {
  readonly from: string;
  readonly to: string;
  readonly protocol: number;
  /** 0: the protocol has none. */
  readonly sourcePort: number;
  readonly port: number;
  /** Whether connection tracking has seen its connection begin the other way. */
  readonly answer: boolean;
  /** Neighbour discovery of IPv6. */
  readonly neighbours: boolean;
};

/**
 * Reads the rendered table of the domains as the kernel would: another way from the same configuration to a verdict. It
 * knows the words that `renderIsolation` uses and throws at any other.
 */
export function passesDomains(table: Listing, packet: DomainPacket): boolean {
  const hook = packet.to === "" ? "input" : packet.from === "" ? "leaving" : "forward";
  return verdict(table, hook, packet) !== "drop";
}

function verdict(table: Listing, chain: string, packet: DomainPacket): "accept" | "drop" | null {
  for (const rule of table.blocks.get(`chain ${chain}`)?.statements ?? []) {
    if (rule.startsWith("type ")) {
      if (!/^type filter hook \w+ priority -?\d+$/.test(rule)) throw new Error(rule);
      continue;
    }
    if (rule.startsWith("policy ")) {
      if (rule !== "policy accept") throw new Error(rule);
      continue;
    }
    const given = run(table, rule.split(" "), packet);
    if (given !== null) return given;
  }
  return null;
}

function run(table: Listing, words: readonly string[], packet: DomainPacket): "accept" | "drop" | null {
  let at = 0;
  const take = () => words[at++] ?? "";
  while (at < words.length) {
    const word = take();
    switch (word) {
      case "accept":
      case "drop":
        return word;
      case "jump":
        return verdict(table, take(), packet);
      case "counter":
        at += 2;
        break;
      default:
        if (!matches(table, word, take, packet)) return null;
    }
  }
  return null;
}

function matches(table: Listing, word: string, take: () => string, packet: DomainPacket): boolean {
  switch (word) {
    case "iifname":
      return isIn(table, packet.from, take());
    case "oifname":
      return isIn(table, packet.to, take());
    case "iif":
      if (take() !== "0") throw new Error("iif");
      return packet.from === "";
    case "meta":
      if (take() !== "l4proto") throw new Error("meta");
      return packet.protocol === Number(take());
    case "tcp":
    case "udp": {
      const its = take() === "dport" ? packet.port : packet.sourcePort;
      const [first = "", last = first] = take().split("-");
      const number = word === "tcp" ? 6 : 17;
      return packet.protocol === number && Number(first) <= its && its <= Number(last);
    }
    case "ct":
      take();
      take();
      return packet.answer;
    case "icmpv6":
      for (let i = 0; i < 8; i++) take(); // type { a, b } ip6 hoplimit 255
      return packet.neighbours;
    default:
      throw new Error(`the model does not know ${word}`);
  }
}

function isIn(table: Listing, name: string, wanted: string): boolean {
  const found = table.blocks.get(`set ${wanted.slice(1)}`);
  if (found === undefined || !wanted.startsWith("@")) throw new Error(`no set ${wanted}`);
  return found.elements.includes(name);
}
