import { appendFileSync, cpSync, rmSync } from "node:fs";
import { join } from "node:path";
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
  const segment = join(at("torn"), "log", "00000000000000000000.jsonl");
  appendFileSync(segment, '{"at":"2026-01-02T03:04');
  return { fresh: "", stopped: at("stopped"), torn: at("torn") };
}

/** Puts one of them into the place of what is there. */
export function layDisk(home: DaemonHome, disk: string): void {
  rmSync(home.logDir, { recursive: true, force: true });
  rmSync(home.stateDir, { recursive: true, force: true });
  for (const name of ["armed", "journal", "strace.out"]) rmSync(join(home.path, name), { force: true });
  if (disk === "") return;
  cpSync(join(disk, "log"), home.logDir, { recursive: true });
  cpSync(join(disk, "state"), home.stateDir, { recursive: true });
}
