import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { type AddressInfo, connect, createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { isOnHost } from "./setup.ts";
import type { Certificates } from "./tls-files.ts";

export const HAS_RSYSLOG = isOnHost("rsyslogd") && isOnHost("rsyslog/lmnsd_gtls.so") && isOnHost("openssl");

/** A rsyslogd of our own, as docs/SHIPPING.md sets it up, on loopback. */
export type Rsyslog = {
  readonly port: number;
  /** What it wrote. */
  readonly file: string;
  start(): Promise<void>;
  /** Ends it: SIGTERM in order, SIGKILL as a crash. */
  stop(signal: "SIGTERM" | "SIGKILL"): Promise<void>;
};

const START_MS = 10_000;

export async function rsyslogIn(directory: string, pem: Certificates): Promise<Rsyslog> {
  const port = await freePort();
  const work = join(directory, "work");
  const file = join(directory, "boundary.log");
  const config = join(directory, "rsyslog.conf");
  mkdirSync(work);
  writeFileSync(config, configOf({ port, file, work, pem }));
  let child: ChildProcess | null = null;
  let said = "";

  async function start(): Promise<void> {
    const started = spawn("/usr/sbin/rsyslogd", ["-n", "-f", config, "-i", join(directory, "pid")], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    child = started;
    for (const stream of [started.stdout, started.stderr])
      stream.on("data", (text: Buffer) => (said += text.toString()));
    for (const end = Date.now() + START_MS; !(await answers(port)); ) {
      if (Date.now() > end || started.exitCode !== null) throw new Error(`rsyslogd does not answer: ${said}`);
      await sleep(50);
    }
  }

  async function stop(signal: "SIGTERM" | "SIGKILL"): Promise<void> {
    const running = child;
    child = null;
    if (running === null || running.exitCode !== null || running.signalCode !== null) return;
    const ended = once(running, "exit");
    running.kill(signal);
    await Promise.race([ended, sleep(5_000).then(() => running.kill("SIGKILL"))]);
    await ended;
  }

  return { port, file, start, stop };
}

/** The block of the page, with our places in it: what is documented is what is tested. */
function configOf(at: { port: number; file: string; work: string; pem: Certificates }): string {
  const page = readFileSync(join(import.meta.dirname, "../../docs/SHIPPING.md"), "utf8");
  const block = /```\n(global\([\s\S]+?)```/.exec(page)?.[1] ?? "";
  const places: readonly (readonly [from: string, to: string])[] = [
    ['"/etc/rsyslog.d/ca.pem"', `"${at.pem.ca}"`],
    ['"/etc/rsyslog.d/server.pem"', `"${at.pem.server.cert}"`],
    ['"/etc/rsyslog.d/server.key"', `"${at.pem.server.key}"`],
    ['"/var/log/boundary.log"', `"${at.file}"`],
    ['port="6514"', `port="${at.port}" address="127.0.0.1"`],
    ["global(", `global(workDirectory="${at.work}"`],
  ];
  return places.reduce((text, [from, to]) => {
    if (!text.includes(from)) throw new Error(`docs/SHIPPING.md has no ${from}`);
    return text.replace(from, to);
  }, block);
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ port, host: "127.0.0.1" });
    socket.once("error", () => resolve(false));
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
  });
}
