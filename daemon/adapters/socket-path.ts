import { randomBytes } from "node:crypto";
import {
  chmodSync,
  chownSync,
  closeSync,
  constants,
  fchmodSync,
  fstatSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  renameSync,
  type Stats,
  unlinkSync,
} from "node:fs";
import { connect } from "node:net";
import { dirname } from "node:path";
import { BoundaryError } from "../core/errors.ts";
import { directoryFault } from "../core/ownership.ts";

/** How long a server may take to accept before it counts as alive but busy. */
const PROBE_MS = 1_000;

/**
 * Makes the directory of our sockets, or checks the one that is there: a real directory, owned by us, writable by
 * nobody else. Throws BoundaryError("socket-unsafe") otherwise.
 */
export function prepareRuntimeDir(directory: string, mode: 0o700 | 0o750 | 0o755): void {
  const doing = `preparing the runtime directory ${directory}`;
  let fd: number;
  try {
    mkdirUnlessThere(directory, mode);
    fd = openSync(directory, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  } catch (cause) {
    throw new BoundaryError("socket-unsafe", doing, { cause });
  }
  try {
    const stat = fstatSync(fd);
    const fault = faultOf(stat);
    if (fault !== null) throw new BoundaryError("socket-unsafe", `${doing}: it ${fault}`);
    if ((stat.mode & 0o7777) !== mode) fchmodSync(fd, mode);
  } finally {
    closeSync(fd);
  }
}

/**
 * A place for a socket. The socket is bound beside its place, under umask 0177, given its group and then its mode,
 * and only then linked in: whoever finds it there finds it finished. (libuv also unlinks the name it bound, whatever
 * stands there by then; that is never the public name.)
 * Throws BoundaryError: "socket-in-use" when a server answers there, "socket-unsafe" for anything but a dead socket.
 */
export async function claimSocketPath(
  path: string,
  access: { readonly mode: number; readonly group: number | null },
): Promise<{ readonly bindPath: string; publish(): void; withdraw(): void }> {
  checkDirectory(dirname(path));
  const bindPath = beside(path);
  await removeDead(path);
  let ours: Stats | null = null;

  function publish(): void {
    ours = lstatSync(bindPath);
    // group first: no mode is ever open to the wrong group
    if (access.group !== null) chownSync(bindPath, ours.uid, access.group);
    chmodSync(bindPath, access.mode);
    try {
      linkSync(bindPath, path); // refuses to replace, unlike rename: the slower of two starters loses
    } catch (cause) {
      throw new BoundaryError("socket-in-use", `putting the socket at ${path}`, { cause });
    } finally {
      unlinkSync(bindPath);
    }
  }

  function withdraw(): void {
    const there = statOrNull(path);
    // while we hold our socket, no other file can have its inode
    if (there !== null && there.dev === ours?.dev && there.ino === ours.ino) unlinkSync(path);
  }

  return { bindPath, publish, withdraw };
}

function mkdirUnlessThere(directory: string, mode: number): void {
  try {
    mkdirSync(directory, { mode });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
  }
}

function checkDirectory(directory: string): void {
  const stat = statOrNull(directory);
  const fault = stat === null ? "is missing" : faultOf(stat);
  if (fault !== null)
    throw new BoundaryError("socket-unsafe", `using the directory ${directory}: it ${fault}`);
}

function faultOf(stat: Stats): string | null {
  const kind = stat.isDirectory() ? "directory" : stat.isSymbolicLink() ? "symlink" : "other";
  const look = { kind, uid: stat.uid, mode: stat.mode & 0o7777, links: stat.nlink } as const;
  return directoryFault(look, process.geteuid?.() ?? -1);
}

async function removeDead(path: string): Promise<void> {
  const found = statOrNull(path);
  if (found === null) return;
  if (!found.isSocket()) throw new BoundaryError("socket-unsafe", `replacing ${path}: it is no socket`);
  const state = await probe(path);
  if (state === "live")
    throw new BoundaryError("socket-in-use", `listening at ${path}: a server answers there`);
  if (state === "gone") return;
  // another starter may have put a live socket there since: take it aside first, then ask that very file again
  // (not its inode number, which a new socket gets again at once)
  const aside = beside(path);
  renameSync(path, aside);
  if ((await probe(aside)) !== "dead") {
    renameSync(aside, path);
    throw new BoundaryError("socket-in-use", `listening at ${path}: another server has just started`);
  }
  unlinkSync(aside);
}

function beside(path: string): string {
  return `${path}.${randomBytes(4).toString("hex")}`;
}

// anything that is not plainly dead counts as alive: a live socket is never stolen
function probe(path: string): Promise<"live" | "dead" | "gone"> {
  return new Promise((resolve) => {
    const socket = connect({ path });
    const settle = (state: "live" | "dead" | "gone"): void => {
      socket.destroy();
      resolve(state);
    };
    socket.setTimeout(PROBE_MS, () => settle("live"));
    socket.once("connect", () => settle("live"));
    socket.once("error", (error: NodeJS.ErrnoException) => {
      settle(error.code === "ECONNREFUSED" ? "dead" : error.code === "ENOENT" ? "gone" : "live");
    });
  });
}

function statOrNull(path: string): Stats | null {
  return lstatSync(path, { throwIfNoEntry: false }) ?? null;
}
