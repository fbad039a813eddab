import { closeSync, openSync, readSync } from "node:fs";
import { networkInterfaces } from "node:os";
import type { HostNetwork, Link } from "../core/preflight.ts";
import { normalAddress, parseProcNet, type Sockets } from "../core/proc-net.ts";
import type { HostSockets } from "../ports.ts";

/** Some 100,000 sockets: more are not looked at, and the reply says so. */
const MAX_BYTES = 16 * 1024 * 1024;

/** The sockets of our own network namespace. `proc` is where procfs is mounted. */
export function createHostSockets(proc = "/proc"): HostSockets {
  const tcp = () => [read(`${proc}/net/tcp`), read(`${proc}/net/tcp6`)];
  return {
    network: () => {
      const sockets = [
        ...tcp().map((text) => parseProcNet(text, "tcp")),
        ...[read(`${proc}/net/udp`), read(`${proc}/net/udp6`)].map((text) => parseProcNet(text, "udp")),
      ];
      return { ...joined(sockets), links: links() } satisfies HostNetwork;
    },
    flows: () => joined(tcp().map((text) => parseProcNet(text, "tcp"))).flows,
    commandLine: () => read(`${proc}/cmdline`),
  };
}

function joined(parts: readonly Sockets[]): Sockets {
  return {
    flows: parts.flatMap(({ flows }) => flows),
    listeners: parts.flatMap(({ listeners }) => listeners),
    unread: parts.reduce((sum, { unread }) => sum + unread, 0),
  };
}

function links(): ReadonlyMap<string, Link> {
  const found = new Map<string, Link>();
  for (const [name, addresses] of Object.entries(networkInterfaces())) {
    for (const { address, internal } of addresses ?? []) {
      const normal = normalAddress(address);
      if (normal !== null) found.set(normal, { name, loopback: internal });
    }
  }
  return found;
}

/** "" when it cannot be read: no connection is known then, and none is kept. A cut last line is one that is counted. */
function read(path: string): string {
  let fd: number;
  try {
    fd = openSync(path, "r");
  } catch {
    return ""; // no IPv6 in this kernel, no procfs
  }
  try {
    const pieces: Buffer[] = [];
    let used = 0;
    while (used < MAX_BYTES) {
      const piece = Buffer.allocUnsafe(65_536);
      const got = readSync(fd, piece, 0, piece.length, null);
      if (got === 0) break;
      pieces.push(piece.subarray(0, got));
      used += got;
    }
    return Buffer.concat(pieces).toString("latin1");
  } catch {
    return "";
  } finally {
    closeSync(fd);
  }
}
