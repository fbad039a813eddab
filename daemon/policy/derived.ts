import { MODES, rank } from "../core/mode.ts";
import type { CedarJson } from "./cedar-question.ts";

/** What the daemon itself says of a resource, by its id: the id as it is looked up, and the attributes; or a fault. */
export type Derived =
  | { readonly id: string; readonly attributes: Readonly<Record<string, CedarJson>> }
  | { readonly problem: string };

const HOST = /^[A-Za-z0-9._:-]{1,253}$/;
const NUMBER_LAST = /(?:^|\.)(?:[0-9]+|0x[0-9a-f]*)$/;
const IPV4 = /^(?:(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])(?:\.(?!$)|$)){4}$/;
/** As URLs write an IPv4 address that is mapped into IPv6 (RFC 4291, section 2.5.5.2). */
const MAPPED = /^::ffff:([0-9a-f]{1,4}):([0-9a-f]{1,4})$/;
/** A name with a dot at its end is the same host. */
const LAST_DOT = /\.$/;

/** Ids that can be written in two ways are brought into one, so that the registry cannot be gone around. */
export function derive(type: string, id: string): Derived {
  switch (type) {
    case "File":
      return isPlainPath(id)
        ? { id, attributes: { path: id } }
        : { problem: 'a file\'s id is its absolute path, without "//", "." and ".."' };
    case "Host": {
      const host = hostOf(id);
      return host === null
        ? { problem: "a host's id is its name, or its address as it is usually written" }
        : { id: host, attributes: { host } };
    }
    case "Command":
      return id.includes("/") && !isPlainPath(id)
        ? { problem: 'a program is a name, or its absolute path without "//", "." and ".."' }
        : { id, attributes: { program: id } };
    case "Mode": {
      const mode = MODES.find((each) => each === id);
      return mode === undefined
        ? { problem: `a mode is one of ${MODES.join(", ")}` }
        : { id, attributes: { rank: rank(mode) } };
    }
    default:
      return { id, attributes: {} };
  }
}

/** One way to write it: small letters, IPv6 as RFC 5952 has it, an IPv4 address within IPv6 as itself. */
function hostOf(id: string): string | null {
  if (!HOST.test(id)) return null;
  const host = id.toLowerCase().replace(LAST_DOT, "");
  if (host.includes(":")) return addressOf(host);
  if (host === "" || host.split(".").includes("")) return null;
  // what ends in a number is read as an IPv4 address by whoever connects, in octal, hexadecimal, or with fewer parts
  return NUMBER_LAST.test(host) && !IPV4.test(host) ? null : host;
}

function addressOf(text: string): string | null {
  const address = URL.parse(`http://[${text}]`)?.hostname.slice(1, -1) ?? null;
  const mapped = address === null ? null : MAPPED.exec(address);
  if (mapped === null) return address;
  const [high, low] = [Number.parseInt(mapped[1] ?? "", 16), Number.parseInt(mapped[2] ?? "", 16)];
  return [high >> 8, high & 255, low >> 8, low & 255].join(".");
}

function isPlainPath(path: string): boolean {
  if (!path.startsWith("/") || path.includes("\0")) return false;
  if (path === "/") return true;
  return path
    .slice(1)
    .split("/")
    .every((part) => part !== "" && part !== "." && part !== "..");
}
