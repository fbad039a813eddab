import { domainToASCII, domainToUnicode } from "node:url";
import { parseIpRange, renderIpRange } from "../core/ip-range.ts";

/** A host as it is compared: a name in small A-labels without the last dot, or an address in one form for each. */
export type Host = { readonly kind: "name" | "address"; readonly text: string };
export type Authority = { readonly host: Host; readonly port: number };

const MAX_NAME = 253;
const LABEL = /^[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?$/;
const IPV4 = /^(?:0|[1-9]\d{0,2})(?:\.(?:0|[1-9]\d{0,2})){3}$/;
const IPV6 = /^[0-9a-f:.]*:[0-9a-f:.]*$/i;
/** What URL parsers take for a part of an IPv4 address: 2130706433, 0x7f, 0177. */
const NUMBER = /^(?:\d+|0x[0-9a-f]*)$/;

/**
 * Reads a host as a client sends it, an IPv6 address without its brackets. Null for anything that is not plainly a name
 * of ASCII labels or an address: no other spelling of an address (127.1, 0x7f000001), no A-label that stands for nothing.
 */
export function parseHost(text: string): Host | null {
  if (text.includes(":")) return IPV6.test(text) ? addressOf(text) : null;
  if (IPV4.test(text)) return addressOf(text);
  const name = text.toLowerCase().replace(/\.$/, "");
  if (name.length === 0 || name.length > MAX_NAME) return null;
  const labels = name.split(".");
  if (!labels.every((label) => LABEL.test(label)) || NUMBER.test(labels.at(-1) ?? "")) return null;
  return isOneSpelling(name) ? { kind: "name", text: name } : null;
}

/** "host:port" or "[address]:port". `usual`: the port where none is written; null where one has to be. */
export function parseAuthority(text: string, usual: number | null): Authority | null {
  const match = /^(?:\[([^\][]+)\]|([^:@[\]]+))(?::(\d{1,5}))?$/.exec(text);
  if (match === null) return null;
  const [, bracketed, plain = "", digits] = match;
  const host = parseHost(bracketed ?? plain);
  if (host === null || (bracketed !== undefined && !bracketed.includes(":"))) return null;
  const port = digits === undefined ? usual : parsePort(digits);
  return port === null ? null : { host, port };
}

/** 1 to 65535, without leading zeros; null for anything else. */
export function parsePort(text: string): number | null {
  const port = /^[1-9]\d{0,4}$/.test(text) ? Number(text) : 0;
  return port >= 1 && port <= 65_535 ? port : null;
}

/** As it stands in a URL or a Host header. */
export function renderHost({ kind, text }: Host): string {
  return kind === "address" && text.includes(":") ? `[${text}]` : text;
}

function addressOf(text: string): Host | null {
  const range = parseIpRange(text);
  return range === null ? null : { kind: "address", text: renderIpRange(range) };
}

/** Every A-label stands for a name that is written so and in no other way. */
function isOneSpelling(name: string): boolean {
  if (!/(?:^|\.)xn--/.test(name)) return true;
  const told = domainToUnicode(name);
  return !/(?:^|\.)xn--/.test(told) && told !== name && domainToASCII(told) === name;
}
