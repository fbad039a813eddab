/** One TCP connection of this host, as /proc/net/tcp shows it. Addresses in the form of `core/ip-range.ts`, without a zone. */
export type Flow = {
  readonly family: 4 | 6;
  readonly localAddress: string;
  readonly localPort: number;
  readonly remoteAddress: string;
  readonly remotePort: number;
};
