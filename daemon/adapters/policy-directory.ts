import * as fs from "node:fs";
import { join } from "node:path";
import { BoundaryError } from "../core/errors.ts";

const { O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK, O_RDONLY } = fs.constants;
/** Of a directory's names; a directory with more is none of policies. */
const MAX_NAMES = 10_000;

export type PolicyFile = { readonly name: string; readonly bytes: Uint8Array };

/**
 * The files of a directory that `wanted` picks by name, regular files (no links) of at most `maxBytes` together. With
 * `owner`, directory and files have to belong to root or to him and be writable by nobody else: who can write a policy
 * decides. Throws BoundaryError("config-unreadable"), "not-found" among its causes.
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
    // not O_NOFOLLOW: the directory may be named by a link, which is the configuration's choice
    const fd = fs.openSync(directory, O_RDONLY | O_DIRECTORY | O_NONBLOCK);
    try {
      checkOwner(directory, fs.fstatSync(fd), options.owner);
    } finally {
      fs.closeSync(fd);
    }
    const names = fs.readdirSync(directory);
    if (names.length > MAX_NAMES) throw new Error(`more than ${MAX_NAMES} names`);
    const picked = names.filter((name) => options.wanted(name, names)).toSorted();
    if (picked.length > options.maxFiles) throw new Error(`more than ${options.maxFiles} files of policies`);
    let left = options.maxBytes;
    return picked.map((name) => {
      const bytes = readChecked(join(directory, name), { maxBytes: left, owner: options.owner });
      left -= bytes.byteLength;
      return { name, bytes };
    });
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
    return readChecked(path, options);
  } catch (cause) {
    throw new BoundaryError("config-unreadable", `reading ${path}`, { cause });
  }
}

function readChecked(
  path: string,
  { maxBytes, owner }: { readonly maxBytes: number; readonly owner: number | null },
): Uint8Array {
  const fd = fs.openSync(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  try {
    const stat = fs.fstatSync(fd);
    if (!stat.isFile()) throw new Error(`${path} is no regular file`);
    if (stat.size > maxBytes) throw new Error(`${path} is larger than ${maxBytes} bytes`);
    checkOwner(path, stat, owner);
    // a byte more than there may be: it may grow while it is read
    const buffer = new Uint8Array(maxBytes + 1);
    let length = 0;
    for (let read = 1; read > 0 && length < buffer.length; length += read)
      read = fs.readSync(fd, buffer, length, buffer.length - length, null);
    if (length > maxBytes) throw new Error(`${path} is larger than ${maxBytes} bytes`);
    return buffer.slice(0, length);
  } finally {
    fs.closeSync(fd);
  }
}

function checkOwner(path: string, stat: fs.Stats, owner: number | null): void {
  if (owner === null) return;
  if (stat.uid !== 0 && stat.uid !== owner)
    throw new Error(`${path} belongs to uid ${stat.uid}, not to root or to us`);
  if ((stat.mode & 0o022) !== 0)
    throw new Error(`${path} has mode 0${(stat.mode & 0o777).toString(8)}: others can write it`);
}
