import { connect, type Socket } from "node:net";

/**
 * A process of its own: `node tests/support/idle-crowd.ts PATH COUNT UID KIND`. Opens connections as another user and
 * says "open HELD REFUSED" once each has settled, then holds them until its stdin ends. KIND: "silent" sends nothing,
 * "half" half a request and a byte of it every second.
 */
const [path = "", count = "0", uid = "0", kind = "silent"] = process.argv.slice(2);
process.setgroups?.([]);
process.setgid?.(Number(uid));
process.setuid?.(Number(uid));

const held = new Set<Socket>();
let refused = 0;
let settled = 0;

function open(): Promise<void> {
  return new Promise((resolve) => {
    const socket = connect({ path });
    let full = false; // the kernel's queue of connections
    const settle = (): void => {
      settled++;
      resolve();
    };
    socket.on("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "EAGAIN") full = true;
    });
    socket.on("data", () => undefined);
    socket.once("close", () => {
      if (full) {
        setTimeout(() => void open().then(resolve), 50);
        return;
      }
      if (!held.delete(socket)) refused++;
      settle();
    });
    socket.once("connect", () => {
      if (kind === "half") socket.write("POST /access/v1/evaluation HTTP/1.1\r\nHost: a\r\nX-Slow: ");
      // a connection that is refused ends at once
      setTimeout(() => {
        if (socket.destroyed) return;
        held.add(socket);
        settle();
      }, 1_000);
    });
  });
}

// the kernel's queue of connections is short: a few hundred at a time
const all = Number(count);
for (let begun = 0; begun < all; begun += 250)
  await Promise.race([
    Promise.all(Array.from({ length: Math.min(250, all - begun) }, open)),
    new Promise((resolve) => setTimeout(resolve, 40)),
  ]);
while (settled < all) await new Promise((resolve) => setTimeout(resolve, 50));
process.stdout.write(`open ${held.size} ${refused}\n`);
if (kind === "half")
  setInterval(() => {
    for (const socket of held) socket.write("x");
  }, 1_000);
process.stdin.on("data", () => undefined);
process.stdin.on("end", () => process.exit(0));
