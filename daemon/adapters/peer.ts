import koffi from "koffi";
import type { Peer } from "../ports.ts";

/** Linux, asm-generic/socket.h: the same on every architecture we run on (x64, arm64). */
const SOL_SOCKET = 1;
const SO_PEERCRED = 17;
const SO_PEERGROUPS = 59;
/** NGROUPS_MAX. */
const MAX_GROUPS = 65_536;
const FIRST_GROUPS = 64;

// symbols of this very process: glibc or musl, whichever Node runs on
const getsockopt = koffi
  .load(null)
  .func("int getsockopt(int fd, int level, int name, _Out_ uint8_t *value, _Inout_ uint32_t *length)");

/**
 * Who connected, as the kernel noted at the time of connect: a later setuid, exec or exit of the peer changes
 * nothing. `fd`: an accepted Unix stream socket. Null when the kernel does not say (another kind of socket).
 */
export function peerOf(fd: number): Peer | null {
  const credentials = read(fd, SO_PEERCRED, 12);
  if (credentials === null || credentials.length !== 12) return null;
  const pid = credentials.readInt32LE(0);
  const uid = credentials.readUInt32LE(4);
  const gid = credentials.readUInt32LE(8);
  // the kernel fills in pid 0 and uid -1 when it knows nobody
  if (pid <= 0 || uid === 0xffff_ffff || gid === 0xffff_ffff) return null;
  const groups = readGroups(fd);
  if (groups === null) return null;
  return { pid, uid, gid, groups: [...new Set([gid, ...groups])] };
}

function readGroups(fd: number): readonly number[] | null {
  // with too little room the call fails (ERANGE) rather than cutting the list short
  const bytes = read(fd, SO_PEERGROUPS, FIRST_GROUPS * 4) ?? read(fd, SO_PEERGROUPS, MAX_GROUPS * 4);
  if (bytes === null) return null;
  return Array.from({ length: bytes.length / 4 }, (_, index) => bytes.readUInt32LE(index * 4));
}

function read(fd: number, name: number, roomBytes: number): Buffer | null {
  const value = Buffer.alloc(roomBytes);
  const length = [roomBytes];
  if (getsockopt(fd, SOL_SOCKET, name, value, length) !== 0) return null;
  return value.subarray(0, length[0]);
}
