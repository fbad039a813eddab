import { readFileSync, realpathSync, writeFileSync } from "node:fs";

/**
 * `node tests/support/complete-lock.ts` after a change of dependencies: writes into package-lock.json the optional
 * packages of other platforms that npm left out because the registry it asked does not carry them. Without them
 * `npm ci` refuses the lock. They get an integrity that nothing has: on a platform that would want one, npm fetches
 * it, finds that it does not match and goes on without. What we did not see is never installed.
 */
export type LockPackage = {
  readonly version?: string;
  readonly integrity?: string;
  readonly dev?: boolean;
  readonly optional?: boolean;
  readonly os?: string | readonly string[];
  readonly cpu?: string | readonly string[];
  readonly libc?: readonly string[];
  readonly optionalDependencies?: Readonly<Record<string, string>>;
};
type Packages = Readonly<Record<string, LockPackage>>;

/** SHA-512 that no known bytes have. */
export const NEVER = `sha512-${"A".repeat(86)}==`;

const SYSTEMS = [
  "aix",
  "android",
  "darwin",
  "freebsd",
  "linux",
  "netbsd",
  "openbsd",
  "openharmony",
  "sunos",
  "win32",
];
const PROCESSORS = ["arm64", "arm", "ia32", "loong64", "mips64el", "ppc64", "riscv64", "s390x", "x64"];

export function completePackages(packages: Packages): Packages {
  const missing = Object.entries(packages).flatMap(([path, entry]) =>
    Object.entries(entry.optionalDependencies ?? {})
      .filter(
        ([name]) => !(`node_modules/${name}` in packages) && !(`${path}/node_modules/${name}` in packages),
      )
      .map(([name, version]) => [`node_modules/${name}`, standIn(name, version, entry)] as const),
  );
  const all = { ...packages, ...Object.fromEntries(missing) };
  const paths = Object.keys(all).toSorted((a, b) => (a < b ? -1 : 1));
  return Object.fromEntries(paths.map((path) => [path, all[path] ?? {}]));
}

function standIn(name: string, version: string, parent: LockPackage): LockPackage {
  const system = SYSTEMS.find((one) => name.includes(one));
  // longest names first: "arm64" holds "arm"
  const processor = PROCESSORS.find((one) => name.includes(one));
  if (!/^\d+\.\d+\.\d+/.test(version) || system === undefined || processor === undefined) {
    throw new Error(`${name} ${version} is missing from the lock, and is no package of another platform`);
  }
  const libc = name.includes("musl") ? ["musl"] : undefined;
  if (system === "linux" && ["x64", "arm64"].includes(processor) && libc === undefined) {
    throw new Error(`${name} is missing from the lock, and is for where we run: it has to be seen`);
  }
  return {
    version,
    integrity: NEVER,
    cpu: [processor],
    ...(parent.dev ? { dev: true } : {}),
    ...(libc ? { libc } : {}),
    optional: true,
    os: [system],
  };
}

if (process.argv[1] !== undefined && realpathSync(process.argv[1]) === import.meta.filename) {
  const file = process.argv[2] ?? "package-lock.json";
  const lock = JSON.parse(readFileSync(file, "utf8")) as { packages: Packages };
  const packages = completePackages(lock.packages);
  const added = Object.keys(packages).length - Object.keys(lock.packages).length;
  writeFileSync(file, `${JSON.stringify({ ...lock, packages }, null, 2)}\n`);
  console.log(`${file}: ${added} packages of other platforms written in`);
}
