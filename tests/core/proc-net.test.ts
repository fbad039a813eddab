import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { parseIpRange, renderIpRange } from "../../daemon/core/ip-range.ts";
import { normalAddress, normalFlow, parseProcNet } from "../../daemon/core/proc-net.ts";

const HEADING =
  "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode";
const REST = "00000000:00000000 00:00000000 00000000     0        0 25043 1 0000000000000000 100 0 0 10 0";

/** As the kernel prints it: words of 32 bits, least significant byte first. */
function kernelHex(bytes: readonly number[]): string {
  const words: string[] = [];
  for (let at = 0; at < bytes.length; at += 4) {
    const word = bytes.slice(at, at + 4).toReversed();
    words.push(word.map((byte) => byte.toString(16).padStart(2, "0").toUpperCase()).join(""));
  }
  return words.join("");
}

type End = { readonly bytes: readonly number[]; readonly port: number };
const row = (sl: number, local: End, remote: End, state: string) => {
  const end = ({ bytes, port }: End) =>
    `${kernelHex(bytes)}:${port.toString(16).padStart(4, "0").toUpperCase()}`;
  return `${String(sl).padStart(4)}: ${end(local)} ${end(remote)} ${state} ${REST}`;
};
const table = (...rows: readonly string[]) => `${[HEADING, ...rows].join("\n")}\n`;

/** The address that bytes in network order are, by another way than the one under test. */
function addressOf(bytes: readonly number[]): string {
  if (bytes.length === 4) return bytes.join(".");
  const groups = Array.from({ length: 8 }, (_, at) =>
    (((bytes[at * 2] ?? 0) << 8) | (bytes[at * 2 + 1] ?? 0)).toString(16),
  );
  return groups.join(":");
}

const MAPPED = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];
const byte = fc.integer({ min: 0, max: 255 });
const v4 = fc.array(byte, { minLength: 4, maxLength: 4 });
const v6 = fc
  .array(byte, { minLength: 16, maxLength: 16 })
  .filter((bytes) => bytes.slice(0, 10).some((each) => each !== 0));
const port = fc.integer({ min: 1, max: 65_535 });

describe("parseProcNet", () => {
  test("reads what the kernel printed once", () => {
    const text = table(
      "   0: 0100007F:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0",
      "   1: 0201510A:0016 0101510A:C350 01 00000000:00000000 02:000A7D0F 00000000     0        0 2 4 0",
    );
    expect(parseProcNet(text, "tcp")).toEqual({
      flows: [
        {
          family: 4,
          localAddress: "10.81.1.2",
          localPort: 22,
          remoteAddress: "10.81.1.1",
          remotePort: 50_000,
        },
      ],
      listeners: [{ protocol: "tcp", family: 4, address: "127.0.0.1", port: 22, everywhere: false }],
      unread: 0,
    });
  });

  test("reads every address of either family back, least significant byte first", () => {
    fc.assert(
      fc.property(
        fc.constantFrom(v4, v6).chain((kind) => fc.tuple(kind, kind)),
        port,
        port,
        ([a, b], p, q) => {
          const text = table(row(0, { bytes: a, port: p }, { bytes: b, port: q }, "01"));
          const { flows, unread } = parseProcNet(text, "tcp");
          expect(unread).toBe(0);
          expect(flows).toEqual([
            {
              family: a.length === 4 ? 4 : 6,
              localAddress: addressOf(a),
              localPort: p,
              remoteAddress: addressOf(b),
              remotePort: q,
            },
          ]);
        },
      ),
    );
  });

  test("an IPv4 address mapped into IPv6 is of IPv4, as its packets are", () => {
    fc.assert(
      fc.property(v4, v4, port, (a, b, p) => {
        const text = table(
          row(0, { bytes: [...MAPPED, ...a], port: 22 }, { bytes: [...MAPPED, ...b], port: p }, "01"),
        );
        expect(parseProcNet(text, "tcp").flows[0]).toMatchObject({
          family: 4,
          localAddress: addressOf(a),
          remoteAddress: addressOf(b),
        });
      }),
    );
  });

  test("what is neither established nor listening is neither", () => {
    const end = { bytes: [10, 0, 0, 1], port: 5 };
    for (const state of ["02", "03", "04", "05", "06", "07", "08", "09", "0B", "0C"])
      expect(parseProcNet(table(row(0, end, end, state)), "tcp")).toEqual({
        flows: [],
        listeners: [],
        unread: 0,
      });
  });

  test("a UDP socket without a peer listens, one with a peer does not", () => {
    const own = { bytes: [0, 0, 0, 0], port: 53 };
    const none = { bytes: [0, 0, 0, 0], port: 0 };
    expect(parseProcNet(table(row(0, own, none, "07"), row(1, own, own, "01")), "udp")).toMatchObject({
      flows: [],
      listeners: [{ protocol: "udp", port: 53, everywhere: true }],
    });
  });

  test("never throws, and counts every line that is none", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), (text) => {
        const read = parseProcNet(text, "tcp");
        const lines = text
          .split("\n")
          .slice(1)
          .filter((line) => line.trim() !== "");
        expect(read.flows.length + read.listeners.length + read.unread).toBeLessThanOrEqual(lines.length);
      }),
    );
    const cut = table(
      row(0, { bytes: [10, 0, 0, 1], port: 5 }, { bytes: [10, 0, 0, 2], port: 6 }, "01"),
    ).slice(0, HEADING.length + 30);
    expect(parseProcNet(cut, "tcp")).toEqual({ flows: [], listeners: [], unread: 1 });
  });
});

describe("normalFlow", () => {
  const flow = (localAddress: string, remoteAddress: string) =>
    normalFlow({ localAddress, localPort: 22, remoteAddress, remotePort: 5 });

  test("is the form of the tables: zones and mapped addresses away", () => {
    expect(flow("fe80::1%eth0", "fe80::2")).toMatchObject({
      family: 6,
      localAddress: "fe80:0:0:0:0:0:0:1",
      remoteAddress: "fe80:0:0:0:0:0:0:2",
    });
    expect(flow("::ffff:10.0.0.1", "10.0.0.2")).toMatchObject({ family: 4, localAddress: "10.0.0.1" });
  });

  test.each([
    ["10.0.0.1", "::1"],
    ["10.0.0.0/8", "10.0.0.2"],
    ["10.0.0.1-10.0.0.1", "10.0.0.2"],
    ["", "10.0.0.2"],
    ["host", "10.0.0.2"],
  ])("%j with %j is none", (local, remote) => {
    expect(flow(local, remote)).toBeNull();
  });

  test("an address is what it is in an nft set", () => {
    fc.assert(
      fc.property(fc.oneof(fc.ipV4(), fc.ipV6()), (text) => {
        const range = parseIpRange(text);
        const mapped = range?.family === 6 && range.first >> 32n === 0xffffn;
        fc.pre(range !== null && !mapped);
        if (range) expect(normalAddress(text)).toBe(renderIpRange(range));
      }),
    );
    fc.assert(fc.property(fc.string(), (text) => normalAddress(text) !== undefined));
  });
});
