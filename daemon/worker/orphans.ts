import { closeSync, readdirSync, readFileSync, statSync } from "node:fs";
import { openProcess, signalProcess } from "./kernel.ts";
import { BUBBLEWRAP } from "./launch.ts";
import { OPTIONS_FD } from "./sandbox-args.ts";

const SIGKILL = 9;
/** How every sandbox of a worker is started. */
const OURS = [BUBBLEWRAP, "--args", String(OPTIONS_FD), "--"].join("\0");

/**
 * Kills what a worker that was killed has left. bwrap ties its processes to each other and to us only when it has set up the
 * sandbox: killed in these milliseconds, we leave a sandbox that belongs to nobody. (systemd ends it with the unit.) An orphan
 * is a bwrap that was started as we start it, whose parent is neither bwrap nor a worker. Gives how many there were.
 */
export function killOrphans(): number {
  const uid = process.getuid?.();
  const orphans = readdirSync("/proc").filter((name) => /^\d+$/.test(name) && isOrphan(name, uid));
  return orphans.filter((pid) => {
    const fd = openProcess(Number(pid));
    if (fd === null) return false;
    try {
      // looked at again: the number may have been given to another meanwhile
      return isOrphan(pid, uid) && signalProcess(fd, SIGKILL);
    } finally {
      closeSync(fd);
    }
  }).length;
}

function isOrphan(pid: string, uid: number | undefined): boolean {
  try {
    if (statSync(`/proc/${pid}`).uid !== uid || !commandOf(pid).startsWith(OURS)) return false;
    const parent = /^PPid:\s+(\d+)$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? "0";
    const above = parent === "0" ? "" : commandOf(parent);
    return !above.startsWith(OURS) && !WORKER.test(above);
  } catch {
    return false; // it has ended
  }
}

const WORKER = /\/worker\/main\.[jt]s\0/;

function commandOf(pid: string): string {
  return readFileSync(`/proc/${pid}/cmdline`, "utf8");
}
