import koffi from "koffi";
import type { Notifier } from "../ports.ts";

const AF_UNIX = 1;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0o2000000;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
/** sun_path of unix(7). */
const MAX_PATH_BYTES = 108;
const MAX_STATUS_CHARS = 200;

const libc = koffi.load(null);
const socket = libc.func("int socket(int domain, int type, int protocol)") as (
  domain: number,
  type: number,
  protocol: number,
) => number;
const sendto = libc.func(
  "intptr_t sendto(int fd, const uint8_t *data, size_t length, int flags, const uint8_t *to, uint32_t toLength)",
) as (fd: number, data: Buffer, length: number, flags: number, to: Buffer, toLength: number) => number;

/**
 * Tells the service manager how we are (sd_notify(3)): datagrams to the Unix socket named by NOTIFY_SOCKET, which may
 * be a path or, with "@" in front, an abstract name. Without the variable every call does nothing. A message that
 * cannot be sent is dropped: the manager's watchdog acts on silence, which is what it is for.
 */
export function createNotifier(env: Readonly<Record<string, string | undefined>> = process.env): Notifier {
  const send = openSender(env["NOTIFY_SOCKET"]);
  return {
    ready: () => send(`READY=1\nMAINPID=${process.pid}`),
    watchdog: () => send("WATCHDOG=1"),
    stopping: () => send("STOPPING=1"),
    status: (text) => send(`STATUS=${oneLine(text)}`),
  };
}

function openSender(name: string | undefined): (message: string) => void {
  const address = name === undefined || name === "" ? null : socketAddress(name);
  if (address === null) return () => {};
  const fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return () => {};
  return (message) => {
    const data = Buffer.from(message, "utf8");
    // never waits: a manager that does not read must not stop the loop that renews the dead-man
    sendto(fd, data, data.length, MSG_DONTWAIT | MSG_NOSIGNAL, address, address.length);
  };
}

/** struct sockaddr_un; null for a name that is none: systemd gives absolute paths and abstract names only. */
function socketAddress(name: string): Buffer | null {
  const path = Buffer.from(name, "utf8");
  if (path.length >= MAX_PATH_BYTES || path.includes(0)) return null;
  if (path[0] === 0x40) path[0] = 0;
  else if (path[0] !== 0x2f) return null;
  const family = Buffer.alloc(2);
  family.writeUInt16LE(AF_UNIX); // x64 and arm64, the two we run on, are little-endian
  // a path ends with a zero byte; an abstract name is as long as the address says
  return Buffer.concat([family, path, path[0] === 0 ? Buffer.alloc(0) : Buffer.alloc(1)]);
}

/** A newline would begin another assignment. */
function oneLine(text: string): string {
  return text.replace(/\p{Cc}+/gu, " ").slice(0, MAX_STATUS_CHARS);
}
