import { spawn } from "node:child_process";
import { createHash, generateKeyPairSync, sign } from "node:crypto";
import {
  fdatasyncSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  rmSync,
  watch,
  writeFileSync,
  writeSync,
} from "node:fs";
import { createServer } from "node:net";
import { networkInterfaces, tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { openLibnftables } from "../../daemon/adapters/libnftables.ts";
import { lockLogDirectory } from "../../daemon/adapters/log-lock.ts";
import { createNotifier } from "../../daemon/adapters/systemd.ts";

/**
 * Run under strace by tests/systemd.test.ts: does what the daemon does of every kind, so that the system calls of
 * Node, koffi and libnftables can be held against the unit's filter. Needs a network namespace of its own.
 */
const dir = mkdtempSync(join(tmpdir(), "boundary-calls-"));
const firewall = openLibnftables();
if ("unavailable" in firewall) throw new Error(firewall.unavailable);
firewall.run("add table inet boundary");
firewall.list();
createNotifier({ NOTIFY_SOCKET: join(dir, "nobody") }).ready();

mkdirSync(join(dir, "log"));
const lock = lockLogDirectory(join(dir, "log"));
const fd = openSync(join(dir, "log/segment"), "ax", 0o600);
writeSync(fd, createHash("sha256").update("record").digest("hex"));
fdatasyncSync(fd);
sign(null, Buffer.from("seal"), generateKeyPairSync("ed25519").privateKey);

const watcher = watch(dir, () => {});
const server = createServer((socket) => socket.end());
server.listen(join(dir, "control.sock"));
writeFileSync(join(dir, "watched"), "changed");
networkInterfaces();
const children = [
  spawn("/usr/sbin/nft", ["list", "tables"], { stdio: ["ignore", "pipe", "pipe"] }),
  spawn("/usr/sbin/ip", ["-json", "monitor", "link"], { stdio: ["ignore", "pipe", "pipe"] }),
];
await sleep(500);

for (const child of children) child.kill();
watcher.close();
server.close();
lock.release();
rmSync(dir, { recursive: true, force: true });
console.log("done");
