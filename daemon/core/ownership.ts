/** What lstat says of a path, as far as it decides whether we may trust it. */
export type Look = {
  readonly kind: "directory" | "file" | "symlink" | "other";
  readonly uid: number;
  /** Permission bits. */
  readonly mode: number;
  readonly links: number;
};

/** Why a directory of ours is not safe to use, or null: it has to be real, ours, and writable by nobody else. */
export function directoryFault(look: Look, ourUid: number): string | null {
  if (look.kind !== "directory") return `is a ${look.kind}, not a directory`;
  return ownerFault(look, ourUid, 0o022);
}

/** Why a file of ours is not safe to use, or null. "secret" files may not be read by others either. */
export function fileFault(look: Look, ourUid: number, kind: "secret" | "plain"): string | null {
  if (look.kind !== "file") return `is a ${look.kind}, not a regular file`;
  if (look.links !== 1) return `has ${look.links} names (hard links)`;
  return ownerFault(look, ourUid, kind === "secret" ? 0o077 : 0o022);
}

/**
 * Why somebody else could have put there what we are about to run, or null: it has to be root's or ours, and writable by
 * nobody else. In a directory with the sticky bit nobody takes away what is another's.
 */
export function sharedFault(look: Look, kind: "directory" | "file", ourUid: number): string | null {
  if (look.kind !== kind) return `is a ${look.kind}, not a ${kind}`;
  if (look.uid !== 0 && look.uid !== ourUid) return `belongs to uid ${look.uid}, not to root or to us`;
  if (kind === "directory" && (look.mode & 0o1000) !== 0) return null;
  return (look.mode & 0o022) === 0
    ? null
    : `has mode 0${(look.mode & 0o777).toString(8)}: others can write to it`;
}

function ownerFault(look: Look, ourUid: number, forbidden: number): string | null {
  if (look.uid !== ourUid) return `belongs to uid ${look.uid}, not to us (${ourUid})`;
  const excess = look.mode & forbidden;
  return excess === 0 ? null : `has mode 0${(look.mode & 0o777).toString(8)}: others have access`;
}
