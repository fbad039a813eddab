import { spawnSync } from "node:child_process";
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export const PROJECT = join(import.meta.dirname, "../..");
/** Where the units expect the project. */
const INSTALLED_AT = "/usr/lib/boundary-daemon";
const DEADLINE_MS = 30_000;

/** Names of the unit files in systemd/. */
export function unitNames(): readonly string[] {
  return readdirSync(join(PROJECT, "systemd")).filter((name) => name.endsWith(".service"));
}

export function readUnit(name: string): string {
  return readFileSync(join(PROJECT, "systemd", name), "utf8");
}

/** All values of a setting in a section, in order. */
export function valuesOf(unit: string, section: string, key: string): readonly string[] {
  let current = "";
  const values: string[] = [];
  for (const line of unit.split("\n")) {
    current = /^\[(.+)\]$/.exec(line)?.[1] ?? current;
    if (current === section && line.startsWith(`${key}=`)) values.push(line.slice(key.length + 1));
  }
  return values;
}

/**
 * Copies of the units whose programs are where they are here, since `systemd-analyze verify` looks for them.
 * `use` gets the directory, which is gone afterwards.
 */
export function withUnits<T>(use: (directory: string) => T): T {
  const directory = mkdtempSync(join(tmpdir(), "boundary-units-"));
  try {
    cpSync(join(PROJECT, "systemd"), directory, { recursive: true });
    for (const name of unitNames()) {
      writeFileSync(join(directory, name), readUnit(name).replaceAll(INSTALLED_AT, PROJECT));
    }
    return use(directory);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** What `systemd-analyze verify` says of all units; "" when it has nothing to say. Man pages are not installed here. */
export function verifyUnits(): string {
  return withUnits((directory) => {
    const ran = analyze(["verify", "--man=no", ...unitNames().map((name) => join(directory, name))]);
    const ours = ran.stderr.split("\n").filter((line) => line.includes("boundary"));
    return ran.status === 0 && ours.length === 0 ? "" : `${ran.stderr}${ran.stdout}(exit ${ran.status})`;
  });
}

/** The exposure `systemd-analyze security` gives a unit: 0 (best) to 10. */
export function exposureOf(name: string): number {
  return withUnits((directory) => {
    const ran = analyze(["security", "--offline=true", "--no-pager", join(directory, name)]);
    const level = /Overall exposure level for \S+: ([0-9.]+)/.exec(ran.stdout)?.[1];
    if (level === undefined) throw new Error(`systemd-analyze security ${name}: ${ran.stderr}${ran.stdout}`);
    return Number(level);
  });
}

/** The major version of systemd here, or null when there is none. */
export function systemdVersion(): number | null {
  const version = /^systemd (\d+)/.exec(analyze(["--version"]).stdout ?? "")?.[1];
  return version === undefined ? null : Number(version);
}

/** The system calls a unit's SystemCallFilter lets through: allow lines, less the lines that begin with "~". */
export function allowedCalls(unit: string): ReadonlySet<string> {
  const allowed = new Set(expand("@default"));
  for (const line of valuesOf(unit, "Service", "SystemCallFilter")) {
    const names = line.replace(/^~/, "").split(" ").flatMap(expand);
    for (const name of names) {
      if (line.startsWith("~")) allowed.delete(name);
      else allowed.add(name);
    }
  }
  return allowed;
}

function expand(name: string): readonly string[] {
  if (!name.startsWith("@")) return [name];
  const lines = analyze(["syscall-filter", "--no-pager", name]).stdout.split("\n").slice(1);
  const members = lines.map((line) => line.trim()).filter((line) => line !== "" && !line.startsWith("#"));
  if (members.length === 0) throw new Error(`there is no group of system calls ${name}`);
  return members.flatMap(expand);
}

function analyze(args: readonly string[]): { status: number | null; stdout: string; stderr: string } {
  return spawnSync("systemd-analyze", args, { encoding: "utf8", timeout: DEADLINE_MS });
}
