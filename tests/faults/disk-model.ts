import { mkdirSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import type { Random } from "./random.ts";
import type { DiskOp } from "./shim.ts";

/**
 * What POSIX promises of a disk, and no more: what was synced is there after a power cut; of what was not, any part in
 * any order. A sector of 512 bytes is written whole or not at all. Changes of one directory arrive in their order (as
 * journals keep them), up to some point.
 */
type Change = { readonly at: number; readonly data: Buffer } | { readonly size: number };
type Inode = { durable: Buffer; pending: Change[] };
type NameChange = { readonly name: string; readonly inode: Inode | null };
type Directory = { readonly durable: Map<string, Inode>; pending: NameChange[][] };

const SECTOR = 512;

/**
 * prefix: a write that was cut off is there up to some byte. holes: any of its sectors is there, and zeros stand for the
 * others: what a file system may show that extends a file before its data is on disk.
 */
export type Tearing = "prefix" | "holes";

/** Files as they may be after a power cut while op `at` was under way (none: after the last). Names are relative to `base`. */
export function diskAfterCut(
  ops: readonly DiskOp[],
  at: number,
  tearing: Tearing,
  random: Random,
): ReadonlyMap<string, Buffer> {
  const disk = createDisk();
  for (const op of ops.slice(0, at)) disk.take(op, "done");
  const cut = ops[at];
  if (cut) disk.take(cut, "under way");
  return disk.afterCut(tearing, random);
}

/** Writes an image: files in directories of a new base, as only we may read them. */
export function layImage(image: ReadonlyMap<string, Buffer>, from: string, base: string): void {
  for (const directory of ["log", "state"])
    mkdirSync(join(base, directory), { recursive: true, mode: 0o700 });
  for (const [path, bytes] of image) {
    const target = join(base, path.slice(from.length));
    mkdirSync(dirname(target), { recursive: true, mode: 0o700 });
    writeFileSync(target, bytes, { mode: 0o600 });
  }
}

function createDisk() {
  const names = new Map<string, Inode>();
  const directories = new Map<string, Directory>();

  function directoryOf(path: string): Directory {
    const found = directories.get(dirname(path)) ?? { durable: new Map(), pending: [] };
    directories.set(dirname(path), found);
    return found;
  }

  /** One change of names, which a journal takes as a whole. All are in one directory. */
  function rename(...changes: readonly (readonly [string, Inode | null])[]): void {
    for (const [path, inode] of changes) {
      if (inode) names.set(path, inode);
      else names.delete(path);
    }
    const first = changes[0]?.[0] ?? "";
    directoryOf(first).pending.push(changes.map(([path, inode]) => ({ name: basename(path), inode })));
  }

  function inodeAt(path: string): Inode {
    const inode = names.get(path);
    if (!inode) throw new Error(`the journal writes to ${path}, which it has not seen made`);
    return inode;
  }

  function sync(path: string): void {
    const inode = names.get(path);
    if (inode) {
      inode.durable = inode.pending.reduce(changed, inode.durable);
      inode.pending = [];
      return;
    }
    const directory = directoryOf(join(path, "any"));
    for (const change of directory.pending.flat()) applyName(directory.durable, change);
    directory.pending = [];
  }

  function write(op: DiskOp, how: "done" | "under way"): void {
    const inode = inodeAt(op.path);
    const change = { at: op.at, data: op.data };
    if (op.what === "write-synced" && how === "done") inode.durable = changed(inode.durable, change);
    else inode.pending.push(change);
  }

  function take(op: DiskOp, how: "done" | "under way"): void {
    switch (op.what) {
      case "create":
        rename([op.path, { durable: Buffer.alloc(0), pending: [] }]);
        break;
      case "rename":
        rename([op.path, null], [op.to, inodeAt(op.path)]);
        break;
      case "link":
        rename([op.to, inodeAt(op.path)]);
        break;
      case "unlink":
        rename([op.path, null]);
        break;
      case "truncate":
        inodeAt(op.path).pending.push({ size: op.at });
        break;
      case "sync":
        if (how === "done") sync(op.path);
        break;
      case "write-synced":
      case "write":
        write(op, how);
        break;
      case "mkdir": // the two directories themselves count as there
      case "open":
      case "ioctl": // what it holds a file by is not its content
      case "fault":
        break;
    }
  }

  function afterCut(tearing: Tearing, random: Random): ReadonlyMap<string, Buffer> {
    const image = new Map<string, Buffer>();
    const contents = new Map<Inode, Buffer>();
    for (const [path, { durable, pending }] of directories) {
      const there = new Map(durable);
      const kept = pending.slice(0, random.below(pending.length + 1));
      for (const change of kept.flat()) applyName(there, change);
      for (const [name, inode] of there) {
        const content = contents.get(inode) ?? torn(inode, tearing, random);
        contents.set(inode, content);
        image.set(join(path, name), content);
      }
    }
    return image;
  }

  return { take, afterCut };
}

function applyName(names: Map<string, Inode>, { name, inode }: NameChange): void {
  if (inode) names.set(name, inode);
  else names.delete(name);
}

function changed(content: Buffer, change: Change): Buffer {
  const end = "size" in change ? change.size : Math.max(content.length, change.at + change.data.length);
  const next = Buffer.alloc(end);
  content.copy(next, 0, 0, Math.min(content.length, end));
  if ("data" in change) change.data.copy(next, change.at);
  return next;
}

/** Any of what was not synced, in any order, each whole, in part, or not at all. */
function torn({ durable, pending }: Inode, tearing: Tearing, random: Random): Buffer {
  const arrived = random.shuffled(pending).flatMap((change) => partOf(change, tearing, random));
  return arrived.reduce(changed, durable);
}

function partOf(change: Change, tearing: Tearing, random: Random): readonly Change[] {
  const fate = random.below(3);
  if (fate === 0) return [];
  if (fate === 1 || "size" in change) return [change];
  const { at, data } = change;
  // a write of one sector is there or not
  if (Math.floor(at / SECTOR) === Math.floor((at + data.length - 1) / SECTOR)) return [change];
  if (tearing === "prefix") return [{ at, data: data.subarray(0, random.below(data.length)) }];
  return sectorsOf(at, data).filter(() => random.below(2) === 0);
}

function sectorsOf(at: number, data: Buffer): { at: number; data: Buffer }[] {
  const sectors = [];
  for (let from = at; from < at + data.length; ) {
    const to = Math.min(at + data.length, (Math.floor(from / SECTOR) + 1) * SECTOR);
    sectors.push({ at: from, data: data.subarray(from - at, to - at) });
    from = to;
  }
  return sectors;
}
