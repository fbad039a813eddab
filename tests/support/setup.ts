import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, realpathSync } from "node:fs";
import { delimiter, join } from "node:path";

/**
 * Run by npm before the demo, the tests and the benchmarks: `node tests/support/setup.ts demo|test|bench|vm`.
 * Looks at the Node version and at the Debian packages the run needs; as root it installs what is missing.
 * Only a Node that is too old ends the run: without a package the run goes on in the form that is possible.
 */
export type Purpose = "demo" | "test" | "bench" | "vm";

type Need = {
  readonly what: string;
  readonly debianPackage: string;
  readonly purposes: readonly Purpose[];
  /** Named where it is missing, and not installed: it is large, and only an example needs it. */
  readonly optional?: true;
};

/** What is run on this host itself. */
const ALWAYS: readonly Purpose[] = ["demo", "test", "bench"];
const PURPOSES: readonly Purpose[] = [...ALWAYS, "vm"];

/** Where Debian's own Python finds it. */
const PYTHON_CRYPTOGRAPHY = "python3/dist-packages/cryptography/hazmat/bindings/_rust.abi3.so";

/** `what` is a program on PATH, or a library when it has ".so" in its name. */
const NEEDS: readonly Need[] = [
  { what: "nft", debianPackage: "nftables", purposes: ALWAYS },
  { what: "libnftables.so.1", debianPackage: "libnftables1", purposes: ALWAYS },
  { what: "ip", debianPackage: "iproute2", purposes: ALWAYS },
  { what: "setpriv", debianPackage: "util-linux", purposes: ALWAYS },
  { what: "prlimit", debianPackage: "util-linux", purposes: ALWAYS },
  { what: "flock", debianPackage: "util-linux", purposes: ALWAYS },
  { what: "script", debianPackage: "bsdutils", purposes: ALWAYS },
  { what: "bwrap", debianPackage: "bubblewrap", purposes: ALWAYS },
  { what: "curl", debianPackage: "curl", purposes: ["test"] },
  { what: "strace", debianPackage: "strace", purposes: ["test"] },
  { what: "mkfs.ext4", debianPackage: "e2fsprogs", purposes: ["test"] },
  { what: "cc", debianPackage: "gcc", purposes: ["test"] },
  { what: "libc.so", debianPackage: "libc6-dev", purposes: ["test"] },
  { what: "python3", debianPackage: "python3", purposes: ["test"] },
  { what: PYTHON_CRYPTOGRAPHY, debianPackage: "python3-cryptography", purposes: ["test"] },
  { what: "systemd-analyze", debianPackage: "systemd", purposes: ["test"] },
  { what: "rsyslogd", debianPackage: "rsyslog", purposes: ["test"] },
  { what: "rsyslog/lmnsd_gtls.so", debianPackage: "rsyslog-gnutls", purposes: ["test"] },
  { what: "openssl", debianPackage: "openssl", purposes: ["test"] },
  { what: "go", debianPackage: "golang-go", purposes: ["test"], optional: true },
  { what: "softhsm2-util", debianPackage: "softhsm2", purposes: ["test"] },
  { what: "pkcs11-tool", debianPackage: "opensc", purposes: ["test"] },
  { what: "qemu-system-x86_64", debianPackage: "qemu-system-x86", purposes: ["vm"] },
  { what: "qemu-img", debianPackage: "qemu-utils", purposes: ["vm"] },
  { what: "debootstrap", debianPackage: "debootstrap", purposes: ["vm"] },
  { what: "mke2fs", debianPackage: "e2fsprogs", purposes: ["vm"] },
];

// sbin is not on an ordinary user's PATH, and nft and ip live there.
const SYSTEM_PROGRAM_DIRS = ["/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/sbin", "/usr/local/bin"];
const UPDATE_DEADLINE_MS = 120_000;
const INSTALL_DEADLINE_MS = 300_000;

/** What is missing for a purpose, in the table's order. `has` answers whether a program or library is there. */
export function missingFor(purpose: Purpose, has: (what: string) => boolean): readonly Need[] {
  return NEEDS.filter((need) => !need.optional && need.purposes.includes(purpose) && !has(need.what));
}

/** What is missing and could be there: the run is as good without, but for what is skipped. */
export function optionalFor(purpose: Purpose, has: (what: string) => boolean): readonly Need[] {
  return NEEDS.filter((need) => need.optional && need.purposes.includes(purpose) && !has(need.what));
}

/** The packages to install, each once. */
export function packagesOf(needs: readonly Need[]): readonly string[] {
  return [...new Set(needs.map((need) => need.debianPackage))];
}

/** Compares dotted versions of three numbers: true when `version` is `least` or newer. */
export function isAtLeast(version: string, least: string): boolean {
  const [have, want] = [version, least].map((text) => text.split(".").map(Number));
  for (const place of [0, 1, 2]) {
    const difference = (have?.[place] ?? 0) - (want?.[place] ?? 0);
    if (difference !== 0) return difference > 0;
  }
  return true;
}

/** Whether a program or a library can be found on this host. */
export function isOnHost(what: string): boolean {
  const dirs = what.includes(".so") ? libraryDirs() : programDirs();
  return dirs.some((dir) => existsSync(join(dir, what)));
}

function programDirs(): readonly string[] {
  return [
    ...(process.env["PATH"] ?? "").split(delimiter).filter((dir) => dir !== ""),
    ...SYSTEM_PROGRAM_DIRS,
  ];
}

function libraryDirs(): readonly string[] {
  const roots = ["/usr/lib", "/lib", "/usr/lib64", "/usr/local/lib"].filter((dir) => existsSync(dir));
  const multiarch = roots.flatMap((root) => readdirSync(root).filter((name) => name.endsWith("-linux-gnu")));
  return [...roots, ...roots.flatMap((root) => multiarch.map((name) => join(root, name)))];
}

function main(purpose: Purpose): void {
  refuseOldNode();
  for (const { what, debianPackage } of optionalFor(purpose, isOnHost))
    console.log(
      `setup: optional, not there: ${what} (apt-get install --no-install-recommends ${debianPackage})`,
    );
  const missing = missingFor(purpose, isOnHost);
  if (missing.length === 0) return;
  const packages = packagesOf(missing);
  console.log(`setup: missing ${missing.map((need) => need.what).join(", ")} (${packages.join(", ")})`);
  const install = installHere(packages);
  if (install === null) return;
  console.log(`setup: ${install}`);
  const still = missingFor(purpose, isOnHost).map((need) => need.what);
  console.log(`setup: going on without ${still.join(", ")}; what needs it is skipped and named`);
}

function refuseOldNode(): void {
  const manifest: unknown = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8"));
  const least = (manifest as { engines: { node: string } }).engines.node.replace(">=", "");
  if (isAtLeast(process.versions.node, least)) return;
  console.error(`setup: this is Node ${process.versions.node}; ${least} or newer is needed.`);
  console.error(
    "setup: run `npm ci` (without --omit=optional), which brings it, and start this through npm.",
  );
  process.exit(1);
}

/** Installs the packages; null when they are all there afterwards, otherwise why not and what to type. */
function installHere(packages: readonly string[]): string | null {
  const toType = `apt-get install --no-install-recommends ${packages.join(" ")}`;
  if (!isOnHost("apt-get"))
    return `no apt-get on this host: install by its own means: ${packages.join(", ")}`;
  if (process.getuid?.() !== 0) return `not root, so nothing is installed. Type: sudo ${toType}`;
  console.log(`setup: installing ${packages.join(", ")} by apt-get`);
  const updated = aptGet(["update", "-qq", "-o", "APT::Update::Error-Mode=any"], UPDATE_DEADLINE_MS);
  // Packages are asked for one by one when all at once fails: one that cannot be had must not take the rest along.
  const all = aptInstall(packages);
  const failed = all ? [] : packages.length === 1 ? packages : packages.filter((name) => !aptInstall([name]));
  if (failed.length === 0) return null;
  return `could not install ${failed.join(", ")}${updated ? "" : " (apt-get update failed: no network?)"}. Type: ${toType}`;
}

function aptInstall(packages: readonly string[]): boolean {
  return aptGet(["install", "-y", "-qq", "--no-install-recommends", ...packages], INSTALL_DEADLINE_MS);
}

function aptGet(args: readonly string[], deadlineMs: number): boolean {
  const run = spawnSync("apt-get", ["-o", "DPkg::Lock::Timeout=60", ...args], {
    env: { ...process.env, DEBIAN_FRONTEND: "noninteractive" },
    stdio: ["ignore", "pipe", "pipe"],
    encoding: "utf8",
    timeout: deadlineMs,
  });
  if (run.status === 0) return true;
  console.log(
    `setup: apt-get ${args[0] ?? ""} failed: ${(run.error?.message ?? run.stderr).trim().slice(-500)}`,
  );
  return false;
}

function parsePurpose(text: string | undefined): Purpose {
  return PURPOSES.find((purpose) => purpose === text) ?? "test";
}

// not import.meta.main, which an older Node lacks: it would do nothing instead of naming its age
if (process.argv[1] !== undefined && realpathSync(process.argv[1]) === import.meta.filename) {
  main(parsePurpose(process.argv[2]));
}
