import {
  chmodSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import {
  type ControlOptions,
  type ControlSocket,
  listenControl,
  type Outcome,
} from "../../daemon/adapters/ipc.ts";
import { peerOf } from "../../daemon/adapters/peer.ts";
import { claimSocketPath, prepareRuntimeDir } from "../../daemon/adapters/socket-path.ts";
import type { Connection } from "../../daemon/ports.ts";
import { renderFrame } from "../../daemon/protocol/frame.ts";
import type { Request } from "../../daemon/protocol/messages.ts";
import { type RawClient, rawClient } from "../support/raw-client.ts";

const LIMITS = {
  maxConnections: 20,
  maxConnectionsPerUid: 20,
  maxPendingRequests: 4,
  frameTimeoutMs: 200,
};
const quiet = { info: () => undefined, warn: () => undefined, error: () => undefined };

let directory: string;
let path: string;
const sockets: ControlSocket[] = [];
const clients: RawClient[] = [];

beforeEach(() => {
  directory = join(mkdtempSync(join(tmpdir(), "boundary-ipc-")), "run");
  prepareRuntimeDir(directory, 0o755);
  path = join(directory, "control.sock");
});

afterEach(async () => {
  for (const one of clients.splice(0)) one.socket.destroy();
  for (const socket of sockets.splice(0)) await socket.stop();
  rmSync(join(directory, ".."), { recursive: true, force: true });
});

type Handler = (connection: Connection, request: Request, reply: (outcome: Outcome) => void) => void;

const echo: Handler = (_connection, request, reply) =>
  reply({ ok: true, data: { echo: request.params ?? null } });

async function listen(onRequest: Handler = echo, more: Partial<ControlOptions> = {}): Promise<ControlSocket> {
  const place = await claimSocketPath(path, { mode: 0o660, group: null });
  const socket = await listenControl({ place, limits: LIMITS, peerOf, onRequest, log: quiet, ...more });
  sockets.push(socket);
  return socket;
}

async function client(): Promise<RawClient> {
  const made = await rawClient(path);
  clients.push(made);
  return made;
}

async function expectService(): Promise<void> {
  const well = await client();
  well.request("w1", "echo", { n: 1 });
  expect(await well.next()).toMatchObject({
    type: "reply",
    data: { id: "w1", ok: true, data: { echo: { n: 1 } } },
  });
  well.socket.destroy();
  await well.ended;
}

const refusal = (code: string, id = ""): unknown => ({
  kind: "message",
  type: "reply",
  data: { id, ok: false, problem: expect.objectContaining({ code }) },
});

const typed = (type: string): string => JSON.stringify({ type, data: { id: "a", verb: "echo" } });

describe("malformed frames get a typed answer, and the connection goes on", () => {
  const rows: readonly [name: string, bytes: string | Buffer, code: string, id: string][] = [
    ["a number", "5", "request-invalid", ""],
    ["an array", "[1]", "request-invalid", ""],
    ["null", "null", "request-invalid", ""],
    ["no type", '{"data":{}}', "request-invalid", ""],
    ["the type __proto__", typed("__proto__"), "request-invalid", "a"],
    ["the type constructor", typed("constructor"), "request-invalid", "a"],
    ["the type close", typed("close"), "request-invalid", "a"],
    ["the type error", typed("error"), "request-invalid", "a"],
    ["the type data", typed("data"), "request-invalid", "a"],
    ["the type connect", typed("connect"), "request-invalid", "a"],
    ["our internal type", typed("boundary.heard"), "request-invalid", "a"],
    ["data that is null", '{"type":"request","data":null}', "request-invalid", ""],
    ["an empty frame", "", "json-invalid", ""],
    ["not UTF-8", Buffer.from([0x7b, 0xff, 0xfe]), "frame-not-utf8", ""],
    ["deep nesting", `${"[".repeat(30_000)}${"]".repeat(30_000)}`, "json-too-deep", ""],
    ["a key twice", '{"type":"request","type":"request","data":1}', "json-duplicate-key", ""],
    ["half a value", '{"type":"request","data":', "json-invalid", ""],
  ];
  test.each(rows)("%s", async (_name, bytes, code, id) => {
    await listen();
    const bad = await client();
    bad.send(Buffer.concat([Buffer.from(bytes), Buffer.from("\f")]));
    expect(await bad.next()).toEqual(refusal(code, id));
    bad.request("b", "echo");
    expect(await bad.next()).toMatchObject({ data: { id: "b", ok: true } });
    await expectService();
  });
});

describe("what cannot go on is told why, then closed", () => {
  test("a megabyte without a delimiter", async () => {
    await listen();
    const bad = await client();
    bad.send(Buffer.alloc(1_048_576, "x"));
    expect(await bad.next()).toEqual(refusal("frame-too-large"));
    await bad.ended;
    await expectService();
  });

  test("half a frame, then silence", async () => {
    const control = await listen();
    const bad = await client();
    bad.send('{"type":');
    expect(await bad.next()).toEqual(refusal("frame-timeout"));
    await bad.ended;
    await expect.poll(() => control.connections()).toBe(0);
    await expectService();
  });

  test("bytes that trickle in do not push the deadline of their frame back", async () => {
    await listen();
    const bad = await client();
    const trickle = setInterval(() => bad.send("x"), 20);
    expect(await bad.next()).toEqual(refusal("frame-timeout"));
    clearInterval(trickle);
    await bad.ended;
  });

  test("a busy client that always has half a frame under way is not timed out", async () => {
    await listen();
    const busy = await client();
    const frame = renderFrame("request", { id: "a", verb: "echo" });
    busy.send(frame.slice(0, 10));
    for (let turn = 0; turn < 20; turn++) {
      await sleep(25);
      busy.send(frame.slice(10) + frame.slice(0, 10));
      expect(await busy.next()).toMatchObject({ data: { id: "a", ok: true } });
    }
  });

  test("an idle connection is left alone", async () => {
    await listen();
    const idle = await client();
    await sleep(LIMITS.frameTimeoutMs * 2);
    idle.request("a", "echo");
    expect(await idle.next()).toMatchObject({ data: { id: "a", ok: true } });
  });

  test("no credentials, no connection", async () => {
    const control = await listen(echo, { peerOf: () => null });
    const bad = await client();
    expect(await bad.next()).toEqual(refusal("peer-unknown"));
    bad.request("a", "echo");
    await bad.ended;
    expect(control.connections()).toBe(0);
  });

  test("credentials that cannot be read count as none", async () => {
    await listen(echo, {
      peerOf: () => {
        throw new Error("no such call");
      },
    });
    expect(await (await client()).next()).toEqual(refusal("peer-unknown"));
  });
});

describe("limits", () => {
  test("300 connections: 20 are served, the others told why, and afterwards there is room again", async () => {
    const control = await listen();
    const many = await Promise.all(Array.from({ length: 300 }, () => client().catch(() => null)));
    const answers = await Promise.all(
      many.map(async (one, index) => {
        one?.request(`r${index}`, "echo");
        return one?.next().catch(() => "closed");
      }),
    );
    const served = answers.filter(
      (frame) => (frame as { data?: { ok?: boolean } } | undefined)?.data?.ok === true,
    );
    const refused = answers.filter((frame) =>
      JSON.stringify(frame)?.includes('"code":"too-many-connections"'),
    );
    expect(served).toHaveLength(LIMITS.maxConnections);
    expect(refused.length).toBeGreaterThan(50);
    expect(control.connections()).toBe(LIMITS.maxConnections);
    for (const one of many) one?.socket.destroy();
    await Promise.all(many.map((one) => one?.ended ?? Promise.resolve()));
    await expect.poll(() => control.connections()).toBe(0);
    await expectService();
  });

  test("a refused client that writes before it reads still gets to read why", async () => {
    await listen(echo, { limits: { ...LIMITS, maxConnections: 1 } });
    await client();
    const slow = await client();
    slow.socket.pause();
    await sleep(50);
    const error = await new Promise((resolve) => slow.socket.write(renderFrame("request", {}), resolve));
    expect(error ?? null).toBeNull();
    slow.socket.resume();
    expect(await slow.next()).toEqual(refusal("too-many-connections"));
  });

  test("one user's connections end at the user's own limit", async () => {
    await listen(echo, { limits: { ...LIMITS, maxConnectionsPerUid: 2 } });
    const first = [await client(), await client()];
    expect(await (await client()).next()).toEqual(refusal("too-many-connections"));
    first[0]?.socket.destroy();
    await first[0]?.ended;
    await expect
      .poll(async () => {
        const again = await client();
        again.request("a", "echo");
        return JSON.stringify(await again.next());
      })
      .toContain('"ok":true');
  });

  test("requests beyond the limit are refused by their own id; those before are answered", async () => {
    const held: (() => void)[] = [];
    await listen((_connection, _request, reply) => void held.push(() => reply({ ok: true, data: {} })));
    const eager = await client();
    for (let n = 0; n < 6; n++) eager.request(`r${n}`, "echo");
    expect(await eager.next()).toEqual(refusal("too-many-requests", "r4"));
    expect(await eager.next()).toEqual(refusal("too-many-requests", "r5"));
    for (const answer of held.splice(0)) answer();
    for (const id of ["r0", "r1", "r2", "r3"])
      expect(await eager.next()).toMatchObject({ data: { id, ok: true } });
    eager.request("r6", "echo");
    await expect.poll(() => held.length).toBe(1);
  });

  test("a client that never reads is dropped when its events pile up, and hears nobody else's", async () => {
    const subscribed: Connection[] = [];
    const control = await listen((connection, _request, reply) => {
      subscribed.push(connection);
      reply({ ok: true, data: { echo: _request.params ?? null } });
    });
    const deaf = await client();
    deaf.request("s", "subscribe");
    await deaf.next();
    deaf.socket.pause();
    const closed = new Promise<void>((resolve) => subscribed[0]?.onClose(resolve));
    const event = { type: "event", data: { text: "x".repeat(60_000) } };
    let sent = 0;
    for (; sent < 1_000; sent++) if (!subscribed[0]?.send(event)) break;
    expect(sent).toBeLessThan(40);
    await closed;
    expect(subscribed[0]?.send(event)).toBe(false);
    expect(control.connections()).toBe(0);
    await expectService();
  });

  test("a client that dies in the middle of a frame leaves nothing behind", async () => {
    const control = await listen();
    const dying = await client();
    dying.send('{"type":"request","da');
    await expect.poll(() => control.connections()).toBe(1);
    dying.socket.destroy();
    await expect.poll(() => control.connections()).toBe(0);
    await expectService();
  });

  test("a client that dies before its reply does no harm", async () => {
    const late: (() => void)[] = [];
    const control = await listen((_connection, request, reply) => {
      if (request.verb === "late") late.push(() => reply({ ok: true, data: {} }));
      else echo(_connection, request, reply);
    });
    const dying = await client();
    dying.request("a", "late");
    await expect.poll(() => late.length).toBe(1);
    dying.socket.destroy();
    await expect.poll(() => control.connections()).toBe(0);
    late[0]?.();
    await expectService();
  });

  test("a flood of empty frames ends with the sender being dropped", async () => {
    const control = await listen();
    const flood = await client();
    flood.socket.pause();
    for (let n = 0; n < 20; n++) flood.send(Buffer.alloc(65_536, 0x0c));
    await expect.poll(() => control.connections()).toBe(0);
    await expectService();
  });
});

describe("replies", () => {
  test("a handler that throws answers internal, once", async () => {
    await listen((_connection, _request, reply) => {
      if (_request.verb === "echo") return echo(_connection, _request, reply);
      throw new Error("a bug with secrets");
    });
    const one = await client();
    one.request("a", "bug");
    const frame = await one.next();
    expect(frame).toEqual(refusal("internal", "a"));
    expect(JSON.stringify(frame)).not.toContain("secrets");
    await expectService();
  });

  test("the second reply to a request goes nowhere", async () => {
    await listen((_connection, _request, reply) => {
      reply({ ok: true, data: { n: 1 } });
      reply({ ok: true, data: { n: 2 } });
    });
    const one = await client();
    one.request("a", "x");
    one.request("b", "x");
    expect(await one.next()).toMatchObject({ data: { id: "a", data: { n: 1 } } });
    expect(await one.next()).toMatchObject({ data: { id: "b", data: { n: 1 } } });
  });

  test("a reply of 400 KB arrives whole; one that is longer than we send becomes a refusal", async () => {
    await listen((_connection, request, reply) =>
      reply({ ok: true, data: { text: "x".repeat(Number(request.params)) } }),
    );
    const one = await client();
    one.request("a", "x", 400_000);
    expect(JSON.stringify(await one.next()).length).toBeGreaterThan(400_000);
    one.request("b", "x", 600_000);
    expect(await one.next()).toEqual(refusal("reply-too-large", "b"));
  });

  test("text of any language comes back as it was, also when a character is cut in two on its way", async () => {
    await listen();
    const one = await client();
    const text = "Grüße, 世界 👍";
    const frame = Buffer.from(renderFrame("request", { id: "ü", verb: "echo", params: text }));
    for (const byte of frame) {
      one.send(Buffer.of(byte));
      await new Promise(setImmediate);
    }
    expect(await one.next()).toMatchObject({ data: { id: "ü", ok: true, data: { echo: text } } });
  });

  test("requests sent in one write are answered in their order", async () => {
    await listen();
    const one = await client();
    const ids = Array.from({ length: 50 }, (_, n) => `r${n}`);
    one.send(ids.map((id) => renderFrame("request", { id, verb: "echo" })).join(""));
    for (const id of ids) expect(await one.next()).toMatchObject({ data: { id, ok: true } });
  });

  test("the peer is who connected", async () => {
    let peer: Connection["peer"] | null = null;
    await listen((connection, _request, reply) => {
      peer = connection.peer;
      reply({ ok: true, data: {} });
    });
    const one = await client();
    one.request("a", "x");
    await one.next();
    expect(peer).toMatchObject({ pid: process.pid, uid: process.getuid?.(), gid: process.getgid?.() });
  });
});

describe("the socket file", () => {
  const servers: Server[] = [];
  afterEach(() => {
    for (const server of servers.splice(0)) server.close();
  });
  const foreign = (at: string): Promise<Server> =>
    new Promise((resolve) => {
      const server = createServer().listen(at, () => resolve(server));
      servers.push(server);
    });
  const leaveDead = async (): Promise<void> => {
    const server = await foreign(`${path}.x`);
    linkSync(`${path}.x`, path);
    await new Promise((resolve) => server.close(resolve));
  };

  test("it has the mode asked for, and the umask is as before", async () => {
    const umask = process.umask();
    await listen();
    expect(lstatSync(path).mode & 0o7777).toBe(0o660);
    expect(process.umask()).toBe(umask);
  });

  test.skipIf(process.getuid?.() !== 0)("it belongs to the group asked for (needs root)", async () => {
    const place = await claimSocketPath(path, { mode: 0o660, group: 65_534 });
    sockets.push(await listenControl({ place, limits: LIMITS, peerOf, onRequest: echo, log: quiet }));
    expect(lstatSync(path)).toMatchObject({ uid: 0, gid: 65_534 });
  });

  test("a dead socket is replaced", async () => {
    await leaveDead();
    const { ino, birthtimeMs } = lstatSync(path);
    await listen();
    await expectService();
    const there = lstatSync(path);
    expect([there.ino, there.birthtimeMs]).not.toEqual([ino, birthtimeMs]);
  });

  test("a live one is never stolen", async () => {
    await listen();
    await expect(listen()).rejects.toMatchObject({ code: "socket-in-use" });
    await expectService();
  });

  test("of two that start at once, one wins", async () => {
    await leaveDead();
    const settled = await Promise.allSettled([listen(), listen()]);
    expect(settled.map(({ status }) => status).toSorted()).toEqual(["fulfilled", "rejected"]);
    await expectService();
  });

  test.each(["a file", "a link", "a directory"])(
    "%s in its place is refused and left alone",
    async (what) => {
      if (what === "a file") writeFileSync(path, "mine");
      if (what === "a link") symlinkSync(join(directory, "elsewhere"), path);
      if (what === "a directory") mkdirSync(path);
      await expect(listen()).rejects.toMatchObject({ code: "socket-unsafe" });
      expect(lstatSync(path).isSocket()).toBe(false);
    },
  );

  test("stop removes it", async () => {
    const control = await listen();
    await control.stop();
    expect(() => lstatSync(path)).toThrow();
  });

  test("stop leaves a socket that somebody else has put there", async () => {
    const control = await listen();
    await foreign(`${path}.other`);
    renameSync(`${path}.other`, path);
    const { ino } = lstatSync(path);
    await control.stop();
    expect(lstatSync(path).ino).toBe(ino);
  });

  test("stop ends the connections and tells their owners", async () => {
    let closed = 0;
    const control = await listen((connection, _request, reply) => {
      connection.onClose(() => closed++);
      reply({ ok: true, data: {} });
    });
    const one = await client();
    one.request("a", "x");
    await one.next();
    await control.stop();
    await one.ended;
    expect(closed).toBe(1);
  });
});

describe("the runtime directory", () => {
  test("it is made with the mode asked for, and corrected when it is only stricter or looser for reading", () => {
    const made = join(directory, "new");
    prepareRuntimeDir(made, 0o700);
    expect(lstatSync(made).mode & 0o7777).toBe(0o700);
    prepareRuntimeDir(made, 0o755);
    expect(lstatSync(made).mode & 0o7777).toBe(0o755);
  });

  test("one that others may write to is refused", () => {
    const open = join(directory, "open");
    mkdirSync(open);
    for (const mode of [0o775, 0o757, 0o1777]) {
      chmodSync(open, mode);
      expect(() => prepareRuntimeDir(open, 0o755)).toThrow(
        expect.objectContaining({ code: "socket-unsafe" }),
      );
    }
  });

  test("a link or a file in its place is refused", () => {
    symlinkSync(directory, join(directory, "link"));
    writeFileSync(join(directory, "file"), "");
    for (const name of ["link", "file", "missing/below"]) {
      const code = expect.objectContaining({ code: "socket-unsafe" });
      expect(() => prepareRuntimeDir(join(directory, name), 0o755)).toThrow(code);
    }
  });

  test("a socket is not put into a directory that others may write to", async () => {
    chmodSync(directory, 0o777);
    await expect(listen()).rejects.toMatchObject({ code: "socket-unsafe" });
  });
});
