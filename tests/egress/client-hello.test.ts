import { readFileSync } from "node:fs";
import { createSecureContext, TLSSocket } from "node:tls";
import fc from "fast-check";
import { beforeAll, describe, expect, test } from "vitest";
import { createHelloReader, MAX_HELLO_BYTES, type ReadHello } from "../../daemon/egress/client-hello.ts";
import {
  buildHello,
  feeding,
  messageOf,
  realHello,
  recordsOf,
  serverName,
  vector,
} from "../support/client-hellos.ts";
import { directoryOfFile } from "../support/directory-of-file.ts";
import { makeCertificates } from "../support/tls-files.ts";

const NAME = "www.example.com";
const read = (bytes: Buffer): ReadHello => createHelloReader().push(bytes);
const named = (name: string | null, encrypted = false): ReadHello => ({
  kind: "hello",
  serverName: name,
  encrypted,
});
const other = (type: number, bytes = 4) => ({ type, body: Buffer.alloc(bytes) });

describe("a ClientHello", () => {
  test.each([
    ["of TLS 1.3", { servername: NAME }, NAME],
    ["of TLS 1.2 alone", { servername: NAME, maxVersion: "TLSv1.2" }, NAME],
    ["with ALPN", { servername: NAME, ALPNProtocols: ["h2", "http/1.1"] }, NAME],
    ["without a name", {}, null],
  ] as const)("of Node's client, %s, is read", async (_what, options, name) => {
    const { ALPNProtocols, ...rest } = { ALPNProtocols: undefined, ...options };
    const alpn = ALPNProtocols === undefined ? {} : { ALPNProtocols: [...ALPNProtocols] };
    expect(read(await realHello({ ...rest, ...alpn, rejectUnauthorized: false }))).toEqual(named(name));
  });

  test.each([
    ["no extensions at all", buildHello(null), named(null)],
    ["none of a name", buildHello([other(43)]), named(null)],
    ["a name among others", buildHello([other(43), serverName(NAME), other(51, 1_200)]), named(NAME)],
    ["in many records", buildHello([serverName(NAME)], 7), named(NAME)],
    ["Encrypted ClientHello", buildHello([serverName(NAME), other(0xfe0d)]), named(NAME, true)],
    ["its draft", buildHello([serverName(NAME), other(0xffce)]), named(NAME, true)],
  ])("%s", (_what, bytes, told) => {
    expect(read(bytes)).toEqual(told);
  });

  const length = (bytes: Buffer, at: number, value: number): Buffer => {
    const changed = Buffer.from(bytes);
    changed.writeUInt16BE(value, at);
    return changed;
  };
  const good = buildHello([serverName(NAME)]);
  const twoMessages = recordsOf(Buffer.concat([good.subarray(5), good.subarray(5)]), 16_384);

  test.each([
    ["plain HTTP", Buffer.from("GET / HTTP/1.1\r\n\r\n")],
    ["SSH", Buffer.from("SSH-2.0-x\r\n")],
    ["an SSL 2 hello", Buffer.from([0x80, 0x2e, 1, 3, 1])],
    ["application data", Buffer.from([23, 3, 3, 0, 4, 1, 2, 3, 4])],
    ["an alert before it", Buffer.concat([Buffer.from([21, 3, 1, 0, 2, 1, 0]), good])],
    ["an empty record before it", Buffer.concat([Buffer.from([22, 3, 1, 0, 0]), good])],
    ["another major version", Buffer.from([22, 2, 0, 0, 4])],
    ["a ServerHello", recordsOf(Buffer.concat([Buffer.from([2]), good.subarray(6)]), 16_384)],
    ["a second message in its record", twoMessages],
    ["a name twice", buildHello([serverName(NAME), serverName("other.example")])],
    ["two names in one extension", buildHello([serverName(NAME, "other.example")])],
    ["an extension twice", buildHello([other(43), other(43)])],
    ["an empty name", buildHello([serverName("")])],
    ["a name with a zero byte", buildHello([serverName("www.example.com\u0000.evil.net")])],
    ["a name that is not ASCII", buildHello([serverName("ex\u00e4mple.com")])],
    ["a name of 256 bytes", buildHello([serverName("a".repeat(256))])],
    ["a name of another kind", buildHello([{ type: 0, body: vector(2, Buffer.from([1, 0, 1, 97])) }])],
    ["no list of names", buildHello([{ type: 0, body: Buffer.alloc(0) }])],
    [
      "something behind the list",
      buildHello([{ type: 0, body: Buffer.concat([serverName(NAME).body, Buffer.of(0)]) }]),
    ],
    ["extensions that end too late", length(good, 5 + 4 + 2 + 32 + 33 + 6 + 2, 9_999)],
    ["extensions that end too early", length(good, 5 + 4 + 2 + 32 + 33 + 6 + 2, 3)],
    ["a message of a megabyte", Buffer.from([22, 3, 1, 0, 4, 1, 0x10, 0, 0])],
    ["a message that is cut off", recordsOf(messageOf(Buffer.from([3, 3, 1])), 100)],
    ["more than may be", buildHello([serverName(NAME), other(21, 16_000)], 3)],
  ])("%s is refused", (_what, bytes) => {
    expect(read(bytes)).toMatchObject({ kind: "invalid" });
  });

  test("a beginning is not enough, whatever is cut off", () => {
    for (let cut = 0; cut < good.length; cut++)
      expect([cut, read(good.subarray(0, cut)).kind]).toEqual([cut, "more"]);
    expect(read(good)).toEqual(named(NAME));
  });

  test("an endless one is refused in time", () => {
    const reader = createHelloReader();
    const record = Buffer.from([22, 3, 1, 0, 1, 0]);
    let told = reader.push(Buffer.from([22, 3, 1, 0, 4, 1, 0, 0x3f, 0xf0]));
    let pushed = 9;
    for (; told.kind === "more"; pushed += record.length) told = reader.push(record);
    expect(told.kind).toBe("invalid");
    expect(pushed).toBeLessThan(MAX_HELLO_BYTES + 16);
  });
});

describe("any bytes", () => {
  const bytes = fc.uint8Array({ maxLength: 400 }).map((all) => Buffer.from(all));
  const sizes = fc.array(fc.integer({ min: 1, max: 90 }), { minLength: 1, maxLength: 20 });
  const good = buildHello([other(43), serverName(NAME), other(51, 60)], 50);
  const changed = fc
    .array(fc.tuple(fc.nat(good.length - 1), fc.nat(255)), { maxLength: 4 })
    .map((changes) => {
      const copy = Buffer.from(good);
      for (const [at, value] of changes) copy[at] = value;
      return copy;
    });

  test("give an answer, and the same in pieces of any size", () => {
    fc.assert(
      fc.property(fc.oneof(bytes, changed), sizes, (given, pieces) => {
        const whole = read(given);
        const reader = createHelloReader();
        let told: ReadHello = { kind: "more" };
        for (let at = 0, n = 0; at < given.length && told.kind === "more"; n++) {
          const size = pieces[n % pieces.length] ?? 1;
          told = reader.push(given.subarray(at, at + size));
          at += size;
        }
        expect(told).toEqual(whole);
      }),
      { numRuns: 2_000 },
    );
  });
});

describe("against OpenSSL", () => {
  const directory = directoryOfFile("hello");
  let hello: Buffer;
  let context: ReturnType<typeof createSecureContext>;
  beforeAll(async () => {
    const { server } = makeCertificates(directory);
    context = createSecureContext({ cert: readFileSync(server.cert), key: readFileSync(server.key) });
    hello = await realHello({ servername: NAME, rejectUnauthorized: false });
  });

  /** The name that a server takes from these bytes; undefined where it takes none. */
  function nameAtServer(bytes: Buffer): Promise<string | undefined> {
    return new Promise((resolve) => {
      const socket = new TLSSocket(feeding(bytes), {
        isServer: true,
        secureContext: context,
        SNICallback: (name, done) => {
          resolve(name);
          done(null, context);
        },
      });
      socket.on("error", () => resolve(undefined));
      setTimeout(() => {
        resolve(undefined);
        socket.destroy();
      }, 15);
    });
  }

  test("a server that takes a name from what was altered takes the one that we saw, or we refused", async () => {
    expect(await nameAtServer(hello)).toBe(NAME);
    let taken = 0;
    const change = fc.tuple(fc.nat(hello.length - 1), fc.nat(255));
    await fc.assert(
      fc.asyncProperty(fc.array(change, { minLength: 1, maxLength: 2 }), async (changes) => {
        const bytes = Buffer.from(hello);
        for (const [at, value] of changes) bytes[at] = value;
        const name = await nameAtServer(bytes);
        if (name === undefined) return;
        taken += 1;
        const ours = read(bytes);
        if (ours.kind === "hello") expect(ours.serverName).toBe(name);
        else expect(ours.kind).toBe("invalid");
      }),
      { numRuns: 300 },
    );
    expect(taken).toBeGreaterThan(20);
  }, 30_000);
});
