import { execFileSync, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { findProgram } from "../../daemon/adapters/run.ts";

/** Why system tests cannot run here, or "" when they can. Goes into the name of what is skipped. */
export const NO_NETNS = missing();

/** Namespaces made by this process, so that names are unique and everything is removed in the end. */
const made = new Set<string>();
let count = 0;

export type Netns = {
  readonly name: string;
  /** Runs a program inside and gives its stdout; throws when it fails. */
  exec(program: string, ...args: readonly string[]): string;
};

/** A new network namespace with loopback up. */
export function createNetns(label: string): Netns {
  if (count === 0) removeLeftOvers();
  count += 1;
  const name = `bd-${process.pid}-${count}-${label}`;
  ip("netns", "add", name);
  made.add(name);
  const netns: Netns = {
    name,
    exec: (program, ...args) => ip("netns", "exec", name, program, ...args),
  };
  netns.exec("ip", "link", "set", "lo", "up");
  return netns;
}

/** A veth pair between two namespaces, up, with addresses that can be used at once (no duplicate address detection). */
export function connect(a: NetnsEnd, b: NetnsEnd): void {
  ip("link", "add", a.link, "netns", a.netns.name, "type", "veth", "peer", b.link, "netns", b.netns.name);
  for (const end of [a, b]) {
    for (const address of end.addresses) {
      end.netns.exec(
        "ip",
        "addr",
        "add",
        address,
        "dev",
        end.link,
        ...(address.includes(":") ? ["nodad"] : []),
      );
    }
    end.netns.exec("ip", "link", "set", end.link, "up");
  }
  for (const end of [a, b])
    if (end.addresses.some((address) => address.includes(":"))) waitForIpv6(end.netns, end.link);
}

/**
 * Waits until a link that is up can be used by IPv6. The kernel says so to IPv6 by an event of linkwatch, of which there is one
 * a second for the whole host where other tests' links come and go too (net/core/link_watch.c).
 */
export function waitForIpv6(netns: Netns, link: string): void {
  const ready = 'ip -6 route show table all dev "$1" | grep -q "^multicast ff00::/8"';
  netns.exec("sh", "-c", `for i in $(seq 200); do ${ready} && exit 0; sleep 0.05; done; exit 1`, "sh", link);
}

export type NetnsEnd = {
  readonly netns: Netns;
  readonly link: string;
  readonly addresses: readonly string[];
};

/** Sets a sysctl inside: ("net/ipv4/ip_forward", "1"). */
export function setSysctl(netns: Netns, path: string, value: string): void {
  netns.exec("sh", "-c", 'echo "$1" > "/proc/sys/$2"', "sh", value, path);
}

/** Removes every namespace made here, and with them their links. Processes inside must have been ended before. */
export function removeNetns(): void {
  for (const name of made) {
    try {
      ip("netns", "del", name);
    } finally {
      made.delete(name);
    }
  }
}

process.on("exit", removeNetns); // also when a test run is cut short

/** What a test run left that was killed: the names carry the pid of their maker. */
function removeLeftOvers(): void {
  for (const [name, pid] of ip("netns", "list").matchAll(/^bd-(\d+)-\d+-[a-z]+/gm)) {
    // no check of the outcome: test files run side by side, and another may have removed it just now
    if (!existsSync(`/proc/${pid}`)) spawnSync("/usr/sbin/ip", ["netns", "del", name], { stdio: "ignore" });
  }
}

function ip(...args: readonly string[]): string {
  return execFileSync("/usr/sbin/ip", args, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
}

function missing(): string {
  if (process.getuid?.() !== 0) return "needs root";
  const absent = ["ip", "nft"].filter((name) => findProgram(name) === null);
  return absent.length > 0 ? `needs ${absent.join(" and ")}` : "";
}
