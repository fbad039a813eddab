import { existsSync } from "node:fs";
import { join } from "node:path";

const SYSTEM = {
  runtime: "/run/boundary-daemon",
  log: "/var/log/boundary-daemon",
  state: "/var/lib/boundary-daemon",
} as const;

/**
 * Where the daemon keeps its sockets, log or state (daemon/options.ts has the other half): as given; else, for the
 * sockets, the system's, for a server of one's own must not take the place of one that is down; for log and state the
 * system's when that is there or we are root, else the user's own (XDG base directories).
 */
export function placeOf(what: keyof typeof SYSTEM, given: string | undefined): string {
  if (given !== undefined) return given;
  if (what === "runtime" || process.geteuid?.() === 0 || existsSync(SYSTEM[what])) return SYSTEM[what];
  const own = join(
    process.env["XDG_STATE_HOME"] ?? join(process.env["HOME"] ?? "/", ".local/state"),
    "boundary-daemon",
  );
  return join(own, what);
}

/** The control socket. */
export function controlSocket(runtimeDir: string | undefined): string {
  return join(placeOf("runtime", runtimeDir), "control.sock");
}
