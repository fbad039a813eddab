import { accessSync, constants, existsSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { dirname, join } from "node:path";
import { isDeviceName } from "../core/usb-device.ts";

export type NetPrivilege = {
  /** Whether this process holds CAP_NET_ADMIN, so that rules can be loaded in its network namespace. */
  readonly canEnforce: boolean;
  /** What is missing for it, for a person to read; empty when nothing is. */
  readonly missing: readonly string[];
  /** Whether our namespace is the host's own, as far as can be seen. The caller treats "unknown" as true. */
  readonly inInitNetns: boolean | "unknown";
};

const CAP_NET_ADMIN = 12n;

/** Reads what this process may do to the packet filter. `proc` is where procfs is mounted. */
export function netPrivilege(proc = "/proc"): NetPrivilege {
  const capable = hasNetAdmin(proc);
  const missing =
    capable === "unknown"
      ? [`${proc}/self/status cannot be read`]
      : capable
        ? []
        : ["CAP_NET_ADMIN (root, or the shipped unit's AmbientCapabilities)"];
  return { canEnforce: capable === true, missing, inInitNetns: isInInitNetns(proc) };
}

function hasNetAdmin(proc: string): boolean | "unknown" {
  try {
    const effective = /^CapEff:\t([0-9a-f]{1,16})$/m.exec(readFileSync(`${proc}/self/status`, "utf8"))?.[1];
    if (effective === undefined) return "unknown";
    return ((BigInt(`0x${effective}`) >> CAP_NET_ADMIN) & 1n) === 1n;
  } catch {
    return "unknown"; // reported in `missing`; nothing is enforced on a guess
  }
}

/**
 * Pid 1's namespace counts as the host's own; in a container with pids of its own that is the container's. Looking at
 * pid 1 takes the right to trace it, which neither our unit nor every root has. Then a setting tells that the kernel
 * has in its first namespace only (net/core/sysctl_core.c: net_core_table, as against netns_core_table).
 */
function isInInitNetns(proc: string): boolean | "unknown" {
  const own = namespaceOf(proc, "self");
  const first = namespaceOf(proc, "1");
  if (own !== null && first !== null) return own === first;
  if (!existsSync(`${proc}/sys/net/core/somaxconn`)) return "unknown";
  return existsSync(`${proc}/sys/net/core/netdev_max_backlog`);
}

function namespaceOf(proc: string, pid: string): string | null {
  try {
    return readlinkSync(`${proc}/${pid}/ns/net`);
  } catch {
    return null; // not ours to look at
  }
}

/**
 * What of sysfs we may not write, for a person to read; empty when nothing is missing, or no controller is there. Asked of
 * controllers alone: devices come and go, and one that cannot be written is told of by itself. A controller that went
 * meanwhile lacks nothing; one that is new gets its group from udev a moment later, so the answer is for that moment.
 */
export function missingUsbPrivilege(root = "/sys/bus/usb/devices"): readonly string[] {
  let controllers: readonly string[];
  try {
    controllers = readdirSync(root).filter((name) => isDeviceName(name) && name.startsWith("usb"));
  } catch (error) {
    return existsSync(root) ? [`${root} (${String(error)})`] : [];
  }
  if (controllers.length === 0) return [];
  const files = [
    join(root, "../drivers_probe"),
    ...controllers.flatMap((name) =>
      ["authorized_default", "interface_authorized_default"].map((file) => join(root, name, file)),
    ),
  ].filter((path) => existsSync(dirname(path)) && !isWritable(path));
  if (files.length === 0) return [];
  return [
    `writing ${files[0]}${files.length > 1 ? ` and ${files.length - 1} more` : ""} (root, or the shipped udev rule)`,
  ];
}

function isWritable(path: string): boolean {
  try {
    accessSync(path, constants.W_OK);
    return true;
  } catch {
    return false;
  }
}
