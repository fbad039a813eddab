import { createHash } from "node:crypto";
import type { FileChange, Signal } from "./signal.ts";

/**
 * What is on disk at one path. A baseline is a list of these, and its digest is signed, so the rules of the log's
 * record hold: fields are only added, strings and integers only.
 */
export type FileState = {
  readonly path: string;
  /** "missing": nothing there. "unreadable": something is there, or may be, and we were not allowed to look. */
  readonly kind: "file" | "directory" | "link" | "missing" | "other" | "unreadable";
  /**
   * Hex SHA-256 of a file's content, of a link's target text, of a directory's sorted names. "partial:" + hex for a
   * file longer than the limit (size, mtime, inode, first and last MiB). "" where there is nothing to hash.
   */
  readonly sha256: string;
  /** Bytes; 0 for anything but a file. */
  readonly size: number;
  /** Permission bits with set-id and sticky, 0o7777. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** "device:inode". */
  readonly inode: string;
};

/** One of our own files: a change of it is `self.changed`. */
export type SelfPath = { readonly path: string; readonly part: "config" | "key" | "program" | "canary" };

export type FileDifference = { readonly path: string; readonly change: FileChange };

export function missingState(path: string): FileState {
  return { path, kind: "missing", sha256: "", size: 0, mode: 0, uid: 0, gid: 0, inode: "" };
}

/**
 * How two snapshots differ, one change a path, the gravest first found: created/deleted, replaced (another inode or
 * kind), modified, metadata. A path that one side does not have counts as missing there. Inode numbers mean nothing
 * across a reboot: "ignore" them when the snapshots come from two boots.
 */
export function diffStates(
  before: readonly FileState[],
  after: readonly FileState[],
  inodes: "compare" | "ignore" = "compare",
): readonly FileDifference[] {
  const was = new Map(before.map((state) => [state.path, state]));
  const is = new Map(after.map((state) => [state.path, state]));
  const paths = [...new Set([...was.keys(), ...is.keys()])].toSorted(byText);
  return paths.flatMap((path) => {
    const change = changeBetween(
      was.get(path) ?? missingState(path),
      is.get(path) ?? missingState(path),
      inodes,
    );
    return change === null ? [] : [{ path, change }];
  });
}

/** What happened to one path between two looks; null when they are the same. */
export function changeBetween(
  before: FileState,
  after: FileState,
  inodes: "compare" | "ignore" = "compare",
): FileChange | null {
  if (before.kind === "missing" && after.kind === "missing") return null;
  if (before.kind === "missing") return "created";
  if (after.kind === "missing") return "deleted";
  // nobody can vouch for the content of what could not be read
  if (before.kind !== after.kind && (before.kind === "unreadable" || after.kind === "unreadable"))
    return "modified";
  if (before.kind !== after.kind) return "replaced";
  if (inodes === "compare" && before.inode !== after.inode) return "replaced";
  if (before.sha256 !== after.sha256 || before.size !== after.size) return "modified";
  if (before.mode !== after.mode || before.uid !== after.uid || before.gid !== after.gid) return "metadata";
  return null;
}

/** Hex SHA-256 over the states in the order of their paths, in one fixed form: equal for equal sets, whatever their order. */
export function baselineDigest(states: readonly FileState[]): string {
  const hash = createHash("sha256");
  for (const state of states.toSorted((a, b) => byText(a.path, b.path))) {
    const { path, kind, sha256, size, mode, uid, gid, inode } = state;
    hash.update(`${JSON.stringify([path, kind, sha256, size, mode, uid, gid, inode])}\n`);
  }
  return hash.digest("hex");
}

/**
 * A change as the signal it is: `self.changed` for one of our own files, `file.changed` for the rest. A self path that
 * ends in "/" stands for that directory itself and all below it.
 */
export function fileSignal(difference: FileDifference, self: readonly SelfPath[], seenNs: bigint): Signal {
  const { path, change } = difference;
  const own = self.find((one) => isOwn(one.path, path));
  return own === undefined
    ? { kind: "file.changed", facts: { path, change }, seenNs }
    : { kind: "self.changed", facts: { path, part: own.part, change }, seenNs };
}

function isOwn(own: string, path: string): boolean {
  if (own === path) return true;
  return own.endsWith("/") && (path.startsWith(own) || `${path}/` === own);
}

/** By UTF-16 units, not by locale: the order is part of the digest. */
function byText(a: string, b: string): number {
  if (a === b) return 0;
  return a < b ? -1 : 1;
}
