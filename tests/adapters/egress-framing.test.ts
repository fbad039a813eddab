import { createServer } from "node:net";
import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type EgressTest, type Origin, originOf, startEgress } from "../support/egress-proxy.ts";
import { rawHttp } from "../support/raw-http.ts";

/**
 * Requests in another's body, or behind it: whatever a client sends, each connection to a host carries one request, which
 * ends where it says, or is cut off before. The reader here is not Node's.
 */
/** The bytes of each connection to the host. */
let heard: { bytes: string }[] = [];
let there: Origin;
let host: EgressTest;

beforeAll(async () => {
  there = await originOf(
    createServer((socket) => {
      const one = { bytes: "" };
      heard.push(one);
      socket.on("data", (chunk) => {
        one.bytes += chunk.toString("latin1");
      });
      setTimeout(() => socket.end("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"), 8);
    }),
  );
  host = await startEgress({
    portAt: () => there.port,
    limits: { connectionsInAll: 1_000_000, headMs: 150, idleMs: 200 },
  });
});
afterAll(async () => {
  await host.stop();
  await there.stop();
});

/** What is wrong with the bytes of one connection to the host; "" when nothing is. */
function faultOf(bytes: string): string {
  const end = bytes.indexOf("\r\n\r\n");
  if (end === -1) return bytes === "" ? "" : "no head";
  const [first = "", ...lines] = bytes.slice(0, end).split("\r\n");
  const body = bytes.slice(end + 4);
  if (!/^[A-Z-]+ \/[^ ]* HTTP\/1\.1$/.test(first)) return `first line ${first}`;
  const fields = lines.map((line) => /^([!#$%&'*+.^_`|~0-9A-Za-z-]+): (.*)$/.exec(line));
  if (fields.some((field) => field === null)) return "a header that is none";
  const all = (name: string) => fields.filter((field) => field?.[1]?.toLowerCase() === name);
  if (all("host").length !== 1 || all("host")[0]?.[2] !== "example.com") return "its host";
  const [lengths, codings] = [all("content-length"), all("transfer-encoding")];
  if (lengths.length + codings.length > 1) return "two lengths";
  if (codings.length === 1) return codings[0]?.[2] === "chunked" ? chunkFault(body) : "its coding";
  return body.length <= Number(lengths[0]?.[2] ?? 0) ? "" : "more than its length";
}

function chunkFault(body: string): string {
  let at = 0;
  for (;;) {
    const line = /^([0-9a-f]+)\r\n/i.exec(body.slice(at));
    if (line === null) return at === body.length ? "" : "a chunk without a length";
    const size = Number.parseInt(line[1] ?? "", 16);
    at += line[0].length + size + 2;
    if (at > body.length) return ""; // cut off
    if (size === 0) return at === body.length ? "" : "more behind the last chunk";
  }
}

const HEAD = "POST http://example.com/a HTTP/1.1\r\nHost: example.com\r\n";
const INNER = "GET http://other.example/admin HTTP/1.1\r\nHost: other.example\r\n\r\n";
const line = fc.constantFrom(
  "Content-Length: 5\r\n",
  "Content-Length: 0\r\n",
  "Content-Length: 90\r\n",
  "Content-Length:5\r\n",
  "Content-Length : 5\r\n",
  "Content-Length: 05\r\n",
  "content-length: 4\r\n",
  "Transfer-Encoding: chunked\r\n",
  "Transfer-Encoding: Chunked\r\n",
  "Transfer-Encoding:\tchunked\r\n",
  "Transfer-Encoding: chunked \r\n",
  "Transfer-Encoding: identity\r\n",
  "Transfer-Encoding:\r\n chunked\r\n",
  "Transfer-Encoding: chunked\n",
  "Connection: content-length\r\n",
  "Connection: transfer-encoding, host\r\n",
  "Expect: 100-continue\r\n",
  "Upgrade: h2c\r\n",
  "Trailer: Host\r\n",
  "X: a\rb\r\n",
  "X:\u000b1\r\n",
);
const body = fc.constantFrom(
  "hello",
  "0\r\n\r\n",
  "5\r\nhello\r\n0\r\n\r\n",
  "5;a=b\r\nhello\r\n0\r\n\r\n",
  "5\nhello\n0\n\n",
  "05\r\nhello\r\n0\r\nHost: other.example\r\n\r\n",
  "fffffffffffffffff\r\n",
  "-1\r\n",
  "5\r\nhel",
  INNER,
  HEAD,
  "\r\n",
);

test("each connection to a host carries one request, which ends where it says", async () => {
  let carried = 0;
  const good = fc.constantFrom<[string[], string[]]>(
    [["Content-Length: 5\r\n"], ["hello"]],
    [["Transfer-Encoding: chunked\r\n"], ["5;a=b\r\nhello\r\n0\r\n\r\n"]],
    [["Transfer-Encoding: chunked\r\n"], ["05\r\nhello\r\n0\r\nHost: other.example\r\n\r\n"]],
    [[`Content-Length: ${INNER.length}\r\n`], [INNER]],
    [[], []],
  );
  const few = fc.tuple(good, fc.array(line, { maxLength: 1 }), fc.array(body, { maxLength: 1 }));
  const bent = few.map(([[lines, bodies], line, body]): [string[], string[]] => [
    [...line, ...lines],
    [...bodies, ...body],
  ]);
  const wild = fc.tuple(fc.array(line, { maxLength: 4 }), fc.array(body, { maxLength: 3 }));
  const message = fc.oneof(
    { weight: 3, arbitrary: good },
    { weight: 4, arbitrary: bent },
    { weight: 1, arbitrary: wild },
  );
  await fc.assert(
    fc.asyncProperty(fc.array(message, { minLength: 1, maxLength: 2 }), async (messages) => {
      heard = [];
      const client = await rawHttp(host.path);
      for (const [lines, bodies] of messages) client.send(`${HEAD}${lines.join("")}\r\n${bodies.join("")}`);
      const over = setTimeout(() => client.socket.end(), 30); // to Node's server an end takes back what was asked
      await client.ended;
      clearTimeout(over);
      const faults = heard.map(({ bytes }) => faultOf(bytes));
      expect(faults).toEqual(faults.map(() => ""));
      carried += heard.filter(({ bytes }) => bytes !== "").length;
    }),
    { numRuns: 200 },
  );
  expect(carried).toBeGreaterThan(40);
}, 60_000);

test("the reader of this test sees what is smuggled", () => {
  const good = "POST /a HTTP/1.1\r\nHost: example.com\r\n";
  expect(faultOf(`${good}Content-Length: 5\r\n\r\nhello`)).toBe("");
  expect(faultOf(`${good}Content-Length: 5\r\n\r\nhelloGET / HTTP/1.1\r\n`)).not.toBe("");
  expect(faultOf(`${good}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`)).not.toBe("");
  expect(faultOf(`${good}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n`)).not.toBe("");
  expect(faultOf(`${good}\r\nGET / HTTP/1.1\r\n`)).not.toBe("");
});
