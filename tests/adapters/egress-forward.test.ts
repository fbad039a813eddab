import { once } from "node:events";
import type { IncomingMessage, ServerResponse } from "node:http";
import { request } from "node:http";
import { createServer } from "node:net";
import { text } from "node:stream/consumers";
import fc from "fast-check";
import { afterEach, describe, expect, test } from "vitest";
import {
  type EgressTest,
  type EgressTestOptions,
  type Origin,
  originOf,
  startEgress,
  startOrigin,
  tellRaw,
} from "../support/egress-proxy.ts";
import { rawHttp } from "../support/raw-http.ts";

const stops: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const stop of stops.splice(0).toReversed()) await stop();
});

async function proxy(options: EgressTestOptions = {}): Promise<EgressTest> {
  const one = await startEgress(options);
  stops.push(one.stop);
  return one;
}

async function origin(handle: Parameters<typeof startOrigin>[0]): Promise<Origin> {
  const one = await startOrigin(handle);
  stops.push(one.stop);
  return one;
}

type Heard = {
  readonly method: string;
  readonly url: string;
  readonly headers: string[];
  readonly body: string;
};

/** An origin that keeps what it hears, and a proxy before it. */
async function echoing(options: EgressTestOptions = {}) {
  const heard: Heard[] = [];
  const answer = async (incoming: IncomingMessage, response: ServerResponse): Promise<void> => {
    const body = await text(incoming).catch(() => "broken off");
    heard.push({
      method: incoming.method ?? "",
      url: incoming.url ?? "",
      headers: incoming.rawHeaders,
      body,
    });
    response.writeHead(200, {
      "X-Origin": "yes",
      "Keep-Alive": "timeout=9",
      Connection: "X-Hop",
      "X-Hop": "1",
    });
    response.end(`heard ${body.length}`);
  };
  const there = await origin((incoming, response) => void answer(incoming, response));
  return { heard, there, host: await proxy({ portAt: () => there.port, ...options }) };
}

const GET = "GET http://example.com/a?b HTTP/1.1\r\nHost: example.com\r\n";

describe("a request of plain HTTP", () => {
  test("goes to the host, and its answer comes back", async () => {
    const { host, heard } = await echoing();
    const { told } = await tellRaw(host.path, `${GET}X-Mine: 1\r\nConnection: close\r\n\r\n`);
    expect(told).toMatch(/^HTTP\/1\.1 200 OK\r\n[\s\S]*X-Origin: yes[\s\S]*heard 0/);
    expect(heard[0]).toMatchObject({ method: "GET", url: "/a?b", body: "" });
    expect(host.records[0]).toMatchObject({
      kind: "egress.opened",
      data: { way: "http", host: "example.com", port: 80, addresses: ["93.184.216.34"], decision: 5 },
    });
    await host.egress.end("done");
    expect(host.records[1]).toMatchObject({ kind: "egress.closed", data: { connections: 1, why: "done" } });
    expect(Number(host.records[1]?.data["sent"])).toBeGreaterThan(20);
    expect(Number(host.records[1]?.data["received"])).toBeGreaterThan(6);
  });

  test("carries nothing that is of the connection, or said to the proxy", async () => {
    const { host, heard } = await echoing();
    const mine =
      "Proxy-Authorization: Basic x\r\nProxy-Connection: keep-alive\r\nKeep-Alive: 1\r\nTE: trailers\r\n" +
      "Upgrade: websocket\r\nConnection: close, X-Secret\r\nX-Secret: 1\r\nTrailer: X\r\nAccept: */*\r\n";
    const { told } = await tellRaw(host.path, `${GET}${mine}\r\n`);
    expect(heard[0]?.headers).toEqual(["Host", "example.com", "Accept", "*/*", "Connection", "close"]);
    expect(told).not.toMatch(/x-hop|timeout=9/i);
  });

  test.each([
    ["of a length", "Content-Length: 5\r\n\r\nhello", "hello"],
    ["in chunks", "Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n", "hello"],
    ["of nothing", "Content-Length: 0\r\n\r\n", ""],
  ])("with a body %s", async (_what, rest, body) => {
    const { host, heard } = await echoing();
    await tellRaw(
      host.path,
      `POST http://example.com/ HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n${rest}`,
    );
    expect(heard).toMatchObject([{ method: "POST", body }]);
  });

  test.each([
    ["HEAD", 200, "5"],
    ["GET", 304, null],
    ["GET", 204, null],
  ])(
    "whose answer has no body, %s %d, is whole, and the next one comes behind it",
    async (method, code, length) => {
      const there = await origin((_incoming, response) => {
        response.writeHead(code, length === null ? {} : { "Content-Length": length });
        response.end();
      });
      const host = await proxy({ portAt: () => there.port });
      const one = GET.replace("GET", method);
      const { told } = await tellRaw(host.path, `${one}\r\n${one}Connection: close\r\n\r\n`);
      expect([...told.matchAll(/HTTP\/1\.1 (\d+) /g)].map((hit) => Number(hit[1]))).toEqual([code, code]);
      if (length !== null) expect(told).toMatch(/Content-Length: 5/i);
    },
  );

  test("that waits to be asked for its body is asked by the proxy, and the host is not", async () => {
    const { host, heard } = await echoing();
    const client = await rawHttp(host.path);
    const head =
      "POST http://example.com/ HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\nContent-Length: 5\r\n";
    client.send(`${head}Expect: 100-continue\r\n\r\n`);
    await expect.poll(() => client.text()).toMatch(/^HTTP\/1\.1 100 /);
    client.send("hello");
    expect(await client.ended).toMatch(/HTTP\/1\.1 200 /);
    expect(heard).toMatchObject([{ body: "hello" }]);
    expect(heard[0]?.headers.join()).not.toMatch(/expect/i);
  });

  test("each of several over one connection is decided by itself", async () => {
    const { host, heard } = await echoing({ allow: ["example.com"] });
    const other = "GET http://other.example/ HTTP/1.1\r\nHost: other.example\r\n\r\n";
    const { told } = await tellRaw(host.path, `${GET}\r\n${GET}\r\n${other}`);
    expect([...told.matchAll(/HTTP\/1\.1 (\d+)/g)].map((hit) => hit[1])).toEqual(["200", "200", "403"]);
    expect(heard.map(({ url }) => url)).toEqual(["/a?b", "/a?b"]);
    expect(host.asked).toEqual(["example.com:80", "example.com:80"]);
    expect(host.kinds().toSorted()).toEqual(["egress.opened", "egress.refused egress-denied"]);
  });

  test("of many megabytes goes through both ways, no faster than it is taken", async () => {
    const size = 24 * 1_048_576;
    const there = await origin((incoming, response) => incoming.pipe(response));
    const host = await proxy({ portAt: () => there.port });
    const outgoing = request({
      socketPath: host.path,
      method: "PUT",
      path: "http://example.com/",
      headers: { Host: "example.com", "Content-Length": size },
    });
    const piece = Buffer.alloc(65_536, 7);
    let sent = 0;
    const more = (): void => {
      while (sent < size) {
        sent += piece.length;
        if (!outgoing.write(piece)) return;
      }
      outgoing.end();
    };
    outgoing.on("drain", more);
    more();
    const [incoming] = (await once(outgoing, "response")) as [IncomingMessage];
    // while nobody reads, it stands still: what waits is a little in each buffer
    await new Promise((resolve) => setTimeout(resolve, 300));
    const stood = sent;
    expect(stood).toBeLessThan(size);
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect(sent).toBe(stood);
    let received = 0;
    for await (const chunk of incoming) received += (chunk as Buffer).length;
    expect(received).toBe(size);
  });
});

describe("refused, and nobody is connected to:", () => {
  const head = (target: string, ...lines: readonly string[]) =>
    [`GET ${target} HTTP/1.1`, ...lines, "", ""].join("\r\n");
  const post = (...lines: readonly string[]) =>
    ["POST http://example.com/ HTTP/1.1", "Host: example.com", ...lines].join("\r\n");
  const connect = (target: string, ...lines: readonly string[]) =>
    [`CONNECT ${target} HTTP/1.1`, ...lines, "", ""].join("\r\n");
  const smuggled = "0\r\n\r\nGET http://example.com/admin HTTP/1.1\r\nHost: example.com\r\n\r\n";

  test.each([
    // whom it is for
    ["a host on no list", 403, head("http://other.example/", "Host: other.example")],
    ["a port on no list", 403, head("http://example.com:8080/", "Host: example.com:8080")],
    ["an address", 403, head("http://93.184.216.34/", "Host: 93.184.216.34")],
    ["metadata", 403, head("http://169.254.169.254/latest", "Host: 169.254.169.254")],
    ["loopback", 403, head("http://127.0.0.1/", "Host: 127.0.0.1")],
    ["a number for an address", 400, head("http://2130706433/", "Host: 2130706433")],
    ["an address cut short", 400, head("http://127.1/", "Host: 127.1")],
    ["another Host", 400, head("http://example.com/", "Host: other.example")],
    ["another port in Host", 400, head("http://example.com/", "Host: example.com:81")],
    ["no Host", 400, head("http://example.com/")],
    ["an empty Host", 400, head("http://example.com/", "Host:")],
    ["two Hosts", 400, head("http://example.com/", "Host: example.com", "Host: other.example")],
    ["a path without a host", 400, head("/", "Host: example.com")],
    ["a name and password", 400, head("http://u:p@example.com/", "Host: example.com")],
    ["a host behind a sign", 400, head("http://example.com@other.example/", "Host: other.example")],
    ["a backslash", 400, head("http://example.com\\@other.example/", "Host: example.com")],
    ["https in clear", 400, head("https://example.com/", "Host: example.com")],
    ["another scheme", 400, head("ftp://example.com/", "Host: example.com")],
    ["an asterisk", 400, head("*", "Host: example.com")],
    // CONNECT
    ["CONNECT to a host on no list", 403, connect("other.example:443", "Host: other.example:443")],
    ["CONNECT to a port on no list", 403, connect("example.com:22", "Host: example.com:22")],
    ["CONNECT to a subdomain", 403, connect("www.example.com:443", "Host: www.example.com:443")],
    ["CONNECT to an address", 403, connect("93.184.216.34:443", "Host: 93.184.216.34:443")],
    ["CONNECT to metadata", 403, connect("169.254.169.254:80", "Host: 169.254.169.254:80")],
    ["CONNECT to loopback", 403, connect("[::1]:443", "Host: [::1]:443")],
    ["CONNECT without a port", 400, connect("example.com", "Host: example.com")],
    ["CONNECT with another Host", 400, connect("example.com:443", "Host: other.example:443")],
    ["CONNECT with a URL", 400, connect("http://example.com:443/", "Host: example.com")],
    ["CONNECT with a length", 400, connect("example.com:443", "Host: example.com:443", "Content-Length: 5")],
    [
      "CONNECT in chunks",
      400,
      connect("example.com:443", "Host: example.com:443", "Transfer-Encoding: chunked"),
    ],
    // what two readers could read as two requests
    ["a length and chunks", 400, post("Content-Length: 6", "Transfer-Encoding: chunked", "", smuggled)],
    ["chunks and a length", 400, post("Transfer-Encoding: chunked", "Content-Length: 6", "", smuggled)],
    ["two lengths", 400, post("Content-Length: 5", "Content-Length: 6", "", "hello!")],
    ["the same length twice", 400, post("Content-Length: 5", "Content-Length: 5", "", "hello")],
    ["lengths in a list", 400, post("Content-Length: 5, 5", "", "hello")],
    ["a length with a sign", 400, post("Content-Length: +5", "", "hello")],
    ["a length in hex", 400, post("Content-Length: 0x5", "", "hello")],
    ["a negative length", 400, post("Content-Length: -5", "", "hello")],
    ["two codings", 400, post("Transfer-Encoding: chunked", "Transfer-Encoding: identity", "", smuggled)],
    ["a coding before chunks", 400, post("Transfer-Encoding: gzip, chunked", "", smuggled)],
    ["a coding behind chunks", 400, post("Transfer-Encoding: chunked, identity", "", smuggled)],
    ["an unknown coding", 400, post("Transfer-Encoding: xchunked", "", smuggled)],
    ["a blank before the colon", 400, post("Transfer-Encoding : chunked", "", smuggled)],
    ["a folded header", 400, post("X: 1", " Transfer-Encoding: chunked", "", smuggled)],
    ["a bare carriage return", 400, post("X: 1\rTransfer-Encoding: chunked", "", smuggled)],
    ["a zero byte in a header", 400, post("X: a\u0000b", "", "")],
    ["a blank in a header's name", 400, post("X Y: 1", "", "")],
    ["HTTP/0.9", 400, "GET http://example.com/\r\n\r\n"],
    ["HTTP/2.0", 400, "GET http://example.com/ HTTP/2.0\r\nHost: example.com\r\n\r\n"],
    ["HTTP/2 in its own form", 400, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"],
    ["TLS to the proxy", 400, "\u0016\u0003\u0001\u0000\u0005hello"],
    // too much of it
    [
      "65 headers",
      431,
      head("http://example.com/", "Host: example.com", ...Array.from({ length: 64 }, (_, n) => `X${n}: 1`)),
    ],
    ["9 KiB of headers", 431, head("http://example.com/", "Host: example.com", `X: ${"a".repeat(9_000)}`)],
    ["a flood of headers", 431, head("http://example.com/", "Host: example.com", `X: ${"a".repeat(40_000)}`)],
    ["a flood of a target", 431, head(`http://example.com/${"a".repeat(40_000)}`, "Host: example.com")],
    [
      "CONNECT with 65 headers",
      431,
      connect(
        "example.com:443",
        "Host: example.com:443",
        ...Array.from({ length: 64 }, (_, n) => `X${n}: 1`),
      ),
    ],
  ])("%s: %d", async (_what, status, bytes) => {
    const host = await proxy({ limits: { headMs: 500 } });
    const { told } = await tellRaw(host.path, bytes);
    expect(told.slice(0, 12)).toBe(`HTTP/1.1 ${status}`);
    expect(told.match(/HTTP\/1\.1 \d{3} /g)).toHaveLength(1);
    expect(host.dialled).toEqual([]);
    expect(host.kinds().filter((kind) => !kind.startsWith("egress.refused"))).toEqual([]);
    expect(host.kinds().length).toBeGreaterThan(0);
  });

  test.each([
    ["private", ["10.0.0.1"]],
    ["loopback beside a public one", ["93.184.216.34", "127.0.0.1"]],
    ["metadata in IPv6", ["fd00:ec2::254"]],
    ["loopback in IPv6", ["::ffff:127.0.0.1"]],
  ])("a name that comes to an address that is %s", async (_what, addresses) => {
    const host = await proxy({ resolve: async () => addresses });
    const { told } = await tellRaw(host.path, `${GET}\r\n`);
    expect(told).toMatch(/^HTTP\/1\.1 403 [\s\S]*egress-address/);
    expect(host.dialled).toEqual([]);
  });

  test("a name whose answer changes: each connection goes to what was judged for it, and never twice looked up", async () => {
    const answers = [["93.184.216.34"], ["127.0.0.1"], ["93.184.216.35"]];
    let lookedUp = 0;
    const { host } = await echoing({
      resolve: async () => {
        lookedUp += 1;
        return answers.shift() ?? [];
      },
    });
    const { told } = await tellRaw(host.path, `${GET}\r\n${GET}Connection: close\r\n\r\n`);
    expect([...told.matchAll(/HTTP\/1\.1 (\d+)/g)].map((hit) => hit[1])).toEqual(["200", "403"]);
    await tellRaw(host.path, `${GET}Connection: close\r\n\r\n`);
    expect(lookedUp).toBe(3);
    expect(host.dialled.map(({ addresses }) => addresses)).toEqual([["93.184.216.34"], ["93.184.216.35"]]);
  });

  test("what policy denies", async () => {
    const host = await proxy({ policy: async () => ({ allow: false, why: "network.agent", seq: 3 }) });
    const { told } = await tellRaw(host.path, `${GET}\r\n`);
    expect(told).toMatch(/^HTTP\/1\.1 403 [\s\S]*network\.agent/);
  });
});

describe("a client, or a host, that means harm", () => {
  test("half a head, and silence: told, and ended", async () => {
    const host = await proxy({ limits: { headMs: 300 } });
    const { told } = await tellRaw(host.path, "GET http://example.com/ HTTP/1.1\r\nHost: exa");
    expect(told).toMatch(/^HTTP\/1\.1 408 /);
  });

  test("a connection on which nothing is said is ended, and that is no refusal", async () => {
    const host = await proxy({ limits: { headMs: 300 } });
    expect((await tellRaw(host.path, "")).told).toBe("");
    expect(host.records).toEqual([]);
  });

  test("a head that trickles in does not push its deadline back", async () => {
    const host = await proxy({ limits: { headMs: 300 } });
    const client = await rawHttp(host.path);
    const begun = performance.now();
    const timer = setInterval(() => client.send("a"), 40);
    client.send("GET http://example.com/ HTTP/1.1\r\nX: ");
    await client.ended;
    clearInterval(timer);
    expect(performance.now() - begun).toBeLessThan(1_500);
  });

  test("a body that stands still is ended", async () => {
    const { host, heard } = await echoing({ limits: { idleMs: 300 } });
    const { told } = await tellRaw(
      host.path,
      "POST http://example.com/ HTTP/1.1\r\nHost: example.com\r\nContent-Length: 50\r\n\r\nhello",
    );
    expect(told).toMatch(/^HTTP\/1\.1 502 /);
    expect(heard.every(({ body }) => body !== "hello")).toBe(true);
  });

  test("a host that does not answer, or breaks off, is told", async () => {
    const silent = await originOf(createServer(() => undefined));
    stops.push(silent.stop);
    const host = await proxy({ portAt: () => silent.port, limits: { idleMs: 300 } });
    expect((await tellRaw(host.path, `${GET}\r\n`)).told).toMatch(/^HTTP\/1\.1 502 /);

    const rude = await originOf(createServer((socket) => socket.destroy()));
    stops.push(rude.stop);
    const second = await proxy({ portAt: () => rude.port });
    expect((await tellRaw(second.path, `${GET}\r\n`)).told).toMatch(/^HTTP\/1\.1 502 /);
  });

  test.each([
    ["two lengths", "Content-Length: 5\r\nContent-Length: 7\r\n\r\nhello"],
    ["a length and chunks", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"],
    ["a zero byte in a header", "X\u0000: 1\r\n\r\n"],
    ["another protocol", "X"],
    ["a flood of headers", `X: ${"a".repeat(80_000)}\r\n\r\n`],
  ])("an answer with %s is not passed on", async (what, rest) => {
    const start = what === "another protocol" ? "" : "HTTP/1.1 200 OK\r\n";
    const odd = await originOf(
      createServer((socket) => socket.once("data", () => socket.end(`${start}${rest}`))),
    );
    stops.push(odd.stop);
    const host = await proxy({ portAt: () => odd.port });
    const { told } = await tellRaw(host.path, `${GET}\r\n`);
    expect(told).toMatch(/^HTTP\/1\.1 502 /);
    expect(told.match(/HTTP\/1\.1 \d{3} /g)).toHaveLength(1);
  });

  test("an answer that ends too early ends the connection, so that nobody takes it for whole", async () => {
    const short = await originOf(
      createServer((socket) =>
        socket.once("data", () => socket.end("HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello")),
      ),
    );
    stops.push(short.stop);
    const host = await proxy({ portAt: () => short.port });
    const { told } = await tellRaw(host.path, `${GET}\r\n${GET}\r\n`);
    expect(told.match(/HTTP\/1\.1 \d{3} /g)).toHaveLength(1);
    expect(told).toMatch(/Content-Length: 50/i);
  });

  test("a switch of protocols is not passed on", async () => {
    const odd = await originOf(
      createServer((socket) =>
        socket.once("data", () =>
          socket.write("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n"),
        ),
      ),
    );
    stops.push(odd.stop);
    const host = await proxy({ portAt: () => odd.port, limits: { idleMs: 500 } });
    const { told } = await tellRaw(host.path, `${GET}\r\n`);
    expect(told).not.toMatch(/ 101 /);
  });

  test("more connections than a run may have are refused, and its own go on", async () => {
    const { host } = await echoing({ limits: { connections: 2 } });
    const first = [await rawHttp(host.path), await rawHttp(host.path)];
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect((await tellRaw(host.path, `${GET}\r\n`)).told).toMatch(/^HTTP\/1\.1 503 /);
    first[0]?.send(`${GET}Connection: close\r\n\r\n`);
    expect(await first[0]?.ended).toMatch(/^HTTP\/1\.1 200 /);
    for (const { socket } of first) socket.destroy();
  });

  test("requests piled up on one connection are no way round that", async () => {
    const silent = await originOf(createServer(() => undefined));
    stops.push(silent.stop);
    const host = await proxy({ portAt: () => silent.port, limits: { connections: 3, idleMs: 400 } });
    await tellRaw(host.path, `${GET}\r\n`.repeat(200));
    expect(host.dialled.length).toBeLessThanOrEqual(3);
  });

  test("nor a way to fill the memory: what comes behind a refusal is not read", async () => {
    const silent = await originOf(createServer(() => undefined));
    stops.push(silent.stop);
    const host = await proxy({ portAt: () => silent.port, limits: { connections: 2 } });
    const client = await rawHttp(host.path);
    const behind = `${GET}\r\n`;
    client.send(`${behind}GET http://other.example/ HTTP/1.1\r\nHost: other.example\r\n\r\n`);
    await expect.poll(() => host.kinds()).toContain("egress.refused egress-denied");
    const closed = new Promise((resolve) => client.socket.once("close", resolve));
    client.send(behind.repeat(40_000));
    await closed;
    expect(host.dialled).toHaveLength(1);
  });

  test("when the run has had its bytes nothing more passes", async () => {
    const there = await origin((_incoming, response) => response.end("a".repeat(100_000)));
    const host = await proxy({ portAt: () => there.port, limits: { totalBytes: 50_000 } });
    const { told } = await tellRaw(host.path, `${GET}\r\n`);
    expect(told.length).toBeLessThan(52_000);
  });

  test("who is not admitted is not read", async () => {
    const host = await proxy({ admits: () => false });
    expect((await tellRaw(host.path, `${GET}\r\n`)).told).toBe("");
    expect(host.records).toEqual([]);
  });

  test("whatever bytes come, nobody is connected to, and the next one is served", async () => {
    const { host, there } = await echoing({ allow: ["example.com"], limits: { headMs: 200 } });
    void there;
    const tokens = fc.constantFrom(
      "GET ",
      "CONNECT ",
      "http://other.example/",
      "other.example:443",
      " HTTP/1.1\r\n",
      "Host: other.example\r\n",
      "Content-Length: 5\r\n",
      "Transfer-Encoding: chunked\r\n",
      "\r\n",
      "\n",
      "0\r\n\r\n",
      "\u0000",
    );
    const piece = fc.oneof(tokens, fc.string({ unit: "binary", maxLength: 20 }));
    await fc.assert(
      fc.asyncProperty(fc.array(piece, { maxLength: 12 }), async (pieces) => {
        const client = await rawHttp(host.path);
        client.send(Buffer.from(pieces.join(""), "latin1"));
        client.socket.end();
        await client.ended;
        expect(host.dialled).toEqual([]);
      }),
      { numRuns: 150 },
    );
    expect((await tellRaw(host.path, `${GET}Connection: close\r\n\r\n`)).told).toMatch(/^HTTP\/1\.1 200 /);
  });
});
