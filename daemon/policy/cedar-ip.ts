import { failure } from "./cedar-failure.ts";
import type { IpAddress } from "./cedar-value.ts";

const LONGEST_TEXT = 43;
const OCTET = /^(?:0|[1-9][0-9]{0,2})$/;
const GROUP = /^[0-9a-fA-F]{1,4}$/;
const PREFIX = /^(?:0|[1-9][0-9]{0,2})$/;
const GROUPS = 8;
const BITS = { 4: 32, 6: 128 } as const;

/** An address with or without a prefix, as Cedar's `ip()` takes it: no zones, no IPv4 within IPv6. Throws a Failure. */
export function parseIp(text: string): IpAddress {
  const [address = "", prefixText, ...rest] = text.split("/");
  const version = address.includes(":") ? 6 : 4;
  const number = version === 6 ? parseV6(address) : parseV4(address);
  const prefix = prefixText === undefined ? BITS[version] : parsePrefix(prefixText, BITS[version]);
  if (text.length > LONGEST_TEXT || number === null || prefix === null || rest.length > 0)
    throw failure(`not an IP address: ${JSON.stringify(text)}`);
  const hostBits = (1n << BigInt(BITS[version] - prefix)) - 1n;
  const first = number & ~hostBits;
  return { kind: "ipaddr", version, address: number, prefix, first, last: first | hostBits };
}

export function isInRange(ip: IpAddress, range: IpAddress): boolean {
  return ip.version === range.version && range.first <= ip.first && ip.last <= range.last;
}

/** 127.0.0.0/8 and ::1, and ranges wholly within. */
export function isLoopback(ip: IpAddress): boolean {
  return ip.version === 4
    ? ip.address >> 24n === 127n && ip.prefix >= 8
    : ip.address === 1n && ip.prefix === 128;
}

/** 224.0.0.0/4 and ff00::/8, and ranges wholly within. */
export function isMulticast(ip: IpAddress): boolean {
  return ip.version === 4
    ? ip.address >> 28n === 0xen && ip.prefix >= 4
    : ip.address >> 120n === 0xffn && ip.prefix >= 8;
}

function parsePrefix(text: string, bits: number): number | null {
  if (!PREFIX.test(text)) return null;
  return Number(text) <= bits ? Number(text) : null;
}

function parseV4(text: string): bigint | null {
  const octets = text.split(".");
  if (octets.length !== 4) return null;
  let address = 0n;
  for (const octet of octets) {
    if (!OCTET.test(octet) || Number(octet) > 255) return null;
    address = (address << 8n) | BigInt(octet);
  }
  return address;
}

/** "::" stands for at least one group of zeros, and is there at most once. */
function parseV6(text: string): bigint | null {
  const [headText = "", tailText, ...more] = text.split("::");
  const head = headText === "" ? [] : headText.split(":");
  const tail = tailText === undefined || tailText === "" ? [] : tailText.split(":");
  const missing = GROUPS - head.length - tail.length;
  if (more.length > 0 || (tailText === undefined ? missing !== 0 : missing < 1)) return null;
  let address = 0n;
  for (const group of [...head, ...Array<string>(missing).fill("0"), ...tail]) {
    if (!GROUP.test(group)) return null;
    address = (address << 16n) | BigInt(`0x${group}`);
  }
  return address;
}
