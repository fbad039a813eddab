import {
  appendFileSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { join } from "node:path";
import tls from "node:tls";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createFileSink } from "../../../cli/ship/file-sink.ts";
import type { ProvenLine, Sink } from "../../../cli/ship/sink.ts";
import { createSyslogSink } from "../../../cli/ship/syslog-sink.ts";
import { openSession, type Timing, type TlsTarget } from "../../../cli/ship/tls-session.ts";
import { codeOf, recordOf, tempDirectory } from "../../audit/fixture.ts";
import { evenLog, shipDirectory } from "../../support/real-log.ts";
import { isOnHost } from "../../support/setup.ts";
import { type Certificates, type KeyPair, makeCertificates } from "../../support/tls-files.ts";
import { type Receiver, startReceiver } from "../../support/tls-receiver.ts";

const LINES: readonly ProvenLine[] = (
  await evenLog({
    segments: 1,
    batches: 10,
    perBatch: 3,
    data: (seq) => ({ seq, text: seq % 2 === 0 ? "plain" : "größer \u2028 \u{1f512}" }),
  })
).lines.map((text) => ({ record: recordOf(text), text }));
const TEXTS = LINES.map((line) => line.text);
const QUICK: Timing = { connectMs: 5_000, writeMs: 5_000, quietMs: 20, finishMs: 5_000 };
const SENDER = { hostname: "here", procId: "1" };

const base = shipDirectory();
let pem: Certificates;
beforeAll(() => {
  if (isOnHost("openssl")) pem = makeCertificates(base.path);
});
afterAll(() => base.remove());

type Bench = { readonly sink: Sink; readonly kept: () => readonly string[]; stop(): Promise<void> };

async function fileBench(): Promise<Bench> {
  const path = join(base.path, `sink-${Math.random()}.log`);
  return {
    sink: createFileSink(path),
    kept: () => readFileSync(path, "utf8").split("\n").slice(0, -1),
    stop: async () => undefined,
  };
}

async function syslogBench(): Promise<Bench> {
  const receiver = await startReceiver(pem.server);
  return {
    sink: syslogTo(receiver),
    kept: () => {
      expect(receiver.faults).toEqual([]);
      return receiver.messages.map((one) => one.message);
    },
    stop: receiver.stop,
  };
}

function targetOf(receiver: { readonly port: number }, changes: Partial<TlsTarget> = {}): TlsTarget {
  const ca = readFileSync(pem.ca);
  const nothing = { serverName: undefined, cert: undefined, key: undefined, insecure: false };
  return { host: "localhost", port: receiver.port, ca, ...nothing, ...changes };
}

function syslogTo(receiver: Receiver, changes: Partial<TlsTarget> = {}, timing = QUICK): Sink {
  const target = targetOf(receiver, changes);
  return createSyslogSink("tls", SENDER, () => openSession(target, timing));
}

const SINKS: readonly (readonly [name: string, needs: string, bench: () => Promise<Bench>])[] = [
  ["file", "sh", fileBench],
  ["syslog over TLS", "openssl", syslogBench],
];

describe.each(SINKS)("the contract of a sink: %s", (_name, needs, start) => {
  test.skipIf(!isOnHost(needs))("what is confirmed is there, in order, byte for byte", async () => {
    const bench = await start();
    try {
      await bench.sink.write(LINES.slice(0, 3));
      await bench.sink.write(LINES.slice(3, 10));
      await bench.sink.confirm();
      expect(bench.kept()).toEqual(TEXTS.slice(0, 10));
      await bench.sink.write(LINES.slice(10));
      await bench.sink.confirm();
      expect(bench.kept()).toEqual(TEXTS);
    } finally {
      await bench.sink.close();
      await bench.stop();
    }
  });

  test.skipIf(!isOnHost(needs))(
    "confirming nothing, closing twice and going on after it are no faults",
    async () => {
      const bench = await start();
      try {
        await bench.sink.confirm();
        await bench.sink.close();
        await bench.sink.close();
        await bench.sink.write(LINES);
        await bench.sink.confirm();
        await bench.sink.confirm();
        expect(bench.kept()).toEqual(TEXTS);
      } finally {
        await bench.sink.close();
        await bench.stop();
      }
    },
  );

  test.skipIf(!isOnHost(needs))("what was not confirmed can be written again", async () => {
    const bench = await start();
    try {
      await bench.sink.write(LINES.slice(0, 5));
      await bench.sink.close();
      await bench.sink.write(LINES);
      await bench.sink.confirm();
      expect(bench.kept().slice(-TEXTS.length)).toEqual(TEXTS);
    } finally {
      await bench.sink.close();
      await bench.stop();
    }
  });
});

describe("the file sink", () => {
  test("is for nobody else to read, and follows no link", async () => {
    using directory = tempDirectory();
    const path = join(directory.path, "log");
    const sink = createFileSink(path);
    await sink.write(LINES);
    await sink.close();
    expect((statSync(path).mode & 0o777).toString(8)).toBe("600");
    const link = join(directory.path, "link");
    symlinkSync(path, link);
    expect(await codeOf(() => createFileSink(link).write(LINES))).toBe("ship-failed");
    expect(await codeOf(() => createFileSink(join(directory.path, "no/such")).write(LINES))).toBe(
      "ship-failed",
    );
  });

  test("a piece of a line that a crash left is cut off, whole lines stay", async () => {
    using directory = tempDirectory();
    const path = join(directory.path, "log");
    const sink = createFileSink(path);
    await sink.write(LINES.slice(0, 4));
    await sink.close();
    appendFileSync(path, (TEXTS[4] ?? "").slice(0, 50));
    await sink.write(LINES.slice(4));
    await sink.close();
    expect(readFileSync(path, "utf8").split("\n").slice(0, -1)).toEqual(TEXTS);
  });

  test.each(["removed", "moved", "replaced"])(
    "a file that is %s between confirmations confirms nothing; then a new one is begun",
    async (how) => {
      using directory = tempDirectory();
      const path = join(directory.path, "log");
      const sink = createFileSink(path);
      await sink.write(LINES.slice(0, 4));
      if (how === "removed") rmSync(path);
      else renameSync(path, `${path}.1`);
      if (how === "replaced") writeFileSync(path, "");
      expect(await codeOf(() => sink.confirm())).toBe("ship-failed");
      await sink.write(LINES);
      await sink.confirm();
      await sink.close();
      expect(readFileSync(path, "utf8").split("\n").slice(0, -1)).toEqual(TEXTS);
    },
  );

  test("a file that is no log is not cut", async () => {
    using directory = tempDirectory();
    const path = join(directory.path, "log");
    writeFileSync(path, Buffer.alloc(300_000, "x"));
    expect(await codeOf(() => createFileSink(path).write(LINES))).toBe("ship-failed");
    expect(statSync(path).size).toBe(300_000);
  });
});

const attempt = async (sink: Sink): Promise<string> =>
  codeOf(async () => {
    await sink.write(LINES);
    await sink.confirm();
  });

describe.skipIf(!isOnHost("openssl"))("who may be at the other end (needs openssl)", () => {
  const strangers: readonly (readonly [name: string, pair: () => KeyPair])[] = [
    ["expired", () => pem.expired],
    ["for another name", () => pem.otherName],
    ["signed by itself", () => pem.selfSigned],
    ["of an unknown authority", () => pem.otherCa],
  ];
  test.each(strangers)("a certificate that is %s is refused, and nothing is sent", async (_name, pair) => {
    const receiver = await startReceiver(pair());
    try {
      expect(await attempt(syslogTo(receiver))).toBe("ship-untrusted");
      expect(receiver.messages).toEqual([]);
      // the environment does not help
      process.env["NODE_TLS_REJECT_UNAUTHORIZED"] = "0";
      expect(await attempt(syslogTo(receiver))).toBe("ship-untrusted");
    } finally {
      Reflect.deleteProperty(process.env, "NODE_TLS_REJECT_UNAUTHORIZED");
      await receiver.stop();
    }
  });

  test("without --ca our own authority is not known", async () => {
    const receiver = await startReceiver(pem.server);
    try {
      expect(await attempt(syslogTo(receiver, { ca: undefined }))).toBe("ship-untrusted");
    } finally {
      await receiver.stop();
    }
  });

  test("the name is that of the host, or --server-name; an address has to be in the certificate too", async () => {
    const [receiver, other] = [await startReceiver(pem.server), await startReceiver(pem.otherName)];
    try {
      expect(await attempt(syslogTo(receiver, { host: "127.0.0.1" }))).toBe("nothing thrown");
      expect(await attempt(syslogTo(receiver, { serverName: "other.example" }))).toBe("ship-untrusted");
      expect(await attempt(syslogTo(other, { serverName: "other.example" }))).toBe("nothing thrown");
      expect(await attempt(syslogTo(other, { host: "127.0.0.1" }))).toBe("ship-untrusted");
    } finally {
      await receiver.stop();
      await other.stop();
    }
  });

  test("insecure takes anybody", async () => {
    const receiver = await startReceiver(pem.selfSigned);
    try {
      expect(await attempt(syslogTo(receiver, { insecure: true }))).toBe("nothing thrown");
    } finally {
      await receiver.stop();
    }
  });

  test("older than TLS 1.2 is refused", async () => {
    const old = { maxVersion: "TLSv1.1", minVersion: "TLSv1", ciphers: "ALL:@SECLEVEL=0" } as const;
    const receiver = await startReceiver(pem.server, old);
    const usual = tls.DEFAULT_CIPHERS;
    try {
      // so that our own limit alone stands against it
      tls.DEFAULT_CIPHERS = "ALL:@SECLEVEL=0";
      expect(await attempt(syslogTo(receiver))).toBe("ship-failed");
    } finally {
      tls.DEFAULT_CIPHERS = usual;
      await receiver.stop();
    }
  });

  test("a server that wants to know us: with our certificate, and nothing is confirmed without", async () => {
    const receiver = await startReceiver(pem.server, { requestCert: true, ca: readFileSync(pem.ca) });
    try {
      expect(await attempt(syslogTo(receiver))).toBe("ship-failed");
      const own = { cert: readFileSync(pem.client.cert), key: readFileSync(pem.client.key) };
      expect(await attempt(syslogTo(receiver, own))).toBe("nothing thrown");
      expect(receiver.messages.map((one) => one.message)).toEqual(TEXTS);
    } finally {
      await receiver.stop();
    }
  });
});

describe.skipIf(!isOnHost("openssl"))("every operation has a deadline (needs openssl)", () => {
  test("a server that accepts and says nothing", async () => {
    const silent = createServer(() => undefined).listen(0, "127.0.0.1");
    await new Promise((resolve) => silent.once("listening", resolve));
    const { port } = silent.address() as AddressInfo;
    const open = () => openSession(targetOf({ port }), { ...QUICK, connectMs: 100 });
    expect(await codeOf(open)).toBe("ship-failed");
    silent.close();
  });

  test("nobody there", async () => {
    expect(await codeOf(() => openSession(targetOf({ port: 1 }), QUICK))).toBe("ship-failed");
  });

  test("a server that takes nothing: memory is bounded by what one write holds", async () => {
    const receiver = await startReceiver(pem.server);
    receiver.behave = "deaf";
    const sink = syslogTo(receiver, {}, { ...QUICK, writeMs: 300 });
    try {
      let writes = 0;
      const code = await codeOf(async () => {
        for (; writes < 10_000; writes++) await sink.write(LINES);
      });
      expect(code).toBe("ship-failed");
      expect(writes).toBeLessThan(10_000);
    } finally {
      await sink.close();
      await receiver.stop();
    }
  });

  test("a server that reads and never closes", async () => {
    const receiver = await startReceiver(pem.server);
    receiver.behave = "hold";
    try {
      expect(await attempt(syslogTo(receiver, {}, { ...QUICK, finishMs: 200 }))).toBe("ship-failed");
    } finally {
      await receiver.stop();
    }
  });

  test.each(["reset", "hangUp"] as const)(
    "a connection that is cut (%s) confirms nothing, and the next one does",
    async (how) => {
      const receiver = await startReceiver(pem.server);
      const sink = syslogTo(receiver, {}, { ...QUICK, quietMs: 100 });
      try {
        await sink.write(LINES.slice(0, 5));
        setTimeout(() => receiver[how](), 30);
        expect(await codeOf(() => sink.confirm())).toBe("ship-failed");
        expect(await attempt(sink)).toBe("nothing thrown");
        expect(receiver.messages.slice(-TEXTS.length).map((one) => one.message)).toEqual(TEXTS);
      } finally {
        await sink.close();
        await receiver.stop();
      }
    },
  );
});
