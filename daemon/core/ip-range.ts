/** A range of addresses of one family, both ends included. */
export type IpRange = { readonly family: 4 | 6; readonly first: bigint; readonly last: bigint };

/**
 * Reads "10.0.0.1", "10.0.0.0/8", "10.0.0.1-10.0.0.9" and the IPv6 forms of these; null for anything else.
 * Bits of an address below its prefix are ignored, as nft does.
 */
export function parseIpRange(text: string): IpRange | null {
  const [from, to, ...more] = text.split("-");
  if (from === undefined || more.length > 0) return null;
  if (to === undefined) return parseCidr(from);
  const [a, b] = [parseAddress(from), parseAddress(to)];
  if (a === null || b === null || a.family !== b.family || a.value > b.value) return null;
  return { family: a.family, first: a.value, last: b.value };
}

/** Sorted, and without the ones that lie within another: nft refuses a set whose networks overlap. */
export function withoutContained(networks: readonly IpRange[]): readonly IpRange[] {
  // wider first where two begin alike, so that the one that contains comes before the contained
  const sorted = networks.toSorted((a, b) => compare(a.first, b.first) || compare(b.last, a.last));
  const kept: IpRange[] = [];
  for (const network of sorted) {
    const before = kept.at(-1);
    // networks of CIDR form are nested or apart, so the last one kept is the only candidate
    if (before === undefined || network.last > before.last) kept.push(network);
  }
  return kept;
}

/** As an element of an nft set: an address or a range, IPv6 in eight full groups. */
export function renderIpRange(range: IpRange): string {
  const first = renderAddress(range.family, range.first);
  return range.first === range.last ? first : `${first}-${renderAddress(range.family, range.last)}`;
}

function compare(a: bigint, b: bigint): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function parseCidr(text: string): IpRange | null {
  const match = /^([0-9A-Fa-f:.]{2,45})(?:\/(\d{1,3}))?$/.exec(text);
  const address = parseAddress(match?.[1] ?? "");
  if (match === null || address === null) return null;
  const bits = address.family === 4 ? 32 : 128;
  const prefix = match[2] === undefined ? bits : Number(match[2]);
  if (prefix > bits) return null;
  const size = 1n << BigInt(bits - prefix);
  const first = address.value - (address.value % size);
  return { family: address.family, first, last: first + size - 1n };
}

type Address = { readonly family: 4 | 6; readonly value: bigint };

function parseAddress(text: string): Address | null {
  const parts = text.includes(":") ? groupsOfIpv6(text) : bytesOfIpv4(text);
  if (parts === null) return null;
  const family = text.includes(":") ? 6 : 4;
  const width = family === 4 ? 8n : 16n;
  return { family, value: parts.reduce((sum, part) => (sum << width) | BigInt(part), 0n) };
}

function bytesOfIpv4(text: string): readonly number[] | null {
  const match = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text);
  const bytes = match?.slice(1).map(Number) ?? [];
  return bytes.length === 4 && bytes.every((byte) => byte <= 255) ? bytes : null;
}

/** Eight 16-bit groups. RFC 4291 section 2.2: one "::" stands for zero groups, the last two may be dotted. */
function groupsOfIpv6(text: string): readonly number[] | null {
  const halves = text.split("::");
  if (halves.length > 2) return null;
  const [left, right] = halves.map((half, i) => groupsOf(half, i === halves.length - 1));
  if (left === undefined || left === null || right === null) return null;
  if (right === undefined) return left.length === 8 ? left : null;
  const zeros = 8 - left.length - right.length;
  return zeros < 1 ? null : [...left, ...Array.from({ length: zeros }, () => 0), ...right];
}

function groupsOf(half: string, dottedAllowed: boolean): readonly number[] | null {
  if (half === "") return [];
  const groups: number[] = [];
  const parts = half.split(":");
  for (const [i, part] of parts.entries()) {
    const bytes = dottedAllowed && i === parts.length - 1 ? bytesOfIpv4(part) : null;
    if (bytes !== null) {
      const [a = 0, b = 0, c = 0, d = 0] = bytes;
      groups.push(a * 256 + b, c * 256 + d);
    } else if (/^[0-9A-Fa-f]{1,4}$/.test(part)) groups.push(Number.parseInt(part, 16));
    else return null;
  }
  return groups;
}

function renderAddress(family: 4 | 6, value: bigint): string {
  const [count, width] = family === 4 ? [4, 8n] : [8, 16n];
  const mask = (1n << width) - 1n;
  const parts = Array.from({ length: count }, (_, i) => (value >> (width * BigInt(count - 1 - i))) & mask);
  return family === 4 ? parts.join(".") : parts.map((part) => part.toString(16)).join(":");
}
