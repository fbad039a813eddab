import { createHash } from "node:crypto";

/** The cheap sources: what the kernel shows in /proc and `os.networkInterfaces()`, as text. */
export type NetSources = {
  /** /proc/self/net/dev */
  readonly devices: string;
  /** /proc/self/net/route */
  readonly routes: string;
  /** /proc/self/net/ipv6_route; "" where there is no IPv6. */
  readonly routes6: string;
  /** os.networkInterfaces() */
  readonly interfaces: object;
};

/** A digest that moves when a link, an address or a route of the main tables does, and not with counters. */
export function networkDigest(sources: NetSources): string {
  const names = sources.devices.split("\n").map((line) => line.slice(0, line.lastIndexOf(":")).trim());
  const routes = columns(sources.routes, [0, 1, 2, 3, 6, 7]);
  const routes6 = columns(sources.routes6, [0, 1, 2, 3, 4, 5, 8, 9]); // 6 and 7 count references and uses
  const text = JSON.stringify([names, routes, routes6, sources.interfaces]);
  return createHash("sha256").update(text).digest("hex");
}

/**
 * Messages the kernel dropped because a netlink listener was too slow, from /proc/self/net/netlink; null when that
 * process has no rtnetlink socket that listens to any group (yet).
 */
export function netlinkDrops(table: string, pid: number): number | null {
  const rows = table.split("\n").map((line) => line.trim().split(/\s+/));
  const own = rows.find((row) => row[1] === "0" && row[2] === String(pid) && !/^0*$/.test(row[3] ?? ""));
  const drops = Number(own?.[8]);
  return Number.isSafeInteger(drops) ? drops : null;
}

function columns(text: string, kept: readonly number[]): readonly string[] {
  return text.split("\n").map((line) => {
    const words = line.trim().split(/\s+/);
    return kept.map((index) => words[index] ?? "").join(" ");
  });
}
