import { closeSync } from "node:fs";
import { isWithin, type RunOrder } from "../exec/run-order.ts";
import { openPlace, placeOf } from "./kernel.ts";
import type { RefusalCode } from "./messages.ts";
import { isInEtc } from "./sandbox-args.ts";

/** A directory or file of the host, held open, and where it is to stand in the sandbox. */
export type Held = { readonly fd: number; readonly path: string };

/** Where a run takes place. The descriptors are the caller's to close. */
export type Places = {
  readonly workspace: Held;
  /** The working directory behind all links. */
  readonly cwd: string;
  readonly readable: readonly Held[];
};

export type PlacesFound =
  | { readonly ok: true; readonly places: Places }
  | { readonly ok: false; readonly code: RefusalCode; readonly why: string };

/** What the sandbox has in a form of its own: what the host has there is not let in. */
const OWN_FORM = [
  "/bin",
  "/dev",
  "/lib",
  "/lib32",
  "/lib64",
  "/libx32",
  "/proc",
  "/run",
  "/sbin",
  "/sys",
  "/usr",
];
/** Never a workspace, nor anything in them: they are the system's, and a command could write there. */
const SYSTEM = [...OWN_FORM, "/boot", "/etc"];
/** These may hold workspaces, and are none. */
const TOO_WIDE = [
  "/",
  "/home",
  "/media",
  "/mnt",
  "/opt",
  "/root",
  "/srv",
  "/tmp",
  "/var",
  "/var/lib",
  "/var/tmp",
];

/**
 * Opens what an order names. No link is followed on the way to the workspace, and none out of it on the way to the working
 * directory; what is opened is what is mounted, whatever becomes of the names.
 */
export function openPlaces(order: Pick<RunOrder, "workspace" | "cwd" | "readable">): PlacesFound {
  const opened: Held[] = [];
  const refused = (code: RefusalCode, why: string): PlacesFound => {
    closePlaces(opened);
    return { ok: false, code, why };
  };
  if (TOO_WIDE.includes(order.workspace) || SYSTEM.some((path) => isWithin(order.workspace, path)))
    return refused("exec-cwd", "a workspace cannot be there");
  const fd = openPlace(null, order.workspace, { following: "no-links", kind: "directory" });
  if (typeof fd !== "number") return refused("exec-cwd", `the workspace cannot be opened (${fd.errno})`);
  const workspace = { fd, path: order.workspace };
  opened.push(workspace);
  const cwd = resolveBelow(workspace, order.cwd);
  if (typeof cwd !== "string") return refused("exec-cwd", cwd.problem);
  for (const path of order.readable) {
    const found = openReadable(path, order.workspace);
    if (found === null) continue;
    if ("problem" in found) return refused("exec-isolation", found.problem);
    opened.push(found);
  }
  return { ok: true, places: { workspace, cwd, readable: opened.slice(1) } };
}

export function closePlaces(held: readonly Held[]): void {
  for (const { fd } of held) closeSync(fd);
}

/** The path behind all links of a directory in the workspace. */
function resolveBelow(workspace: Held, cwd: string): string | { readonly problem: string } {
  const relative = cwd.slice(workspace.path.length + 1) || ".";
  const fd = openPlace(workspace.fd, relative, { following: "beneath", kind: "directory" });
  // EXDEV: out of the workspace
  if (typeof fd !== "number") return { problem: `the working directory cannot be opened (${fd.errno})` };
  try {
    const [outer, inner] = [placeOf(workspace.fd), placeOf(fd)];
    if (outer === null || inner === null || !isWithin(inner, outer))
      return { problem: "the working directory is not in the workspace" };
    return workspace.path + inner.slice(outer.length);
  } finally {
    closeSync(fd);
  }
}

/** null where there is nothing to let in: it is not there, or the sandbox has it already. */
function openReadable(path: string, workspace: string): Held | null | { readonly problem: string } {
  if (isWithin(path, workspace) || isInEtc(path) || OWN_FORM.some((own) => isWithin(path, own))) return null;
  if (path === "/" || isWithin(workspace, path))
    return { problem: `${path} cannot be readable: it holds the workspace` };
  const fd = openPlace(null, path, { following: "no-links", kind: "any" });
  if (typeof fd === "number") return { fd, path };
  return fd.errno === "ENOENT" ? null : { problem: `${path} cannot be opened (${fd.errno})` };
}
