import { spawnSync } from "node:child_process";
import { appendFileSync, cpSync, rmSync } from "node:fs";
import { join } from "node:path";
import { segmentsOf } from "../../daemon/adapters/log-file.ts";
import { type DaemonHome, startDaemon } from "../support/daemon-process.ts";

/** What a daemon finds: nothing; a log that it stopped cleanly; one whose last line is torn. */
export const DISKS = ["fresh", "stopped", "torn"] as const;
export type Disks = Readonly<Record<(typeof DISKS)[number], string>>;

/** Directories to begin from, under the home whose paths they name. */
export async function makeDisks(home: DaemonHome): Promise<Disks> {
  const at = (disk: string): string => join(home.path, "disks", disk);
  await (await startDaemon(home)).stop();
  for (const disk of ["stopped", "torn"]) {
    cpSync(home.logDir, join(at(disk), "log"), { recursive: true });
    cpSync(home.stateDir, join(at(disk), "state"), { recursive: true });
  }
  const last = segmentsOf(join(at("torn"), "log")).at(-1)?.file ?? "";
  appendFileSync(join(at("torn"), "log", last), '{"at":"2026-01-02T03:04');
  return { fresh: "", stopped: at("stopped"), torn: at("torn") };
}

/** Append-only and immutable files cannot be removed. */
export function unprotect(directory: string): void {
  spawnSync("chattr", ["-R", "-f", "-i", "-a", directory], { stdio: "ignore" });
}

/** Puts one of them into the place of what is there. */
export function layDisk(home: DaemonHome, disk: string): void {
  unprotect(home.logDir);
  rmSync(home.logDir, { recursive: true, force: true });
  rmSync(home.stateDir, { recursive: true, force: true });
  for (const name of ["armed", "journal", "strace.out"]) rmSync(join(home.path, name), { force: true });
  if (disk === "") return;
  cpSync(join(disk, "log"), home.logDir, { recursive: true });
  cpSync(join(disk, "state"), home.stateDir, { recursive: true });
}
