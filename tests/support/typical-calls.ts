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
import { openCedarProcess } from "../../daemon/adapters/cedar-process.ts";
import { openLibnftables } from "../../daemon/adapters/libnftables.ts";
import { lockLogDirectory } from "../../daemon/adapters/log-lock.ts";
import { pkcs11Process } from "../../daemon/adapters/pkcs11-process.ts";
import { guardDescriptors, guardMemory } from "../../daemon/adapters/process-guard.ts";
import { createNotifier } from "../../daemon/adapters/systemd.ts";

/**
 * Run under strace by tests/systemd.test.ts: does what the daemon does of every kind, so that the system calls of
 * Node, koffi and libnftables can be held against the unit's filter. Needs a network namespace of its own.
 */
guardDescriptors();
guardMemory();
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
const cedar = openCedarProcess();
if ((await cedar.ask({ kind: "load", schema: "entity A;", policies: {} })) !== "{}") throw new Error("Cedar");
cedar.end();
// its process starts, and says that this is no module
const token = pkcs11Process({ module: join(dir, "watched"), tokenLabel: "none" });
await token.create("kek-0123456789abcdef", Buffer.from("0000")).then(
  () => Promise.reject(new Error("a token")),
  () => undefined,
);
await sleep(500);

for (const child of children) child.kill();
watcher.close();
server.close();
lock.release();
rmSync(dir, { recursive: true, force: true });
console.log("done");
process.exit(0);
