import { closeSync, openSync, readSync } from "node:fs";
import type { PeerFacts } from "../ports.ts";

const MAX_PASSWD_BYTES = 1_048_576;
const MAX_STAT_BYTES = 4_096;
/** How long the names of /etc/passwd are believed. */
const NAMES_LIFE_MS = 5_000;

type Names = { readonly byUid: ReadonlyMap<number, string>; readonly readAtMs: number };

/** Facts about peers from /proc and /etc/passwd. The arguments are for tests. */
export function createPeerFacts(
  files: { readonly proc: string; readonly passwd: string } = { proc: "/proc", passwd: "/etc/passwd" },
  monotonicMs: () => number = () => performance.now(),
): PeerFacts {
  let names: Names | null = null;

  function userName(uid: number): string {
    const nowMs = monotonicMs();
    if (names === null || nowMs - names.readAtMs >= NAMES_LIFE_MS) {
      names = { byUid: parsePasswd(readBounded(files.passwd, MAX_PASSWD_BYTES) ?? ""), readAtMs: nowMs };
    }
    return names.byUid.get(uid) ?? String(uid);
  }

  function terminalOf(pid: number): string | null {
    if (!Number.isSafeInteger(pid) || pid <= 0) return null;
    const stat = readBounded(`${files.proc}/${pid}/stat`, MAX_STAT_BYTES);
    return stat === null ? null : parseTerminal(stat);
  }

  return { terminalOf, userName };
}

/** The controlling terminal in a /proc/PID/stat line: "pts/3", "tty1", "ttyS0", "char/229:0"; null when none. */
export function parseTerminal(stat: string): string | null {
  // the program's name stands in parentheses and may itself hold ") R 1 1 1 34816"
  const after = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  const device = Number(after[4]);
  if (!stat.includes(")") || !Number.isInteger(device) || device === 0) return null;
  return terminalName((device >>> 8) & 0xfff, (device & 0xff) | ((device >>> 12) & 0xf_ff00));
}

function terminalName(major: number, minor: number): string {
  if (major >= 136 && major <= 143) return `pts/${(major - 136) * 256 + minor}`;
  if (major === 4) return minor < 64 ? `tty${minor}` : `ttyS${minor - 64}`;
  return `char/${major}:${minor}`;
}

/** Login names by uid; the first line of a uid counts, as for getpwuid. Lines that are not accounts are passed over. */
export function parsePasswd(text: string): ReadonlyMap<number, string> {
  const byUid = new Map<number, string>();
  for (const line of text.split("\n")) {
    const [name, , uidText] = line.split(":");
    if (
      !name ||
      !uidText ||
      !/^[0-9]{1,10}$/.test(uidText) ||
      !/^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}\$?$/.test(name)
    )
      continue;
    const uid = Number(uidText);
    if (!byUid.has(uid)) byUid.set(uid, name);
  }
  return byUid;
}

// a file in /proc has no size: read up to the limit, whatever stat says
function readBounded(path: string, mostBytes: number): string | null {
  let fd: number;
  try {
    fd = openSync(path, "r");
  } catch {
    return null; // gone, or not for us: the caller answers "none" or the number
  }
  try {
    const bytes = Buffer.alloc(mostBytes);
    let used = 0;
    while (used < mostBytes) {
      const got = readSync(fd, bytes, used, mostBytes - used, null);
      if (got === 0) break;
      used += got;
    }
    return bytes.toString("utf8", 0, used);
  } catch {
    return null;
  } finally {
    closeSync(fd);
  }
}
