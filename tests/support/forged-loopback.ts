import { openSync, writeSync } from "node:fs";
import koffi from "koffi";

const TUNSETIFF = 0x400454ca;
const TUNSETLINK = 0x400454cd;
const IFF_TUN_NO_PI = 0x1001;
const ARPHRD_LOOPBACK = 772;

/** Makes a tun device and gives it loopback's type. What is written to the result comes in by it; it lives while we do. */
export function forgeLoopback(name: string): number {
  const libc = koffi.load("libc.so.6");
  const setInterface = libc.func("int ioctl(int fd, unsigned long request, void *argument)");
  const setType = libc.func("int ioctl(int fd, unsigned long request, unsigned long argument)");
  const fd = openSync("/dev/net/tun", "r+");
  const request = Buffer.alloc(40);
  request.write(name, "latin1");
  request.writeUInt16LE(IFF_TUN_NO_PI, 16);
  if (setInterface(fd, TUNSETIFF, request) !== 0) throw new Error("TUNSETIFF");
  if (setType(fd, TUNSETLINK, ARPHRD_LOOPBACK) !== 0) throw new Error("TUNSETLINK");
  return fd;
}

/** A datagram in IPv4, without a checksum of UDP (0: none). */
export function writeUdp(fd: number, from: string, to: string, port: number, text: string): void {
  const packet = Buffer.alloc(28 + text.length);
  packet.writeUInt8(0x45, 0);
  packet.writeUInt16BE(packet.length, 2);
  packet.writeUInt8(64, 8); // time to live
  packet.writeUInt8(17, 9); // UDP
  for (const [at, address] of [
    [12, from],
    [16, to],
  ] as const)
    packet.set(address.split(".").map(Number), at);
  packet.writeUInt16BE(checksum(packet.subarray(0, 20)), 10);
  packet.writeUInt16BE(port, 20);
  packet.writeUInt16BE(port, 22);
  packet.writeUInt16BE(8 + text.length, 24);
  packet.write(text, 28, "latin1");
  writeSync(fd, packet);
}

function checksum(header: Buffer): number {
  let sum = 0;
  for (let at = 0; at < header.length; at += 2) sum += header.readUInt16BE(at);
  return 0xffff - ((sum & 0xffff) + (sum >>> 16));
}
