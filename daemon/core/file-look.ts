import type { FileState } from "./fingerprint.ts";
import type { FileChange } from "./signal.ts";

/** What one lstat says: everything of a FileState but the hash, and the times. */
export type Look = Omit<FileState, "sha256"> & {
  readonly mtimeNs: bigint;
  readonly ctimeNs: bigint;
  /** Why the kind is "unreadable"; "" otherwise. */
  readonly why: string;
};

/** A look with the content hashed. */
export type FullLook = Look & { readonly sha256: string };

/** How the file sensor reads the disk. Never follows a link, never throws: what it may not read is "unreadable". */
export interface FileReader {
  /** One lstat, synchronous: the signal must not wait for a thread. */
  look(path: string): Look;
  /** With the hash; retried while the file changes under the reader's hands. */
  read(path: string): Promise<FullLook>;
  /** Names in a directory, sorted; `why` when it cannot be read; no names when it is not there. */
  names(directory: string): Promise<{ readonly names: readonly string[]; readonly why: string }>;
}

/**
 * What an event on a path means, from what was known and one lstat. "touched": something happened, and left nothing
 * different (created and deleted again, written with the same result). Never null: an event is never nothing.
 */
export function changeOnEvent(known: Look | undefined, now: Look): FileChange {
  return changeOnLook(known, now) ?? "touched";
}

/** As `changeOnEvent` without an event to explain: null when nothing differs. */
export function changeOnLook(known: Look | undefined, now: Look): FileChange | null {
  const was = known?.kind ?? "missing";
  if (was === "missing") return now.kind === "missing" ? null : "created";
  if (known === undefined) return null;
  if (now.kind === "missing") return "deleted";
  if (was !== now.kind) return was === "unreadable" || now.kind === "unreadable" ? "modified" : "replaced";
  if (known.inode !== now.inode) return "replaced";
  if (known.mode !== now.mode || known.uid !== now.uid || known.gid !== now.gid) {
    return known.size === now.size ? "metadata" : "modified";
  }
  // a directory's size and times move with every entry in it, and those have changes of their own
  if (now.kind === "directory") return null;
  if (known.size !== now.size || known.mtimeNs !== now.mtimeNs) return "modified";
  return known.ctimeNs === now.ctimeNs ? null : "metadata";
}

/** The part of a look that goes into a snapshot. */
export function toState(look: FullLook): FileState {
  const { path, kind, sha256, size, mode, uid, gid, inode } = look;
  return { path, kind, sha256, size, mode, uid, gid, inode };
}
