import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  appendFileSync,
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { homedir } from "node:os";
import { dirname, join } from "node:path";

/**
 * The guest's disk: Debian with systemd, udev and a kernel that knows USB, and nothing of ours but the agent. Built once
 * and kept in the cache under the digest of what it is made of; every run works on an overlay.
 */
export type Image = {
  /** A raw file: the backing of overlays. Never written to. */
  readonly disk: string;
  readonly kernel: string;
  readonly initrd: string;
};

const SUITE = "bookworm";
const PACKAGES = [
  "systemd",
  "systemd-sysv",
  "udev",
  "dbus",
  "nftables",
  "bubblewrap",
  "libnftables1",
  "iproute2",
  "iputils-ping",
  "usbutils",
  "kmod",
  "procps",
  "charon-systemd",
  "libstrongswan-standard-plugins",
  "strongswan-swanctl",
  "linux-image-amd64",
] as const;
const DISK_BYTES = 3 * 1024 * 1024 * 1024;
const KEPT_MS = 7 * 24 * 3_600_000;
const BUILD_DEADLINE_MS = 600_000;

/** Only what finds the root disk: unpacking Debian's usual initrd takes longer than the rest of the boot. */
const INITRD_MODULES = ["virtio_pci", "virtio_blk", "ext4"] as const;

/** What udev would load for the parts of this machine that no test uses: seconds of every boot. */
const UNWANTED_MODULES = [
  "aesni_intel",
  "ghash_clmulni_intel",
  "sha512_ssse3",
  "crct10dif_pclmul",
  "crc32_pclmul",
  "polyval_clmulni",
  "kvm_amd",
  "kvm_intel",
  "ccp",
  "powernow_k8",
  "acpi_cpufreq",
  "edac_mce_amd",
  "rapl",
  "ata_piix",
  "ata_generic",
  "pata_acpi",
  "floppy",
  "i2c_piix4",
  "pcspkr",
  "psmouse",
  "evbug",
  "sg",
];

/** Periodic jobs and consoles, which would compete with the test for two slow cores. */
const MASKED = [
  "apt-daily.timer",
  "apt-daily-upgrade.timer",
  "dpkg-db-backup.timer",
  "e2scrub_all.timer",
  "e2scrub_reap.service",
  "fstrim.timer",
  "getty@tty1.service",
  "serial-getty@ttyS0.service",
  "strongswan.service",
  "systemd-networkd-wait-online.service",
  "systemd-pstore.service",
] as const;

/** The guest's side of the two wires; the other side is peer.ts. */
const FILES: Readonly<Record<string, string>> = {
  "etc/hostname": "guest\n",
  "etc/hosts": "127.0.0.1 localhost guest\n::1 localhost\n",
  "etc/fstab": "/dev/vda / ext4 defaults,noatime 0 1\n",
  "etc/systemd/network/eth0.network": network("eth0", "10.66.0.2/24", "fd66::2/64"),
  "etc/systemd/network/eth1.network": network("eth1", "10.67.0.2/24", "fd67::2/64"),
  "etc/systemd/journald.conf.d/test.conf": "[Journal]\nStorage=persistent\nRateLimitIntervalSec=0\n",
  // a shutdown that hangs is seen as a failure soon
  "etc/systemd/system.conf.d/test.conf": "[Manager]\nDefaultTimeoutStopSec=20s\n",
  "etc/modprobe.d/test.conf": [
    ...UNWANTED_MODULES.map((name) => `blacklist ${name}`),
    // asked for by name, by systemd-networkd
    "install cfg80211 /bin/true\n",
  ].join("\n"),
  "etc/initramfs-tools/conf.d/test": "MODULES=list\nCOMPRESS=gzip\nRESUME=none\n",
  "etc/initramfs-tools/modules": `${INITRD_MODULES.join("\n")}\n`,
  "usr/local/lib/boundary-test/agent": guestFile("agent"),
  "etc/systemd/system/agent.service": guestFile("agent.service"),
};

/** What is done inside, once the files are there. olga is to be an operator, mallory nobody. */
const INSIDE = [
  "systemctl enable agent.service systemd-networkd.service",
  `systemctl mask ${MASKED.join(" ")}`,
  "useradd -m -s /bin/bash olga",
  "useradd -m -s /bin/bash mallory",
  "mkdir -p /var/log/journal",
  "rm -f /etc/machine-id /var/lib/dbus/machine-id; systemd-machine-id-setup",
  "kernel=$(ls /lib/modules); mkinitramfs -o /boot/test.initrd $kernel; cp /boot/vmlinuz-$kernel /boot/test.kernel",
  "rm -rf /var/cache/apt/* /var/lib/apt/lists/* /usr/share/doc/* /usr/share/locale/* /boot/initrd.img-*",
].join("\n");

/** A whole run may go wrong in one of these ways before any test: then it is skipped, and says so. */
export class NoImage extends Error {}

/** The image, from the cache or built now. Throws NoImage when it cannot be had here. */
export function provideImage(tell: (line: string) => void): Image {
  const directory = join(cacheDirectory(), recipe());
  const image: Image = {
    disk: join(directory, "disk.raw"),
    kernel: join(directory, "kernel"),
    initrd: join(directory, "initrd"),
  };
  if (existsSync(directory)) return image;
  if (process.getuid?.() !== 0) throw new NoImage("no image in the cache, and only root can build one");
  const begunMs = performance.now();
  tell(`building the guest's image (${SUITE}, some minutes, once): ${directory}`);
  const partial = `${directory}.partial-${process.pid}`;
  try {
    mkdirSync(partial, { recursive: true });
    build(partial);
    renameSync(partial, directory);
  } finally {
    rmSync(partial, { recursive: true, force: true });
  }
  tell(`built in ${Math.round((performance.now() - begunMs) / 1_000)} s`);
  removeOlder(directory);
  return image;
}

/** $BOUNDARY_VM_CACHE, else below the user's cache directory. */
function cacheDirectory(): string {
  const { BOUNDARY_VM_CACHE: named, XDG_CACHE_HOME: xdg } = process.env;
  return named ?? join(xdg ?? join(homedir(), ".cache"), "boundary-daemon/vm");
}

function recipe(): string {
  const parts = [SUITE, PACKAGES, DISK_BYTES, FILES, INSIDE, build.toString()];
  return createHash("sha256").update(JSON.stringify(parts)).digest("hex").slice(0, 16);
}

function build(directory: string): void {
  const root = join(directory, "root");
  debootstrap(root);
  for (const [path, text] of Object.entries(FILES)) put(join(root, path), text);
  chmodSync(join(root, "usr/local/lib/boundary-test/agent"), 0o755);
  run("chroot", [root, "sh", "-euc", INSIDE]);
  for (const name of ["kernel", "initrd"])
    copyFileSync(join(root, `boot/test.${name}`), join(directory, name));
  const disk = join(directory, "disk.raw");
  run("mke2fs", ["-q", "-t", "ext4", "-O", "^metadata_csum_seed", "-d", root, disk, `${DISK_BYTES / 1024}k`]);
  rmSync(root, { recursive: true });
}

/** In a mount namespace of its own: what it mounts inside is gone with it. */
function debootstrap(root: string): void {
  const mirror = debianMirror();
  if (mirror === null) throw new NoImage("apt on this host names no Debian mirror");
  const include = `--include=${PACKAGES.join(",")}`;
  run("unshare", ["-m", "debootstrap", "--variant=minbase", include, SUITE, root, mirror]);
}

/** The first mirror of this host's own apt configuration that has the suite; null when there is none. */
function debianMirror(): string | null {
  const format = "$(SITE) $(RELEASE) $(COMPONENT)";
  const ran = spawnSync("apt-get", ["indextargets", "--format", format, "Created-By: Packages"], {
    encoding: "utf8",
  });
  const targets = (ran.stdout ?? "").split("\n").map((line) => line.split(" "));
  return targets.find(([, release, component]) => release === SUITE && component === "main")?.[0] ?? null;
}

function aptProxy(): Readonly<Record<string, string>> {
  const ran = spawnSync("apt-config", ["shell", "proxy", "Acquire::http::Proxy"], { encoding: "utf8" });
  const proxy = /^proxy='(.+)'$/m.exec(ran.stdout ?? "")?.[1];
  return proxy === undefined ? {} : { http_proxy: proxy };
}

function run(program: string, args: readonly string[]): void {
  const ran = spawnSync(program, args, {
    encoding: "utf8",
    timeout: BUILD_DEADLINE_MS,
    env: { ...aptProxy(), ...process.env, LC_ALL: "C", DEBIAN_FRONTEND: "noninteractive" },
  });
  if (ran.status === 0) return;
  const said = ran.error?.message ?? `${ran.stdout}\n${ran.stderr}`.trim().slice(-2_000);
  throw new NoImage(`${program} ${args.join(" ").slice(0, 120)}: ${said}`);
}

/** Images of older recipes: each is most of a gigabyte. A run of another branch may be using a newer one. */
function removeOlder(kept: string): void {
  for (const name of readdirSync(dirname(kept))) {
    const path = join(dirname(kept), name);
    if (path === kept || !/^[0-9a-f]{16}$/.test(name)) continue;
    if (Date.now() - statSync(path).mtimeMs > KEPT_MS) rmSync(path, { recursive: true, force: true });
  }
}

function put(path: string, text: string): void {
  mkdirSync(dirname(path), { recursive: true });
  if (path.endsWith("/modules")) appendFileSync(path, text);
  else writeFileSync(path, text);
}

function network(name: string, v4: string, v6: string): string {
  return `[Match]\nName=${name}\n\n[Network]\nAddress=${v4}\nAddress=${v6}\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n`;
}

function guestFile(name: string): string {
  return readFileSync(join(import.meta.dirname, "guest-files", name), "utf8");
}
