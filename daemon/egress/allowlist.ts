import { getDomain } from "tldts";
import { type Authority, type Host, parseHost, parsePort } from "./host.ts";
import { readName } from "./look-alikes.ts";

/**
 * Who may be connected to. Lists stand at several levels, and a host has to be on every list there is: they intersect.
 * A level without a list does not restrict; an empty list allows nothing, and so does no list at all.
 */
export const LEVELS = ["global", "project", "blueprint", "session"] as const;
export type Level = (typeof LEVELS)[number];
export type Allowlist = readonly Rule[];
/** null: this level has no list. */
export type Allowlists = Readonly<Record<Level, Allowlist | null>>;

type Rule = {
  /** subdomains: of exactly one label more, as in a certificate. */
  readonly kind: "host" | "subdomains";
  readonly host: Host;
  /** null: 443 and 80. */
  readonly port: number | null;
};

export type ReadAllowlist =
  | { readonly ok: true; readonly value: Allowlist }
  | { readonly ok: false; readonly problems: readonly { readonly at: number; readonly problem: string }[] };

export type Listed = { readonly ok: true } | { readonly ok: false; readonly why: string };

export const MAX_ENTRIES = 1_024;
const USUAL_PORTS: readonly number[] = [80, 443];

/**
 * Reads "example.com", "*.example.com", "192.0.2.1", "2001:db8::1", "[2001:db8::1]:8443", each but a bare IPv6 address
 * with or without ":port". One that cannot be read refuses the list, and so does "*." before a public suffix.
 */
export function parseAllowlist(entries: readonly string[]): ReadAllowlist {
  if (entries.length > MAX_ENTRIES)
    return { ok: false, problems: [{ at: MAX_ENTRIES, problem: `more than ${MAX_ENTRIES} entries` }] };
  const read = entries.map(parseEntry);
  const problems = read.flatMap((one, at) => (typeof one === "string" ? [{ at, problem: one }] : []));
  if (problems.length > 0) return { ok: false, problems };
  return { ok: true, value: read.filter((one) => typeof one !== "string") };
}

/** Whether every list there is has this host with this port. */
export function judgeListed(lists: Allowlists, asked: Authority): Listed {
  const there = LEVELS.filter((level) => lists[level] !== null);
  if (there.length === 0) return { ok: false, why: "no level lists any host" };
  const refusing = there.find((level) => !lists[level]?.some((rule) => covers(rule, asked)));
  return refusing === undefined
    ? { ok: true }
    : { ok: false, why: `the ${refusing} list does not have it with this port` };
}

function covers({ kind, host, port }: Rule, asked: Authority): boolean {
  if (port === null ? !USUAL_PORTS.includes(asked.port) : port !== asked.port) return false;
  if (kind === "host") return host.kind === asked.host.kind && host.text === asked.host.text;
  if (asked.host.kind !== "name") return false;
  const dot = asked.host.text.indexOf(".");
  return dot > 0 && asked.host.text.slice(dot + 1) === host.text;
}

/** A rule, or what is wrong with the text. */
function parseEntry(text: string): Rule | string {
  const parts = splitPort(text);
  if (parts === null) return "write HOST or HOST:PORT, with a port from 1 to 65535";
  const { name, port } = parts;
  const wildcard = name.startsWith("*.");
  const read = readName(wildcard ? name.slice(2) : name);
  if (!read.ok) return read.why;
  const host = parseHost(read.ascii);
  if (host === null) return "this is no host name, and no address in its usual form";
  if (!wildcard) return { kind: "host", host, port };
  if (host.kind !== "name") return "an address has no subdomains";
  if (isPublicSuffix(host.text))
    return `under ${host.text} anybody can have a name: name whose subdomains are meant`;
  return { kind: "subdomains", host, port };
}

function splitPort(text: string): { readonly name: string; readonly port: number | null } | null {
  const match = /^(?:\[([^\][]*:[^\][]*)\]|([^[\]:]+))(?::(\d+))?$/u.exec(text);
  if (match === null) return /^[0-9a-f:.]+$/i.test(text) ? { name: text, port: null } : null;
  const [, bracketed, plain = "", digits] = match;
  const port = digits === undefined ? null : parsePort(digits);
  return digits !== undefined && port === null ? null : { name: bracketed ?? plain, port };
}

/** By the public suffix list with its private part; a top level that it does not know is one too. */
function isPublicSuffix(name: string): boolean {
  return (
    getDomain(name, { allowPrivateDomains: true, extractHostname: false, validateHostname: false }) === null
  );
}
