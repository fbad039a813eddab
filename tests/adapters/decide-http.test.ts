import { lstatSync } from "node:fs";
import { createConnection } from "node:net";
import { dirname } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import fc from "fast-check";
import { afterEach, describe, expect, test } from "vitest";
import type { AccessRequest, Evaluation } from "../../daemon/core/access.ts";
import type { DecisionService } from "../../daemon/ports.ts";
import { evaluationOf, fixtureService, TOKEN } from "../support/authzen-fixture.ts";
import { ask, type DecideServer, LIMITS, startDecide } from "../support/decide-server.ts";
import { type RawHttp, rawHttp } from "../support/raw-http.ts";

const servers: DecideServer[] = [];
const clients: RawHttp[] = [];
afterEach(async () => {
  for (const one of clients.splice(0)) one.socket.destroy();
  for (const one of servers.splice(0)) await one.stop();
});

async function serve(...with_: Parameters<typeof startDecide>): Promise<DecideServer> {
  const server = await startDecide(...with_);
  servers.push(server);
  return server;
}

async function raw(path: string, allowHalfOpen = false): Promise<RawHttp> {
  const client = await rawHttp(path, allowHalfOpen);
  clients.push(client);
  return client;
}

const QUESTION = JSON.stringify({
  subject: { type: "user", id: "alice" },
  action: { name: "read" },
  resource: { type: "record", id: "record-1" },
});
const PATH = "/access/v1/evaluation";
const head = (...lines: readonly string[]) =>
  [`POST ${PATH} HTTP/1.1`, "Host: localhost", `Authorization: Bearer ${TOKEN}`, ...lines, "", ""].join(
    "\r\n",
  );
const whole = (body = QUESTION, ...lines: readonly string[]) =>
  head("Content-Type: application/json", `Content-Length: ${Buffer.byteLength(body)}`, ...lines) + body;

async function expectService({ path }: DecideServer): Promise<void> {
  const reply = await ask(path, PATH, QUESTION);
  expect([reply.status, reply.json.decision]).toEqual([200, true]);
}

/** A service whose answers wait until they are let go. */
function heldService(): { readonly service: DecisionService; readonly waiting: (() => void)[] } {
  const waiting: (() => void)[] = [];
  const evaluate = () =>
    new Promise<Evaluation>((resolve) => {
      waiting.push(() => resolve(evaluationOf(true)));
    });
  return { service: fixtureService({ evaluator: { evaluate } }), waiting };
}

describe("the socket", () => {
  test("is for everybody to connect to, in a directory that is not to be written", async () => {
    const { path } = await serve();
    expect(lstatSync(path).mode & 0o7777).toBe(0o666);
    expect(lstatSync(dirname(path)).mode & 0o7777).toBe(0o755);
  });

  test("asks the kernel once a connection, and hands that on", async () => {
    const callers: object[] = [];
    let looked = 0;
    const service = fixtureService({
      evaluator: {
        evaluate: async (caller) => {
          callers.push(caller);
          return evaluationOf(true);
        },
      },
    });
    const peer = { pid: 7, uid: 1_234, gid: 5, groups: [5, 6] };
    const { path } = await serve(service, {
      peerOf: () => {
        looked++;
        return peer;
      },
    });
    const client = await raw(path);
    client.send(whole() + whole());
    await expect.poll(() => client.statuses()).toEqual([200, 200]);
    expect(looked).toBe(1);
    expect(callers).toEqual([
      { ...peer, token: "token-1" },
      { ...peer, token: "token-1" },
    ]);
  });

  test.each([
    ["knows nobody", () => null],
    [
      "cannot be asked",
      () => {
        throw new Error("no such call");
      },
    ],
  ])("a peer the kernel %s is refused", async (_what, peerOf) => {
    const { path, socket } = await serve(fixtureService(), { peerOf });
    expect(await (await raw(path)).ended).toMatch(/^HTTP\/1\.1 403 [\s\S]*"code":"peer-unknown"/);
    expect(socket.connections()).toBe(0);
  });

  test("a live one is never stolen", async () => {
    const { path } = await serve();
    const { claimSocketPath } = await import("../../daemon/adapters/socket-path.ts");
    await expect(claimSocketPath(path, { mode: 0o666, group: null })).rejects.toMatchObject({
      code: "socket-in-use",
    });
  });
});

describe("requests that are not HTTP as it should be get a typed answer", () => {
  const small = "Content-Length: 2";
  const json = "Content-Type: application/json";
  const rows: readonly [what: string, bytes: string, status: number, code: string][] = [
    ["no HTTP", "hello\r\n\r\n", 400, "http-invalid"],
    ["TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "http-invalid"],
    [
      "both length and chunks",
      `${head(json, small, "Transfer-Encoding: chunked")}0\r\n\r\n`,
      400,
      "http-invalid",
    ],
    ["chunks and length", `${head(json, "Transfer-Encoding: chunked", small)}0\r\n\r\n`, 400, "http-invalid"],
    ["two lengths", `${head(json, small, "Content-Length: 3")}{}`, 400, "http-invalid"],
    ["two equal lengths", `${head(json, small, small)}{}`, 400, "http-invalid"],
    ["a negative length", `${head(json, "Content-Length: -1")}{}`, 400, "http-invalid"],
    ["a length that is no number", `${head(json, "Content-Length: 0x2")}{}`, 400, "http-invalid"],
    ["a length with a sign", `${head(json, "Content-Length: +2")}{}`, 400, "http-invalid"],
    ["a coding nobody knows", `${head(json, "Transfer-Encoding: xchunked")}{}`, 400, "http-invalid"],
    [
      "chunked twice",
      `${head(json, "Transfer-Encoding: chunked", "Transfer-Encoding: chunked")}0\r\n\r\n`,
      400,
      "http-invalid",
    ],
    [
      "a chunk whose size is no number",
      `${head(json, "Transfer-Encoding: chunked")}zz\r\n`,
      400,
      "http-invalid",
    ],
    ["a space before the colon", `${head(json, "Content-Length : 2")}{}`, 400, "http-invalid"],
    ["a folded header", `${head(json, "X-A: b\r\n c: d", small)}{}`, 400, "http-invalid"],
    ["a bare line feed", `${head(json, small).replaceAll("\r\n", "\n")}{}`, 400, "http-invalid"],
    ["a bare carriage return in a header", `${head(json, small, "X-A: b\rc")}{}`, 400, "http-invalid"],
    ["a NUL in a header", `${head(json, small, "X-A: b\0c")}{}`, 400, "http-invalid"],
    ["two tokens", whole(QUESTION, "Authorization: Bearer bd_x"), 400, "http-invalid"],
    ["two media types", whole(QUESTION, "Content-Type: text/plain"), 400, "http-invalid"],
    ["two request ids", whole(QUESTION, "X-Request-ID: a", "X-Request-ID: b"), 400, "http-invalid"],
    ["no host", whole().replace("Host: localhost\r\n", ""), 400, "http-invalid"],
    ["two hosts", whole(QUESTION, "Host: other"), 400, "http-invalid"],
    ["an empty request id", whole(QUESTION, "X-Request-ID: "), 400, "http-invalid"],
    ["a long request id", whole(QUESTION, `X-Request-ID: ${"x".repeat(201)}`), 400, "http-invalid"],
    ["a request id that is not ASCII", whole(QUESTION, "X-Request-ID: \xe4"), 400, "http-invalid"],
    ["a header that is too long", whole(QUESTION, `X-Long: ${"x".repeat(9_000)}`), 431, "headers-too-large"],
    [
      "too many headers",
      whole(QUESTION, ...Array.from({ length: 70 }, (_, n) => `X-${n}: y`)),
      431,
      "headers-too-large",
    ],
    ["CONNECT", "CONNECT other:80 HTTP/1.1\r\nHost: other\r\n\r\n", 405, "method-unknown"],
    ["a length above the limit", head(json, "Content-Length: 65537"), 413, "body-too-large"],
    ["an impossible length", head(json, "Content-Length: 99999999999999999999"), 400, "http-invalid"],
  ];
  test.each(rows)("%s", async (_what, bytes, status, code) => {
    const server = await serve();
    const client = await raw(server.path);
    client.send(Buffer.from(bytes, "latin1"));
    await expect.poll(() => client.text(), { timeout: 3_000 }).toMatch(/\}$/);
    expect(client.statuses()).toEqual([status]);
    expect(client.text()).toContain(`"code":"${code}"`);
    expect(client.text()).toMatch(/content-type: application\/problem\+json/i);
    await expectService(server);
  });

  test("what follows a request that is not one is not read as one", async () => {
    const service = fixtureService();
    const { path } = await serve(service);
    const client = await raw(path);
    client.send(
      `${head("Content-Type: application/json", "Content-Length: 5", "Transfer-Encoding: chunked")}0\r\n\r\n${whole()}`,
    );
    await client.ended;
    expect(client.statuses()).toEqual([400]);
    expect(service.asked).toEqual([]);
  });

  test.each([
    ["100-continue", [100, 200]],
    ["something else", [200]],
  ])("Expect: %s", async (expected, statuses) => {
    const { path } = await serve();
    const client = await raw(path);
    client.send(whole(QUESTION, `Expect: ${expected}`));
    await expect.poll(() => client.statuses()).toEqual(statuses);
  });

  test("HEAD for the metadata: its headers alone", async () => {
    const { path } = await serve();
    const reply = await ask(path, "/.well-known/authzen-configuration", undefined, { method: "HEAD" });
    expect([reply.status, reply.text]).toEqual([200, ""]);
    expect(Number(reply.headers["content-length"])).toBeGreaterThan(100);
  });

  test("an upgrade is not made, and the request is a request", async () => {
    const { path } = await serve();
    const client = await raw(path);
    client.send(whole(QUESTION, "Upgrade: websocket", "Connection: Upgrade"));
    await expect.poll(() => client.statuses()).toEqual([200]);
  });

  test("what is more than its length says is the next request, and is judged alone", async () => {
    const service = fixtureService();
    const { path } = await serve(service);
    const client = await raw(path);
    client.send(`${whole()}GARBAGE\r\n\r\n`);
    const text = await client.ended;
    expect(client.statuses()).toEqual([200, 400]);
    expect(text).toContain('"decision":true');
    expect(service.asked).toHaveLength(1);
  });

  test("a body that is shorter than its length is not asked, and is told so", async () => {
    const service = fixtureService();
    const server = await serve(service);
    const client = await raw(server.path);
    client.send(
      head(
        "Content-Type: application/json",
        `Content-Length: ${QUESTION.length + 1}`,
        "X-Request-ID: short",
      ) + QUESTION,
    );
    const text = await client.ended;
    client.send("}");
    expect(text).toMatch(/^HTTP\/1\.1 408 [\s\S]*X-Request-ID: short[\s\S]*"code":"request-timeout"/);
    expect(service.asked).toEqual([]);
    await expectService(server);
  });

  test("whatever bytes come, the next caller is served", async () => {
    const service = fixtureService();
    const server = await serve(service);
    const lines = fc.constantFrom(
      head("Content-Type: application/json"),
      whole(),
      whole("{"),
      "Transfer-Encoding: chunked\r\n",
      "Content-Length: 4\r\n",
      "\r\n",
      "0\r\n\r\n",
      "GET /.well-known/authzen-configuration HTTP/1.1\r\nHost: a\r\n\r\n",
      "\0",
    );
    const noise = fc.oneof(lines, fc.string({ unit: "binary", maxLength: 40 }));
    await fc.assert(
      fc.asyncProperty(fc.array(noise, { minLength: 1, maxLength: 5 }), async (parts) => {
        const client = await rawHttp(server.path, true);
        client.send(Buffer.from(parts.join(""), "latin1"));
        client.socket.end();
        const text = await client.ended;
        for (const status of client.statuses())
          expect([200, 400, 401, 404, 405, 408, 413, 415, 429, 431, 503]).toContain(status);
        expect(text).not.toContain("at file:");
      }),
      { numRuns: 150 },
    );
    await expectService(server);
    await expect.poll(() => server.socket.connections()).toBe(0);
  });
});

describe("bodies", () => {
  test("64 KiB is read, a byte more is not, in whatever pieces it comes", async () => {
    const { path } = await serve();
    const padded = (size: number) => QUESTION + " ".repeat(size - QUESTION.length);
    expect((await ask(path, PATH, padded(65_536))).status).toBe(200);
    expect((await ask(path, PATH, padded(65_537))).json.code).toBe("body-too-large");
    const chunked = { "Transfer-Encoding": "chunked" };
    expect((await ask(path, PATH, padded(65_536), { headers: chunked })).status).toBe(200);
    expect((await ask(path, PATH, padded(65_537), { headers: chunked })).status).toBe(413);
  });

  test("chunks that never end are ended", async () => {
    const server = await serve();
    const client = await raw(server.path);
    client.send(head("Content-Type: application/json", "Transfer-Encoding: chunked"));
    const piece = `1000\r\n${" ".repeat(4_096)}\r\n`;
    for (let n = 0; n < 20; n++) client.send(piece);
    expect(await client.ended).toMatch(/^HTTP\/1\.1 413 /);
    await expectService(server);
  });

  test("one byte at a time is as good, in time", async () => {
    const { path } = await serve(fixtureService(), { limits: { ...LIMITS, frameTimeoutMs: 10_000 } });
    const client = await raw(path);
    for (const byte of whole()) client.send(byte);
    await expect.poll(() => client.statuses()).toEqual([200]);
  });
});

describe("slow and silent peers", () => {
  test.each([
    ["nothing", ""],
    ["half a head", "POST /access/v1/evaluation HTTP/1.1\r\nHost: a\r\n"],
    ["half a body", `${head("Content-Type: application/json", "Content-Length: 10")}{`],
  ])("%s, then silence: told, and ended", async (_what, bytes) => {
    const server = await serve();
    const client = await raw(server.path);
    if (bytes !== "") client.send(bytes);
    expect(await client.ended).toMatch(/^HTTP\/1\.1 408 [\s\S]*"code":"request-timeout"/);
    await expect.poll(() => server.socket.connections()).toBe(0);
  });

  test("bytes that trickle in do not push the deadline back", async () => {
    const server = await serve();
    const client = await raw(server.path);
    client.send(head("Content-Type: application/json", "Content-Length: 9999"));
    const trickle = setInterval(() => client.send(" "), 20);
    expect(await client.ended).toMatch(/^HTTP\/1\.1 408 /);
    clearInterval(trickle);
    await expectService(server);
  });

  test("after a whole request the time of the next one has not begun; idle too long is ended", async () => {
    const server = await serve(fixtureService(), { idleMs: 1_200 });
    const client = await raw(server.path);
    client.send(whole());
    await sleep(LIMITS.frameTimeoutMs * 2);
    client.send(whole());
    await expect.poll(() => client.statuses()).toEqual([200, 200]);
    await client.ended;
    await expect.poll(() => server.socket.connections()).toBe(0);
  });

  test("half-open: who has said everything and closed his side is answered all the same", async () => {
    const server = await serve();
    const client = await raw(server.path, true);
    client.send(whole());
    client.socket.end();
    expect(await client.ended).toContain('"decision":true');
    const cut = await raw(server.path, true);
    cut.send(whole().slice(0, -1));
    cut.socket.end();
    await cut.ended;
    await expect.poll(() => server.socket.connections()).toBe(0);
  });

  test("who asks and never reads is dropped", async () => {
    const long = "x".repeat(60_000);
    const evaluate = async () => evaluationOf(false, { wouldAllow: long });
    const server = await serve(fixtureService({ evaluator: { evaluate } }), {
      limits: { ...LIMITS, maxPendingRequests: 1_000 },
    });
    const deaf = createConnection(server.path);
    deaf.on("error", () => undefined);
    deaf.pause();
    for (let n = 0; n < 300; n++) deaf.write(whole());
    await expect.poll(() => server.socket.connections()).toBe(1);
    await expect.poll(() => server.socket.connections(), { timeout: 5_000 }).toBe(0);
    deaf.destroy();
    expect((await ask(server.path, PATH, QUESTION)).status).toBe(200);
  });
});

describe("limits", () => {
  test("300 connections: those within the limit are served, the others told, and then there is room again", async () => {
    const server = await serve(fixtureService(), { limits: { ...LIMITS, frameTimeoutMs: 5_000 } });
    const many = await Promise.all(Array.from({ length: 300 }, () => raw(server.path).catch(() => null)));
    const served = many.slice(0, LIMITS.maxConnections);
    for (const one of served) one?.send(whole());
    for (const one of served) await expect.poll(() => one?.statuses()).toEqual([200]);
    for (const one of many.slice(LIMITS.maxConnections)) {
      expect(await one?.ended).toMatch(
        /^HTTP\/1\.1 503 [\s\S]*Retry-After: 1[\s\S]*"code":"too-many-connections"|^$/,
      );
    }
    expect(server.socket.connections()).toBe(LIMITS.maxConnections);
    for (const one of many) one?.socket.destroy();
    await expect.poll(() => server.socket.connections()).toBe(0);
    await expectService(server);
  });

  test("one user's connections end at his own limit; another user's do not", async () => {
    let uid = 1;
    const server = await serve(fixtureService(), {
      limits: { ...LIMITS, maxConnectionsPerUid: 2 },
      peerOf: () => ({ pid: 1, uid, gid: 1, groups: [1] }),
    });
    const held = [await raw(server.path), await raw(server.path)];
    await expect.poll(() => server.socket.connections()).toBe(2);
    expect(await (await raw(server.path)).ended).toContain('"code":"too-many-connections"');
    uid = 2;
    await expectService(server);
    expect(held).toHaveLength(2);
  });

  test("requests of one connection beyond the limit are 429, in their place, and it ends there", async () => {
    const { service, waiting } = heldService();
    const { path } = await serve(service);
    const eager = await raw(path);
    eager.send(whole().repeat(LIMITS.maxPendingRequests + 1));
    await expect.poll(() => waiting.length).toBe(LIMITS.maxPendingRequests);
    for (const answer of waiting) answer();
    const text = await eager.ended;
    expect(eager.statuses()).toEqual([...Array(LIMITS.maxPendingRequests).fill(200), 429]);
    expect(text).toMatch(/Retry-After: 1[\s\S]*"code":"too-many-requests"/);
  });

  test("pipelined answers come in the order of their questions, whatever is ready first", async () => {
    const { service, waiting } = heldService();
    const { path } = await serve(service);
    const client = await raw(path);
    for (const id of ["first", "second", "third"]) client.send(whole(QUESTION, `X-Request-ID: ${id}`));
    await expect.poll(() => waiting.length).toBe(3);
    for (const answer of waiting.toReversed()) answer();
    await expect.poll(() => client.statuses()).toEqual([200, 200, 200]);
    expect([...client.text().matchAll(/X-Request-ID: (\w+)/g)].map((hit) => hit[1])).toEqual([
      "first",
      "second",
      "third",
    ]);
  });
});

describe("the end", () => {
  test("takes the socket away, answers what is under way, and does not wait for the idle", async () => {
    const { service, waiting } = heldService();
    const server = await serve(service);
    const busy = await raw(server.path);
    const idle = await raw(server.path);
    busy.send(whole());
    await expect.poll(() => waiting.length).toBe(1);
    const stopped = server.socket.stop();
    expect(() => lstatSync(server.path)).toThrow("ENOENT");
    await idle.ended;
    for (const answer of waiting) answer();
    const text = await busy.ended;
    expect(text).toMatch(/^HTTP\/1\.1 200 [\s\S]*Connection: close[\s\S]*"decision":true/);
    await stopped;
  });

  test("an answer that cannot be written ends its connection, and nothing else", async () => {
    const evaluate = async (_caller: unknown, { resource }: AccessRequest) =>
      evaluationOf(true, resource.id === "bad" ? { correlationId: 1n as unknown as string } : {});
    const server = await serve(fixtureService({ evaluator: { evaluate } }));
    const client = await raw(server.path);
    client.send(whole(QUESTION.replace("record-1", "bad")));
    expect(await client.ended).toBe("");
    await expectService(server);
  });

  test("does not wait for an answer that does not come", async () => {
    const { service, waiting } = heldService();
    const server = await serve(service);
    const busy = await raw(server.path);
    busy.send(whole());
    await expect.poll(() => waiting.length).toBe(1);
    await server.socket.stop();
    expect(await busy.ended).toBe("");
    waiting[0]?.(); // does no harm
    await sleep(10);
  });

  test("a caller who has gone before his answer does no harm", async () => {
    const { service, waiting } = heldService();
    const server = await serve(service);
    const gone = await raw(server.path);
    gone.send(whole());
    await expect.poll(() => waiting.length).toBe(1);
    gone.socket.destroy();
    await expect.poll(() => server.socket.connections()).toBe(0);
    waiting[0]?.();
    const next = ask(server.path, PATH, QUESTION);
    await expect.poll(() => waiting.length).toBe(2);
    waiting[1]?.();
    expect((await next).status).toBe(200);
  });
});
