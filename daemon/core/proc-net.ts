import type { Flow } from "./flow.ts";
import { parseIpRange, renderIpRange } from "./ip-range.ts";

/** One end of a socket; of a family by the packets it takes: an IPv4 address mapped into IPv6 is of family 4. */
type End = { readonly family: 4 | 6; readonly address: string; readonly port: number };

/** What waits for packets from outside: a TCP listener, or a UDP socket without a peer. */
export type Listener = End & {
  readonly protocol: "tcp" | "udp";
  /** Bound to every address; one of IPv6 takes IPv4 as well, unless its owner said no. */
  readonly everywhere: boolean;
};

export type Sockets = {
  readonly flows: readonly Flow[];
  readonly listeners: readonly Listener[];
  /** Lines that could not be read. */
  readonly unread: number;
};

const ESTABLISHED = "01";
/** TCP_CLOSE, which is what a UDP socket without a peer reads. */
const UNCONNECTED = "07";
const LISTEN = "0A";
const ROW =
  /^\s*\d+: ([0-9A-F]{8}|[0-9A-F]{32}):([0-9A-F]{4}) ([0-9A-F]{8}|[0-9A-F]{32}):([0-9A-F]{4}) ([0-9A-F]{2}) /;

/** Reads /proc/net/tcp, tcp6, udp or udp6, heading included. Never throws: a line that is none is counted. */
export function parseProcNet(text: string, protocol: "tcp" | "udp"): Sockets {
  const flows: Flow[] = [];
  const listeners: Listener[] = [];
  let unread = 0;
  for (const line of text.split("\n").slice(1)) {
    if (line.trim() === "") continue;
    const row = ROW.exec(line);
    const local = endOf(row?.[1], row?.[2]);
    const remote = endOf(row?.[3], row?.[4]);
    if (local === null || remote === null) unread += 1;
    else if (protocol === "tcp" && row?.[5] === ESTABLISHED) flows.push(flowOf(local, remote));
    else if (row?.[5] === (protocol === "tcp" ? LISTEN : UNCONNECTED) && local.port !== 0)
      listeners.push({ protocol, ...local, everywhere: isUnspecified(local.address) });
  }
  return { flows, listeners, unread };
}

/** A flow as the tables show it, of addresses as people write them; null when they are no addresses of one family. */
export function normalFlow(flow: Omit<Flow, "family">): Flow | null {
  const local = normalEnd(flow.localAddress, flow.localPort);
  const remote = normalEnd(flow.remoteAddress, flow.remotePort);
  return local && remote && local.family === remote.family ? flowOf(local, remote) : null;
}

/** An address as the tables show it, without its zone; null when it is none. */
export function normalAddress(text: string): string | null {
  return normalEnd(text, 0)?.address ?? null;
}

function normalEnd(text: string, port: number): End | null {
  const range = parseIpRange(text.replace(/%.*$/s, ""));
  if (range === null || range.first !== range.last || text.includes("/") || text.includes("-")) return null;
  return endOfValue(range.family, range.first, port);
}

function flowOf(local: End, remote: End): Flow {
  return {
    family: local.family,
    localAddress: local.address,
    localPort: local.port,
    remoteAddress: remote.address,
    remotePort: remote.port,
  };
}

function endOf(address: string | undefined, port: string | undefined): End | null {
  if (address === undefined || port === undefined) return null;
  const value = BigInt(`0x${bigEndian(address)}`);
  return endOfValue(address.length === 8 ? 4 : 6, value, Number.parseInt(port, 16));
}

/** Words of 32 bits, each as the processor keeps it: least significant byte first on all that we run on. */
function bigEndian(hex: string): string {
  const words = hex.match(/.{8}/g) ?? [];
  return words.map((word) => (word.match(/../g) ?? []).toReversed().join("")).join("");
}

const MAPPED = 0xffffn;

function endOfValue(family: 4 | 6, value: bigint, port: number): End {
  const mapped = family === 6 && value >> 32n === MAPPED;
  const [own, first]: [4 | 6, bigint] = mapped ? [4, value & 0xffff_ffffn] : [family, value];
  return { family: own, address: renderIpRange({ family: own, first, last: first }), port };
}

function isUnspecified(address: string): boolean {
  return /^[0.:]+$/.test(address);
}
