import { lstatSync } from "node:fs";
import { dirname } from "node:path";

const OTHERS_WRITE = 0o022;

/**
 * Why a socket may be another's than the one whose directory it is in: then whoever answers there is not asked. null when
 * nobody but the directory's owner, or root, can have put it there. The system's directory is in /run, where root alone makes
 * any. Throws what lstat does: there is none, or we may not look.
 */
export function faultOfPlace(path: string): string | null {
  const directory = lstatSync(dirname(path));
  const socket = lstatSync(path);
  if (!directory.isDirectory()) return "its directory is no directory of its own";
  if ((directory.mode & OTHERS_WRITE) !== 0) return "others than its owner may write its directory";
  return socket.uid === directory.uid || socket.uid === 0
    ? null
    : `it belongs to uid ${socket.uid}, its directory to uid ${directory.uid}`;
}
