import { closeSync, existsSync, lstatSync, openSync, readlinkSync, readSync } from "node:fs";
import { release } from "node:os";
import { gunzipSync } from "node:zlib";

export type DirectoryFact =
  | { readonly kind: "missing" }
  | { readonly kind: "unreadable"; readonly why: string }
  | { readonly kind: "other" }
  | { readonly kind: "directory"; readonly uid: number; readonly mode: number };

/** What `doctor` judges. Null: it could not be found out. */
export type HostFacts = {
  readonly nodeVersion: string;
  readonly uid: number;
  readonly nftProgram: string | null;
  readonly nftLibrary: string | null;
  /** The effective capabilities of this process, a bit mask. */
  readonly capabilities: bigint | null;
  readonly serviceUnit: string | null;
  readonly netns: "init" | "own" | null;
  /** The kernel's build configuration, as text. */
  readonly kernelConfig: string | null;
  readonly usbBus: boolean;
  readonly inotifyWatches: number | null;
  readonly inotifyInstances: number | null;
  readonly systemd: boolean;
  readonly clocksource: string | null;
  readonly groups: readonly string[];
  readonly directories: Readonly<Record<string, { readonly path: string; readonly fact: DirectoryFact }>>;
};

const MAX_FILE_BYTES = 1_048_576;
const PROGRAM_DIRS = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];
const LIBRARY_DIRS = [
  "/usr/lib/x86_64-linux-gnu",
  "/usr/lib/aarch64-linux-gnu",
  "/usr/lib64",
  "/usr/lib",
  "/lib",
];
const UNIT_DIRS = ["/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"];

/** Looks at this host. Reads /proc, /sys and a few paths; starts nothing, changes nothing. */
export function readHostFacts(directories: Readonly<Record<string, string>>): HostFacts {
  const capabilities = /^CapEff:\s*([0-9a-f]+)$/m.exec(read("/proc/self/status") ?? "")?.[1];
  return {
    nodeVersion: process.version,
    uid: process.geteuid?.() ?? -1,
    nftProgram: firstOf(PROGRAM_DIRS, "nft"),
    nftLibrary: firstOf(LIBRARY_DIRS, "libnftables.so.1"),
    capabilities: capabilities === undefined ? null : BigInt(`0x${capabilities}`),
    serviceUnit: firstOf(UNIT_DIRS, "boundary-daemon.service"),
    netns: readNetns(),
    kernelConfig: readKernelConfig(),
    usbBus: existsSync("/sys/bus/usb/devices"),
    inotifyWatches: readNumber("/proc/sys/fs/inotify/max_user_watches"),
    inotifyInstances: readNumber("/proc/sys/fs/inotify/max_user_instances"),
    systemd: existsSync("/run/systemd/system"),
    clocksource: read("/sys/devices/system/clocksource/clocksource0/current_clocksource")?.trim() ?? null,
    groups: (read("/etc/group") ?? "").split("\n").map((line) => line.split(":")[0] ?? ""),
    directories: Object.fromEntries(
      Object.entries(directories).map(([name, path]) => [name, { path, fact: readDirectory(path) }]),
    ),
  };
}

function readKernelConfig(): string | null {
  const packed = readBytes("/proc/config.gz");
  try {
    if (packed !== null) return gunzipSync(packed, { maxOutputLength: MAX_FILE_BYTES }).toString("utf8");
  } catch {
    // distributions put it beside the kernel instead
  }
  return read(`/boot/config-${release()}`);
}

function readNetns(): "init" | "own" | null {
  try {
    return readlinkSync("/proc/self/ns/net") === readlinkSync("/proc/1/ns/net") ? "init" : "own";
  } catch {
    return null; // only root may look at process 1
  }
}

function readDirectory(path: string): DirectoryFact {
  try {
    const stat = lstatSync(path);
    return stat.isDirectory()
      ? { kind: "directory", uid: stat.uid, mode: stat.mode & 0o7777 }
      : { kind: "other" };
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    return code === "ENOENT" ? { kind: "missing" } : { kind: "unreadable", why: code ?? "unknown" };
  }
}

function firstOf(directories: readonly string[], name: string): string | null {
  return directories.map((directory) => `${directory}/${name}`).find((path) => existsSync(path)) ?? null;
}

function readNumber(path: string): number | null {
  const text = read(path)?.trim() ?? "";
  return /^[0-9]{1,12}$/.test(text) ? Number(text) : null;
}

function read(path: string): string | null {
  return readBytes(path)?.toString("utf8") ?? null;
}

// files in /proc and /sys have no size to go by
function readBytes(path: string): Buffer | null {
  let fd: number | null = null;
  try {
    fd = openSync(path, "r");
    const bytes = Buffer.alloc(MAX_FILE_BYTES);
    let used = 0;
    for (let got = -1; got !== 0 && used < bytes.length; used += got) {
      got = readSync(fd, bytes, used, bytes.length - used, null);
    }
    return bytes.subarray(0, used);
  } catch {
    return null;
  } finally {
    if (fd !== null) closeSync(fd);
  }
}
