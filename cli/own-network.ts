import { existsSync, readdirSync, readFileSync } from "node:fs";
import { networkInterfaces } from "node:os";
import type { HostNetwork, Link } from "../daemon/core/preflight.ts";
import { normalAddress, parseProcNet } from "../daemon/core/proc-net.ts";

export type InUse = HostNetwork & {
  /** Interfaces that a default route leaves by. */
  readonly defaults: readonly string[];
  /** Interfaces that look like a VPN's: tun, tap and WireGuard. */
  readonly tunnels: readonly string[];
};

/** What this process' own network namespace has in use: read from /proc and /sys, without a daemon. */
export function networkInUse(): InUse {
  const tables = [
    parseProcNet(textOf("/proc/net/tcp"), "tcp"),
    parseProcNet(textOf("/proc/net/tcp6"), "tcp"),
    parseProcNet(textOf("/proc/net/udp"), "udp"),
    parseProcNet(textOf("/proc/net/udp6"), "udp"),
  ];
  return {
    flows: tables.flatMap(({ flows }) => flows),
    listeners: tables.flatMap(({ listeners }) => listeners),
    unread: tables.reduce((sum, { unread }) => sum + unread, 0),
    links: linksByAddress(),
    defaults: defaultLinks(textOf("/proc/net/route"), textOf("/proc/net/ipv6_route")),
    tunnels: tunnels(),
  };
}

/** The interfaces of default routes in /proc/net/route and /proc/net/ipv6_route; lines that are none are passed over. */
export function defaultLinks(route4: string, route6: string): readonly string[] {
  const rows = (text: string) => text.split("\n").map((line) => line.trim().split(/\s+/));
  const v4 = rows(route4)
    .filter((row) => row[1] === "00000000" && row[7] === "00000000")
    .map((row) => row[0] ?? "");
  const v6 = rows(route6)
    .filter((row) => row[0] === "0".repeat(32) && row[1] === "00")
    .map((row) => row[9] ?? "");
  return [...new Set([...v4, ...v6])].filter((name) => name !== "" && name !== "lo").toSorted();
}

function linksByAddress(): ReadonlyMap<string, Link> {
  const found = new Map<string, Link>();
  for (const [name, addresses] of Object.entries(networkInterfaces())) {
    for (const { address, internal } of addresses ?? []) {
      const normal = normalAddress(address);
      if (normal !== null) found.set(normal, { name, loopback: internal });
    }
  }
  return found;
}

function tunnels(): readonly string[] {
  try {
    return readdirSync("/sys/class/net").filter(
      (name) =>
        existsSync(`/sys/class/net/${name}/tun_flags`) ||
        textOf(`/sys/class/net/${name}/uevent`).includes("DEVTYPE=wireguard"),
    );
  } catch {
    return []; // no sysfs here
  }
}

function textOf(path: string): string {
  try {
    return readFileSync(path, "latin1");
  } catch {
    return ""; // no IPv6 in this kernel, or not for us
  }
}
