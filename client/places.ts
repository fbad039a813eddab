import { existsSync } from "node:fs";
import { join } from "node:path";

const SYSTEM = {
  runtime: "/run/boundary-daemon",
  log: "/var/log/boundary-daemon",
  state: "/var/lib/boundary-daemon",
} as const;

/**
 * Where the daemon keeps its sockets, log or state (daemon/options.ts has the other half): as given, else the
 * system's when that is there or we are root, else the user's own (XDG base directories).
 */
export function placeOf(what: keyof typeof SYSTEM, given: string | undefined): string {
  if (given !== undefined) return given;
  if (process.geteuid?.() === 0 || existsSync(SYSTEM[what])) return SYSTEM[what];
  const own = join(
    process.env["XDG_STATE_HOME"] ?? join(process.env["HOME"] ?? "/", ".local/state"),
    "boundary-daemon",
  );
  if (what === "runtime") return join(process.env["XDG_RUNTIME_DIR"] ?? own, "boundary-daemon");
  return join(own, what);
}

/** The control socket. */
export function controlSocket(runtimeDir: string | undefined): string {
  return join(placeOf("runtime", runtimeDir), "control.sock");
}
