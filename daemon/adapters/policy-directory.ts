import * as fs from "node:fs";
import { dirname, join, resolve } from "node:path";
import { BoundaryError } from "../core/errors.ts";

const { O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK, O_RDONLY } = fs.constants;
/** Of a directory's names; a directory with more is none of policies. */
const MAX_NAMES = 10_000;
/** Of links to links. */
const MAX_LINKS = 8;

export type PolicyFile = { readonly name: string; readonly bytes: Uint8Array };

/**
 * The files of a directory that `wanted` picks by name, regular files (no links) of at most `maxBytes` together. With
 * `owner`, directory and files have to belong to root or to him and be writable by nobody else: who can write a policy
 * decides. So does a link that the directory is named by; the directories above it are not looked at. Throws BoundaryError("config-unreadable"), "not-found" among its causes.
 */
export function readPolicyDirectory(
  directory: string,
  options: {
    readonly wanted: (name: string, among: readonly string[]) => boolean;
    readonly maxBytes: number;
    readonly maxFiles: number;
    readonly owner: number | null;
  },
): readonly PolicyFile[] {
  try {
    const fd = openDirectory(directory, options.owner);
    try {
      checkOwner(directory, fs.fstatSync(fd), options.owner);
      // what was checked is what is read, whatever its name leads to meanwhile
      const opened = `/proc/self/fd/${fd}`;
      const names = fs.readdirSync(opened);
      if (names.length > MAX_NAMES) throw new Error(`more than ${MAX_NAMES} names`);
      const picked = names.filter((name) => options.wanted(name, names)).toSorted();
      if (picked.length > options.maxFiles)
        throw new Error(`more than ${options.maxFiles} files of policies`);
      let left = options.maxBytes;
      return picked.map((name) => {
        const bytes = readChecked(join(opened, name), { name, maxBytes: left, owner: options.owner });
        left -= bytes.byteLength;
        return { name, bytes };
      });
    } finally {
      fs.closeSync(fd);
    }
  } catch (cause) {
    throw new BoundaryError("config-unreadable", `reading the policies in ${directory}`, { cause });
  }
}

/** A file that decides, read whole. Throws BoundaryError("config-unreadable"). */
export function readOwnedFile(
  path: string,
  options: { readonly maxBytes: number; readonly owner: number | null },
): Uint8Array {
  try {
    return readChecked(path, { ...options, name: path });
  } catch (cause) {
    throw new BoundaryError("config-unreadable", `reading ${path}`, { cause });
  }
}

/** Follows links by itself, so that the owner of each can be asked. */
function openDirectory(path: string, owner: number | null): number {
  // also without a slash at its end: with one, a link would be followed unseen
  let at = resolve(path);
  for (let links = 0; links <= MAX_LINKS; links++) {
    const stat = fs.lstatSync(at);
    // a link that takes its place after this look is not followed
    if (!stat.isSymbolicLink()) return fs.openSync(at, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK);
    if (owner !== null) checkUid(at, stat, owner);
    at = resolve(dirname(at), fs.readlinkSync(at));
  }
  throw new Error(`more than ${MAX_LINKS} links`);
}

/** `name`: as it is told. */
function readChecked(
  path: string,
  {
    name,
    maxBytes,
    owner,
  }: { readonly name: string; readonly maxBytes: number; readonly owner: number | null },
): Uint8Array {
  const fd = fs.openSync(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  try {
    const stat = fs.fstatSync(fd);
    if (!stat.isFile()) throw new Error(`${name} is no regular file`);
    if (stat.size > maxBytes) throw new Error(`${name} is larger than ${maxBytes} bytes`);
    checkOwner(name, stat, owner);
    // a byte more than there may be: it may grow while it is read
    const buffer = new Uint8Array(maxBytes + 1);
    let length = 0;
    for (let read = 1; read > 0 && length < buffer.length; length += read)
      read = fs.readSync(fd, buffer, length, buffer.length - length, null);
    if (length > maxBytes) throw new Error(`${name} is larger than ${maxBytes} bytes`);
    return buffer.slice(0, length);
  } finally {
    fs.closeSync(fd);
  }
}

function checkOwner(path: string, stat: fs.Stats, owner: number | null): void {
  if (owner === null) return;
  checkUid(path, stat, owner);
  if ((stat.mode & 0o022) !== 0)
    throw new Error(`${path} has mode 0${(stat.mode & 0o777).toString(8)}: others can write it`);
}

function checkUid(path: string, { uid }: fs.Stats, owner: number): void {
  if (uid !== 0 && uid !== owner) throw new Error(`${path} belongs to uid ${uid}, not to root or to us`);
}
