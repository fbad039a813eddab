import { readFileSync } from "node:fs";
import koffi from "koffi";

/** Sockets that Node has not: raw IP, and the link itself. All calls are synchronous and never wait. */
const libc = koffi.load("libc.so.6");
const socket = libc.func("int socket(int domain, int type, int protocol)");
const bind = libc.func("int bind(int fd, const void *address, uint32_t length)");
const sendto = libc.func(
  "long sendto(int fd, const void *data, size_t length, int flags, const void *address, uint32_t size)",
);
const recv = libc.func("long recv(int fd, _Out_ uint8_t *data, size_t length, int flags)");
const setsockopt = libc.func(
  "int setsockopt(int fd, int level, int name, const void *value, uint32_t length)",
);

const FAMILY = { 4: 2, 6: 10 } as const;
const [SOCK_DGRAM, SOCK_RAW, AF_PACKET, MSG_DONTWAIT] = [2, 3, 17, 0x40];
const SOL_PACKET = 263;
const PACKET_QDISC_BYPASS = 20;

/** Receives, and sends, packets of one protocol of IP. */
export function openRaw(family: 4 | 6, protocol: number): number {
  return opened(socket(FAMILY[family], SOCK_RAW, protocol) as number);
}

/** A UDP socket that is `uid`'s. */
export function openUdpAs(family: 4 | 6, uid: number): number {
  process.seteuid?.(uid);
  try {
    return opened(socket(FAMILY[family], SOCK_DGRAM, 0) as number);
  } finally {
    process.seteuid?.(0);
  }
}

/** Sees the frames of one link, of one type (0x0003: every one), and sends any. */
export function openLink(link: string, type: number, bypass = false): number {
  const fd = opened(socket(AF_PACKET, SOCK_RAW, swapped(type)) as number);
  const address = Buffer.alloc(20);
  address.writeUInt16LE(AF_PACKET, 0);
  address.writeUInt16BE(type, 2);
  address.writeInt32LE(Number(readFileSync(`/sys/class/net/${link}/ifindex`, "utf8")), 4);
  if (bind(fd, address, address.length) !== 0) throw new Error(`bind to ${link}`);
  const one = Buffer.from([1, 0, 0, 0]);
  if (bypass && setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, one, 4) !== 0) throw new Error("bypass");
  return fd;
}

/** Whether the kernel took it. `port`: for UDP. */
export function sendTo(fd: number, family: 4 | 6, to: string, data: Buffer, port = 0): boolean {
  const address = Buffer.alloc(family === 4 ? 16 : 28);
  address.writeUInt16LE(FAMILY[family], 0);
  address.writeUInt16BE(port, 2);
  address.set(family === 4 ? to.split(".").map(Number) : bytesOfIpv6(to), family === 4 ? 4 : 8);
  return (sendto(fd, data, data.length, 0, address, address.length) as number) === data.length;
}

export function sendFrame(fd: number, frame: Buffer): boolean {
  return (sendto(fd, frame, frame.length, 0, null, 0) as number) === frame.length;
}

/** What has come since the last call, as text in which each byte is a character. */
export function drain(fd: number): readonly string[] {
  const seen: string[] = [];
  const buffer = Buffer.alloc(2_048);
  for (;;) {
    const length = recv(fd, buffer, buffer.length, MSG_DONTWAIT) as number;
    if (length < 0) return seen;
    seen.push(buffer.toString("latin1", 0, length));
  }
}

/**
 * A packet's contents after its IP header, with a token in it. `tcp-new` begins a connection, `tcp-established` is of one.
 * `port`: the destination's.
 */
export function contents(kind: PacketKind, token: string, port = 9_000): Buffer {
  const text = Buffer.from(token, "latin1");
  switch (kind) {
    case "icmp":
      return withChecksum(Buffer.concat([Buffer.from([8, 0, 0, 0, 0, 1, 0, 1]), text]));
    case "icmpv6":
      return Buffer.concat([Buffer.from([128, 0, 0, 0, 0, 1, 0, 1]), text]); // the kernel fills in the checksum
    case "tcp-new":
    case "tcp-established": {
      const header = Buffer.alloc(20);
      header.writeUInt16BE(40_000, 0);
      header.writeUInt16BE(port, 2);
      header[12] = 5 << 4;
      header[13] = kind === "tcp-new" ? 0x02 : 0x18;
      return Buffer.concat([header, text]);
    }
    case "udp": {
      const header = Buffer.alloc(8);
      header.writeUInt16BE(40_000, 0);
      header.writeUInt16BE(port, 2);
      header.writeUInt16BE(8 + text.length, 4);
      return Buffer.concat([header, text]);
    }
    case "esp":
    case "sctp":
      return Buffer.concat([Buffer.alloc(8, 1), text]);
  }
}

export type PacketKind = "udp" | "tcp-new" | "tcp-established" | "icmp" | "icmpv6" | "esp" | "sctp";

function withChecksum(message: Buffer): Buffer {
  let sum = 0;
  for (let at = 0; at < message.length; at += 2) sum += (message[at] ?? 0) * 256 + (message[at + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  message.writeUInt16BE(0xffff - sum, 2);
  return message;
}

function bytesOfIpv6(text: string): readonly number[] {
  const [left = "", right = ""] = text.split("::");
  const groups = (half: string) =>
    half === "" ? [] : half.split(":").map((group) => Number.parseInt(group, 16));
  const zeros = 8 - groups(left).length - groups(right).length;
  const all = [...groups(left), ...Array.from({ length: zeros }, () => 0), ...groups(right)];
  return all.flatMap((group) => [group >> 8, group & 255]);
}

function swapped(type: number): number {
  return ((type & 255) << 8) | (type >> 8);
}

function opened(fd: number): number {
  if (fd < 0) throw new Error("socket");
  return fd;
}
