import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { Agent, createServer as createHttpServer, request } from "node:http";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { BenchRow } from "./row.ts";

/**
 * The proxy of a guarded command against a direct connection to the same server, on loopback, each in a process of its
 * own. A record costs nothing here: the first connection to a place waits for the log's disk besides, once.
 */
const ROOT = join(import.meta.dirname, "..");
const HERE = "127.0.0.1";
const BYTES = 512 * 1_048_576;
const CONNECTIONS = 1_000;
const REQUESTS = 1_500;
const WARM_UP = 100;

type Way = { readonly name: string; readonly open: () => Promise<Socket> };
type Ports = { readonly source: number; readonly echo: number; readonly http: number };

export async function benchEgress(): Promise<readonly BenchRow[]> {
  const directory = mkdtempSync(join(tmpdir(), "boundary-bench-egress-"));
  const origin = start([import.meta.filename]);
  try {
    const ports = JSON.parse(await origin.line()) as Ports;
    const all = Object.values(ports);
    const config = {
      allow: all.map((port) => `${HERE}:${port}`),
      addresses: [HERE],
      plainPorts: all,
      limits: { connectionsInAll: 1_000_000 },
    };
    const proxy = start([
      join(ROOT, "tests/support/egress-host-process.ts"),
      directory,
      JSON.stringify(config),
    ]);
    try {
      await proxy.line();
      return await compare(ports, join(directory, "egress/0123456789abcdef0123456789abcdef.sock"));
    } finally {
      await proxy.stop();
    }
  } finally {
    await origin.stop();
    rmSync(directory, { recursive: true, force: true });
  }
}

async function compare(ports: Ports, socketPath: string): Promise<readonly BenchRow[]> {
  const ways = (port: number): readonly Way[] => [
    { name: "direct", open: () => direct(port) },
    { name: "proxy", open: () => tunnel(socketPath, port) },
  ];
  const [directRate = 0, proxyRate = 0] = await inTurn(ways(ports.source), throughput);
  const [directMs = 0, proxyMs = 0] = await inTurn(ways(ports.echo), connectionMs);
  const plain = await requestMs((path) => ({ host: HERE, port: ports.http, path }), `${HERE}:${ports.http}`);
  const passed = await requestMs(
    (path) => ({ socketPath, path: `http://${HERE}:${ports.http}${path}` }),
    `${HERE}:${ports.http}`,
  );
  const row = (what: string, unit: string, value: number, rival: number, ratio: number): BenchRow => ({
    what,
    value: round(value),
    unit,
    rival: `a direct connection (${round(rival)} ${unit})`,
    ratio: round(ratio),
    aim: "",
    met: null,
  });
  return [
    row("a tunnel, one way", "MB/s", proxyRate, directRate, directRate / proxyRate),
    row("a connection, a byte and its answer: p50", "ms", proxyMs, directMs, proxyMs / directMs),
    row("a request of plain HTTP, the client's connection kept: p50", "ms", passed, plain, passed / plain),
  ];
}

/** Alternating, so that what else the machine does hits both; the median of three each. */
async function inTurn(
  ways: readonly Way[],
  measure: (way: Way) => Promise<number>,
): Promise<readonly number[]> {
  const found = ways.map((): number[] => []);
  for (let round = 0; round < 3; round++)
    for (const [at, way] of ways.entries()) found[at]?.push(await measure(way));
  return found.map(median);
}

async function throughput({ open }: Way): Promise<number> {
  const socket = await open();
  const begunMs = performance.now();
  let received = 0;
  socket.on("data", (chunk: Buffer) => {
    received += chunk.length;
  });
  socket.write("go");
  await once(socket, "close");
  if (received !== BYTES) throw new Error(`${received} bytes came`);
  return BYTES / 1_000 / (performance.now() - begunMs);
}

async function connectionMs({ open }: Way): Promise<number> {
  const times: number[] = [];
  for (let n = 0; n < WARM_UP + CONNECTIONS; n++) {
    const begunMs = performance.now();
    const socket = await open();
    socket.write("a");
    await once(socket, "data");
    if (n >= WARM_UP) times.push(performance.now() - begunMs);
    socket.destroy();
  }
  return median(times);
}

async function requestMs(to: (path: string) => object, host: string): Promise<number> {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const times: number[] = [];
  for (let n = 0; n < WARM_UP + REQUESTS; n++) {
    const begunMs = performance.now();
    await new Promise<void>((resolve, reject) => {
      request({ ...to(`/${n}`), agent, headers: { Host: host } }, (response) => {
        if (response.statusCode !== 200) reject(new Error(`status ${response.statusCode}`));
        response.resume().once("end", resolve);
      })
        .once("error", reject)
        .end();
    });
    if (n >= WARM_UP) times.push(performance.now() - begunMs);
  }
  agent.destroy();
  return median(times);
}

async function direct(port: number): Promise<Socket> {
  const socket = connect({ host: HERE, port, noDelay: true });
  await once(socket, "connect");
  return socket;
}

async function tunnel(path: string, port: number): Promise<Socket> {
  const socket = connect({ path });
  socket.write(`CONNECT ${HERE}:${port} HTTP/1.1\r\nHost: ${HERE}:${port}\r\n\r\n`);
  const [answer] = (await once(socket, "data")) as [Buffer];
  if (!answer.toString("latin1").startsWith("HTTP/1.1 200 ")) throw new Error(answer.toString("latin1"));
  return socket;
}

function start(args: readonly string[]) {
  const child = spawn(process.execPath, [...args], { stdio: ["pipe", "pipe", "inherit"] });
  const gone = once(child, "close");
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  return {
    line: async () => String((await lines.next()).value),
    stop: async () => {
      child.stdin.end();
      child.stdout.resume();
      await gone;
    },
  };
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;
}

function round(value: number): number {
  return Number(value.toFixed(value < 10 ? 3 : 0));
}

if (import.meta.main) {
  const piece = Buffer.alloc(65_536, 7);
  const source = createServer((socket) => {
    let left = BYTES;
    const more = (): void => {
      while (left > 0) {
        left -= piece.length;
        if (!socket.write(piece)) return;
      }
      socket.end();
    };
    socket.on("error", () => undefined);
    socket.on("drain", more);
    socket.once("data", more);
  });
  const echo = createServer({ noDelay: true }, (socket) => {
    socket.on("error", () => undefined);
    socket.pipe(socket);
  });
  const http = createHttpServer((_request, response) => response.end("here"));
  const ports: Record<string, number> = {};
  for (const [name, server] of Object.entries({ source, echo, http })) {
    await new Promise<void>((resolve) => server.listen(0, HERE, resolve));
    ports[name] = (server.address() as AddressInfo).port;
  }
  console.log(JSON.stringify(ports));
  process.stdin.on("end", () => process.exit(0)).resume();
}
