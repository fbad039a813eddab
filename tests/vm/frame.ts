/**
 * Ethernet frames, as far as the test needs them: written by hand, so that what goes over the guest's wire is known
 * to the byte and no kernel of ours answers in between.
 */
export type Mac = string;

/** What a frame is, from the outside. `from` and `to` are the addresses of the packet, "" where it has none. */
export type Seen = {
  readonly kind: "arp" | "icmp" | "icmp6" | "tcp" | "udp" | "other";
  readonly from: string;
  readonly to: string;
  /** icmp and icmp6: the type; tcp: the flags; arp: the operation; udp: 0. */
  readonly what: number;
  /** tcp and udp */
  readonly fromPort: number;
  readonly toPort: number;
  /** icmp echo: the sequence number, else 0. */
  readonly sequence: number;
};

export type Packet = { readonly from: string; readonly to: string };

const TYPE = { ipv4: 0x0800, arp: 0x0806, ipv6: 0x86dd } as const;
const PROTOCOL = { icmp: 1, tcp: 6, udp: 17, icmp6: 58 } as const;
const NOTHING = { from: "", to: "", what: 0, fromPort: 0, toPort: 0, sequence: 0 } as const;

export const ECHO_REQUEST = { 4: 8, 6: 128 } as const;
export const ECHO_REPLY = { 4: 0, 6: 129 } as const;
export const NEIGHBOUR_SOLICITATION = 135;
export const TCP_SYN = 0x02;

/** Reads a frame. Never throws: what it does not know is "other". */
export function readFrame(frame: Buffer): Seen {
  const type = frame.length < 14 ? 0 : frame.readUInt16BE(12);
  if (type === TYPE.arp && frame.length >= 42) {
    const [from, to] = [ipv4(frame, 28), ipv4(frame, 38)];
    return { ...NOTHING, kind: "arp", from, to, what: frame.readUInt16BE(20) };
  }
  if (type === TYPE.ipv4 && frame.length >= 34) {
    const start = 14 + ((frame[14] ?? 0) & 0x0f) * 4;
    return readPacket(frame.subarray(start), frame[23] ?? 0, ipv4(frame, 26), ipv4(frame, 30));
  }
  if (type === TYPE.ipv6 && frame.length >= 54) {
    // hop-by-hop options stand before multicast reports
    const hops = frame[20] === 0 ? ((frame[55] ?? 0) + 1) * 8 : 0;
    const protocol = hops > 0 ? (frame[54] ?? 0) : (frame[20] ?? 0);
    return readPacket(frame.subarray(54 + hops), protocol, ipv6(frame, 22), ipv6(frame, 38));
  }
  return { ...NOTHING, kind: "other" };
}

function readPacket(body: Buffer, protocol: number, from: string, to: string): Seen {
  const ends = { ...NOTHING, from, to };
  if (body.length < 8) return { ...ends, kind: "other" };
  const ports = { fromPort: body.readUInt16BE(0), toPort: body.readUInt16BE(2) };
  switch (protocol) {
    case PROTOCOL.icmp:
      return { ...ends, kind: "icmp", what: body[0] ?? 0, sequence: body.readUInt16BE(6) };
    case PROTOCOL.icmp6:
      return { ...ends, kind: "icmp6", what: body[0] ?? 0, sequence: body.readUInt16BE(6) };
    case PROTOCOL.tcp:
      return { ...ends, ...ports, kind: "tcp", what: body[13] ?? 0 };
    case PROTOCOL.udp:
      return { ...ends, ...ports, kind: "udp" };
    default:
      return { ...ends, kind: "other" };
  }
}

/** An ICMP or ICMPv6 echo, request or reply, by the addresses' family. */
export function echo(packet: Packet, what: "request" | "reply", sequence: number, payload: Buffer): Buffer {
  const head = Buffer.alloc(8);
  const family = familyOf(packet.to);
  head[0] = (what === "request" ? ECHO_REQUEST : ECHO_REPLY)[family];
  head.writeUInt16BE(0xb0d4, 4);
  head.writeUInt16BE(sequence, 6);
  return family === 4
    ? withIpv4(packet, PROTOCOL.icmp, summed(Buffer.concat([head, payload]), 2, Buffer.alloc(0)))
    : withIpv6(packet, PROTOCOL.icmp6, Buffer.concat([head, payload]), 2);
}

/** The reply to an echo request that came in: the same but for the type and the way it goes. */
export function echoReplyTo(frame: Buffer): Buffer {
  const seen = readFrame(frame);
  const family = familyOf(seen.to);
  const start = family === 4 ? 14 + ((frame[14] ?? 0) & 0x0f) * 4 : 54;
  const end = family === 4 ? 14 + frame.readUInt16BE(16) : 54 + frame.readUInt16BE(18);
  const body = Buffer.from(frame.subarray(start, end));
  body[0] = ECHO_REPLY[family];
  body.writeUInt16BE(0, 2);
  const packet = { from: seen.to, to: seen.from };
  return family === 4
    ? withIpv4(packet, PROTOCOL.icmp, summed(body, 2, Buffer.alloc(0)))
    : withIpv6(packet, PROTOCOL.icmp6, body, 2);
}

/** The first packet of a TCP connection. */
export function syn(packet: Packet, fromPort: number, toPort: number): Buffer {
  const head = Buffer.alloc(20);
  head.writeUInt16BE(fromPort, 0);
  head.writeUInt16BE(toPort, 2);
  head.writeUInt32BE(1, 4);
  head[12] = 5 << 4;
  head[13] = TCP_SYN;
  head.writeUInt16BE(1024, 14);
  if (familyOf(packet.to) === 6) return withIpv6(packet, PROTOCOL.tcp, head, 16);
  return withIpv4(packet, PROTOCOL.tcp, summed(head, 16, pseudo4(packet, PROTOCOL.tcp, head.length)));
}

export function udp(packet: Packet, fromPort: number, toPort: number): Buffer {
  const body = Buffer.concat([Buffer.alloc(8), Buffer.from("boundary")]);
  body.writeUInt16BE(fromPort, 0);
  body.writeUInt16BE(toPort, 2);
  body.writeUInt16BE(body.length, 4);
  if (familyOf(packet.to) === 6) return withIpv6(packet, PROTOCOL.udp, body, 6);
  return withIpv4(packet, PROTOCOL.udp, summed(body, 6, pseudo4(packet, PROTOCOL.udp, body.length)));
}

/** ARP, "who has" or "is at". */
export function arp(
  what: "request" | "reply",
  from: { mac: Mac; ip: string },
  to: { mac: Mac; ip: string },
): Buffer {
  const head = Buffer.from([0, 1, 8, 0, 6, 4, 0, what === "request" ? 1 : 2]);
  return Buffer.concat([head, macBytes(from.mac), bytes4(from.ip), macBytes(to.mac), bytes4(to.ip)]);
}

/** The answer to an IPv6 neighbour solicitation for our address. */
export function advertisement(packet: Packet, mac: Mac): Buffer {
  const head = Buffer.from([136, 0, 0, 0, 0x60, 0, 0, 0]);
  return withIpv6(
    packet,
    PROTOCOL.icmp6,
    Buffer.concat([head, bytes6(packet.from), Buffer.from([2, 1]), macBytes(mac)]),
    2,
  );
}

/** Which address a neighbour solicitation asks for. */
export function solicited(frame: Buffer): string {
  return frame.length < 78 ? "" : ipv6(frame, 62);
}

/** A packet on its way: the Ethernet head before it. */
export function ethernet(from: Mac, to: Mac, payload: Buffer): Buffer {
  const first = payload[0] ?? 0;
  const type = first >> 4 === 4 ? TYPE.ipv4 : first >> 4 === 6 ? TYPE.ipv6 : TYPE.arp;
  return Buffer.concat([macBytes(to), macBytes(from), Buffer.from([type >> 8, type & 0xff]), payload]);
}

function withIpv4({ from, to }: Packet, protocol: number, body: Buffer): Buffer {
  const head = Buffer.alloc(20);
  head[0] = 0x45;
  head.writeUInt16BE(20 + body.length, 2);
  head[8] = 64;
  head[9] = protocol;
  bytes4(from).copy(head, 12);
  bytes4(to).copy(head, 16);
  return Buffer.concat([summed(head, 10, Buffer.alloc(0)), body]);
}

function withIpv6({ from, to }: Packet, protocol: number, body: Buffer, sumAt: number): Buffer {
  const head = Buffer.alloc(40);
  head[0] = 0x60;
  head.writeUInt16BE(body.length, 4);
  head[6] = protocol;
  head[7] = 255;
  bytes6(from).copy(head, 8);
  bytes6(to).copy(head, 24);
  const pseudo = Buffer.concat([
    head.subarray(8, 40),
    Buffer.from([0, 0, body.length >> 8, body.length & 0xff, 0, 0, 0, protocol]),
  ]);
  return Buffer.concat([head, summed(body, sumAt, pseudo)]);
}

function pseudo4({ from, to }: Packet, protocol: number, length: number): Buffer {
  return Buffer.concat([bytes4(from), bytes4(to), Buffer.from([0, protocol, length >> 8, length & 0xff])]);
}

/** The internet checksum over `pseudo` and `data`, written into a copy of `data` at `at`. */
function summed(data: Buffer, at: number, pseudo: Buffer): Buffer {
  const copy = Buffer.from(data);
  const all = Buffer.concat([pseudo, copy, Buffer.alloc(copy.length % 2)]);
  let sum = 0;
  for (let i = 0; i < all.length; i += 2) sum += all.readUInt16BE(i);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  copy.writeUInt16BE(~sum & 0xffff, at);
  return copy;
}

function familyOf(address: string): 4 | 6 {
  return address.includes(":") ? 6 : 4;
}

function macBytes(mac: Mac): Buffer {
  return Buffer.from(mac.replaceAll(":", ""), "hex");
}

function bytes4(address: string): Buffer {
  return Buffer.from(address.split(".").map(Number));
}

function bytes6(address: string): Buffer {
  const [head = "", tail = ""] = address.split("::");
  const groups = (text: string) =>
    text === "" ? [] : text.split(":").map((group) => Number.parseInt(group, 16));
  const [before, after] = [groups(head), groups(tail)];
  const all = [...before, ...Array.from({ length: 8 - before.length - after.length }, () => 0), ...after];
  return Buffer.from(all.flatMap((group) => [group >> 8, group & 0xff]));
}

function ipv4(frame: Buffer, at: number): string {
  return [...frame.subarray(at, at + 4)].join(".");
}

/** The longest run of zero groups becomes "::". */
function ipv6(frame: Buffer, at: number): string {
  const groups = Array.from({ length: 8 }, (_, i) => frame.readUInt16BE(at + 2 * i).toString(16));
  const runs = groups.join(":").match(/(?:^|:)0(?::0)+(?=:|$)/g) ?? [];
  const longest = runs.reduce((best, one) => (one.length > best.length ? one : best), "");
  const text = groups.join(":").replace(longest, ":");
  return longest === ""
    ? text
    : text.startsWith("::") || !/^:|:$/.test(text)
      ? text
      : text.replace(/^:|:$/, "::");
}
