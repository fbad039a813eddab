import { once } from "node:events";
import { existsSync, lstatSync, mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import type { TLSSocket } from "node:tls";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { buildHello, serverName } from "../support/client-hellos.ts";
import {
  type EgressTest,
  type EgressTestOptions,
  type Origin,
  originOf,
  startEgress,
  startTlsOrigin,
  tlsThrough,
  tunnelTo,
} from "../support/egress-proxy.ts";
import { rawHttp } from "../support/raw-http.ts";
import { type Certificates, makeCertificates } from "../support/tls-files.ts";

const directory = mkdtempSync(join(tmpdir(), "boundary-egress-tls-"));
let certificates: Certificates;
beforeAll(() => {
  certificates = makeCertificates(directory);
}, 60_000);
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const stops: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const stop of stops.splice(0).toReversed()) await stop();
});

/** The certificates are localhost's, and so that is the name of the host; it is at no loopback address here. */
const TARGET = "localhost:443";

async function setup(
  options: EgressTestOptions = {},
  handle: (socket: TLSSocket) => void = (socket) => socket.pipe(socket),
): Promise<{ readonly there: Origin; readonly host: EgressTest }> {
  const there = await startTlsOrigin(certificates.server, handle);
  stops.push(there.stop);
  const host = await startEgress({ allow: ["localhost"], portAt: () => there.port, ...options });
  stops.push(host.stop);
  return { there, host };
}

const through = (host: EgressTest, target = TARGET, servername = "localhost") =>
  tlsThrough(host.path, target, { ca: certificates.ca, servername });

async function opened(host: EgressTest): Promise<TLSSocket> {
  const socket = await through(host);
  if (typeof socket === "string") throw new Error(socket);
  return socket;
}

/** Sends bytes through a tunnel and gives what comes back, when it has ended. */
async function tellTunnel(host: EgressTest, bytes: Buffer | string, target = TARGET): Promise<Buffer> {
  const { socket, answer } = await tunnelTo(host.path, target);
  expect(answer).toMatch(/^HTTP\/1\.1 200 /);
  const heard: Buffer[] = [];
  socket.on("data", (chunk: Buffer) => heard.push(chunk));
  socket.resume();
  socket.write(bytes);
  await once(socket, "close");
  return Buffer.concat(heard);
}

const DENIED = Buffer.from([21, 3, 3, 0, 2, 2, 49]);

describe("CONNECT with TLS", () => {
  test("passes where the ClientHello names the host that was asked for, from end to end", async () => {
    const { host } = await setup();
    const socket = await opened(host);
    expect(socket.authorized).toBe(true);
    socket.write("hello");
    expect(String((await once(socket, "data"))[0])).toBe("hello");
    socket.destroy();
    expect(host.records[0]).toMatchObject({
      kind: "egress.opened",
      data: {
        way: "tls",
        host: "localhost",
        port: 443,
        serverName: "localhost",
        addresses: ["93.184.216.34"],
      },
    });
    await host.egress.end("done");
    expect(host.records.at(-1)).toMatchObject({ kind: "egress.closed", data: { connections: 1 } });
    expect(Number(host.records.at(-1)?.data["sent"])).toBeGreaterThan(300);
  });

  test("its record is there before anybody is connected to", async () => {
    const { host } = await setup();
    const { socket } = await tunnelTo(host.path, TARGET);
    expect([host.records.length, host.dialled.length]).toEqual([0, 0]);
    socket.write(buildHello([serverName("localhost")]));
    await expect.poll(() => host.dialled.length).toBe(1);
    expect(host.kinds()).toEqual(["egress.opened"]);
    socket.destroy();
  });

  test("a ClientHello in pieces, one of them with the CONNECT, is read as a whole", async () => {
    const { host } = await setup();
    const hello = buildHello([serverName("localhost")], 9);
    const socket = connect({ path: host.path });
    socket.on("error", () => undefined);
    socket.write(
      Buffer.concat([
        Buffer.from(`CONNECT ${TARGET} HTTP/1.1\r\nHost: ${TARGET}\r\n\r\n`),
        hello.subarray(0, 20),
      ]),
    );
    for (let at = 20; at < hello.length; at += 40) {
      await new Promise((resolve) => setTimeout(resolve, 2));
      socket.write(hello.subarray(at, at + 40));
    }
    await expect.poll(() => host.dialled.length).toBe(1);
    socket.destroy();
  });

  test.each([
    ["another host", buildHello([serverName("other.example")])],
    ["a subdomain", buildHello([serverName("www.localhost")])],
    ["the host with a dot behind", buildHello([serverName("localhost.")])],
    ["nobody", buildHello([])],
    ["an address", buildHello([serverName("127.0.0.1")])],
    [
      "the host, before an encrypted one",
      buildHello([serverName("localhost"), { type: 0xfe0d, body: Buffer.alloc(9) }]),
    ],
    ["the host twice", buildHello([serverName("localhost"), serverName("localhost")])],
    ["nobody, being no TLS", "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"],
    ["nobody, being SSH", "SSH-2.0-OpenSSH_9.2\r\n"],
  ])("that names %s is refused, and nobody is connected to", async (_what, bytes) => {
    const { host } = await setup();
    expect(await tellTunnel(host, bytes)).toEqual(DENIED);
    expect(host.dialled).toEqual([]);
    expect(host.kinds()).toEqual(["egress.refused egress-name"]);
  });

  test("a real client that names another host hears an alert", async () => {
    const { host } = await setup();
    expect(await through(host, TARGET, "other.example")).toMatch(/ALERT/);
    expect(host.dialled).toEqual([]);
  });

  test("silence instead of a ClientHello is ended in time", async () => {
    const { host } = await setup({ limits: { headMs: 200 } });
    const begun = performance.now();
    expect(await tellTunnel(host, buildHello([serverName("localhost")]).subarray(0, 30))).toEqual(DENIED);
    expect(performance.now() - begun).toBeLessThan(2_000);
  });

  test("a host that cannot be reached is told by an alert, and is on record", async () => {
    const gone = await originOf(createServer());
    await gone.stop();
    const { host } = await setup({ portAt: () => gone.port });
    expect(await tellTunnel(host, buildHello([serverName("localhost")]))).toEqual(
      Buffer.from([21, 3, 3, 0, 2, 2, 80]),
    );
    await host.egress.end("done");
    expect(host.records.at(-1)).toMatchObject({ kind: "egress.closed", data: { failed: "not reached" } });
  });

  test("each end ends by itself: what is still to come comes", async () => {
    const { host } = await setup({}, (socket) => {
      let heard = "";
      socket.on("data", (chunk) => (heard += String(chunk)));
      socket.on("end", () => setTimeout(() => socket.end(`heard ${heard}`), 50));
    });
    const socket = await opened(host);
    socket.end("all of it");
    const chunks: Buffer[] = [];
    for await (const chunk of socket) chunks.push(chunk as Buffer);
    expect(Buffer.concat(chunks).toString()).toBe("heard all of it");
  });

  test("of many megabytes goes through, and stands still while nobody takes it", async () => {
    const size = 16 * 1_048_576;
    const { host } = await setup({}, (socket) => socket.end(Buffer.alloc(size, 3)));
    const socket = await opened(host);
    socket.pause();
    await new Promise((resolve) => setTimeout(resolve, 300));
    let received = 0;
    for await (const chunk of socket) received += (chunk as Buffer).length;
    expect(received).toBe(size);
    socket.destroy();
    await host.egress.end("done");
    expect(Number(host.records.at(-1)?.data["received"])).toBeGreaterThan(size);
  });

  test("one on which nothing passes is ended", async () => {
    const { host } = await setup({ limits: { idleMs: 300 } });
    const socket = await opened(host);
    await once(socket, "close");
    await host.egress.end("done");
    expect(host.records.at(-1)).toMatchObject({ data: { failed: "idle" } });
  });

  test("when the run has had its bytes it is ended", async () => {
    const { host } = await setup({ limits: { totalBytes: 20_000 } }, (socket) =>
      socket.end(Buffer.alloc(200_000)),
    );
    const socket = await opened(host);
    let received = 0;
    socket.on("data", (chunk) => (received += chunk.length));
    await once(socket, "close");
    expect(received).toBeLessThan(20_000);
  });

  test("a host that resets the connection resets the client's", async () => {
    const { host } = await setup({}, (socket) => setTimeout(() => socket.destroy(), 30));
    const socket = await opened(host);
    await once(socket, "close");
    await expect.poll(() => host.egress.counts()).toEqual({ live: 0, total: 1 });
  });
});

describe("CONNECT without TLS", () => {
  test("passes where the port is named for it, and on a list", async () => {
    const there = await originOf(createServer((socket: Socket) => void socket.write("SSH-2.0-server\r\n")));
    stops.push(there.stop);
    const { host } = await setup({ allow: ["localhost:22"], plainPorts: [22], portAt: () => there.port });
    const { socket, answer } = await tunnelTo(host.path, "localhost:22");
    expect(answer).toMatch(/^HTTP\/1\.1 200 /);
    socket.resume();
    if (!answer.includes("SSH-2.0")) expect(String((await once(socket, "data"))[0])).toContain("SSH-2.0");
    socket.destroy();
    expect(host.records[0]).toMatchObject({ kind: "egress.opened", data: { way: "plain", port: 22 } });
  });

  test("is refused where it is on no list, or another port's", async () => {
    const { host } = await setup({ plainPorts: [22] });
    expect((await tunnelTo(host.path, "localhost:22")).answer).toMatch(/^HTTP\/1\.1 403 /);
    const other = await setup({ allow: ["localhost:2222"], plainPorts: [22] });
    expect(await tellTunnel(other.host, "SSH-2.0-x\r\n", "localhost:2222")).toEqual(DENIED);
  });

  test("a host that cannot be reached is an answer", async () => {
    const gone = await originOf(createServer());
    await gone.stop();
    const { host } = await setup({ allow: ["localhost:22"], plainPorts: [22], portAt: () => gone.port });
    expect((await tunnelTo(host.path, "localhost:22")).answer).toMatch(/^HTTP\/1\.1 502 /);
  });
});

describe("the end of the network", () => {
  test("ends every connection at once, whatever it is doing, and the socket is gone", async () => {
    let decide = (_verdict: { allow: boolean; why: string; seq: number }): void => undefined;
    const { host, there } = await setup({
      allow: ["localhost", "example.com"],
      policy: (name) =>
        name === "localhost"
          ? Promise.resolve({ allow: true, why: "", seq: 1 })
          : new Promise((resolve) => {
              decide = resolve;
            }),
    });
    const running = await opened(host);
    const greeting = await tunnelTo(host.path, TARGET);
    const waiting = tunnelTo(host.path, "example.com:443");
    const idle = connect({ path: host.path });
    await once(idle, "connect");
    await expect.poll(() => host.asked.length).toBe(3);
    expect(lstatSync(host.path).mode & 0o7777).toBe(0o600);

    const closed = Promise.all([running, greeting.socket, idle].map((socket) => once(socket, "close")));
    greeting.socket.resume();
    idle.resume();
    const ending = host.egress.end("mode.changed");
    // in this very turn
    expect(existsSync(host.path)).toBe(false);
    expect(host.records.at(-1)).toMatchObject({ kind: "egress.closed", data: { why: "mode.changed" } });
    decide({ allow: true, why: "", seq: 2 });
    await ending;
    await closed;
    expect((await waiting).answer).toBe("");
    await expect.poll(() => there.sockets.size).toBe(0);
    expect(host.dialled).toHaveLength(1);
    await expect.poll(() => host.egress.counts().live).toBe(0);
    const late = connect({ path: host.path });
    expect(((await once(late, "error"))[0] as NodeJS.ErrnoException).code).toBe("ENOENT");
  });

  test("does not wait for its socket to be gone, and says where that cannot be", async () => {
    const { host, there } = await setup();
    const running = await opened(host);
    const closed = once(running, "close");
    const directory = dirname(host.path);
    const here = `${directory}.aside`;
    renameSync(directory, here);
    writeFileSync(directory, "in its place");
    await expect(host.egress.end("mode.changed")).rejects.toMatchObject({ code: "ENOTDIR" });
    await closed;
    await expect.poll(() => host.egress.counts().live).toBe(0);
    expect(host.records.at(-1)).toMatchObject({ kind: "egress.closed", data: { why: "mode.changed" } });
    rmSync(directory);
    const late = await rawHttp(join(here, basename(host.path))).catch(() => null);
    expect(late).toBe(null);
    rmSync(dirname(directory), { recursive: true });
    stops.pop();
    stops.push(() => there.stop());
  });

  test("while it is being connected to: the connection is not made, or is ended", async () => {
    const { host, there } = await setup();
    const { socket } = await tunnelTo(host.path, TARGET);
    socket.write(buildHello([serverName("localhost")]));
    await expect.poll(() => host.dialled.length).toBe(1);
    await host.egress.end("mode.changed");
    await expect.poll(() => there.sockets.size).toBe(0);
    socket.destroy();
  });
});
