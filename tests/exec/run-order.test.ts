import { generateKeyPairSync, type KeyObject } from "node:crypto";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { renderCanonical } from "../../daemon/audit/canonical.ts";
import { type PublicKey, readPublicKey } from "../../daemon/audit/ed25519.ts";
import type { Data } from "../../daemon/audit/record.ts";
import {
  isPlainPath,
  isWithin,
  MAX_ORDER_CHARACTERS,
  type RunOrder,
  readOrder,
  renderOrder,
  signOrder,
} from "../../daemon/exec/run-order.ts";

const ORDER: RunOrder = {
  v: 1,
  id: "00112233445566778899aabbccddeeff",
  boot: "01234567-89ab-cdef-0123-456789abcdef",
  notAfterMs: 12_345,
  argv: ["ls", "-l", "é \n \u0001"],
  program: { path: "/usr/bin/ls", sha256: "a".repeat(64) },
  cwd: "/srv/work/sub",
  workspace: "/srv/work",
  environment: [["LANG", "C.UTF-8"]],
  profile: "developer",
  mode: "OPEN",
  network: "none",
  proxySocket: "",
  readable: ["/opt/data"],
  stdinDigest: "b".repeat(64),
  limits: {
    timeoutMs: 30_000,
    graceMs: 5_000,
    outputBytes: 51_200,
    memoryBytes: 536_870_912,
    pids: 64,
    cpus: 1,
  },
};

function keyPair(): { readonly privateKey: KeyObject; readonly publicKey: PublicKey } {
  const { privateKey, publicKey } = generateKeyPairSync("ed25519");
  const read = readPublicKey(publicKey.export({ format: "der", type: "spki" }).subarray(-32));
  if (read === null) throw new Error("no key");
  return { privateKey, publicKey: read };
}
const KEYS = keyPair();

/** Signed as it is, whatever it is: what the daemon's key says is still looked at. */
function readSigned(value: unknown): ReturnType<typeof readOrder> {
  const text = renderCanonical(value as Data);
  return readOrder(text, signOrder(text, KEYS.privateKey), KEYS.publicKey);
}

describe("an order", () => {
  test("is read as it was rendered", () => {
    const text = renderOrder(ORDER);
    expect(readOrder(text, signOrder(text, KEYS.privateKey), KEYS.publicKey)).toEqual({
      ok: true,
      order: ORDER,
    });
  });

  test("of another key is refused, and so is one with any byte changed", () => {
    const text = renderOrder(ORDER);
    const signature = signOrder(text, KEYS.privateKey);
    expect(readOrder(text, signOrder(text, keyPair().privateKey), KEYS.publicKey).ok).toBe(false);
    fc.assert(
      fc.property(fc.nat(text.length - 1), fc.integer({ min: 32, max: 126 }), (at, code) => {
        const other = text.slice(0, at) + String.fromCharCode(code) + text.slice(at + 1);
        fc.pre(other !== text);
        expect(readOrder(other, signature, KEYS.publicKey).ok).toBe(false);
      }),
    );
  });

  test("has no name in its environment that the loader or Node obeys: what starts the command would, too", () => {
    const named = (name: string) => readSigned({ ...ORDER, environment: [[name, "x"]] }).ok;
    for (const name of [
      "LD_PRELOAD",
      "LD_AUDIT",
      "GLIBC_TUNABLES",
      "NODE_OPTIONS",
      "NODE_EXTRA_CA_CERTS",
      "NODE_ENVY",
    ])
      expect([name, named(name)]).toEqual([name, false]);
    for (const name of ["NODE_ENV", "LD", "LDFLAGS", "LANG"])
      expect([name, named(name)]).toEqual([name, true]);
    expect(() => renderOrder({ ...ORDER, environment: [["LD_PRELOAD", "/x.so"]] })).toThrow(
      /programs of ours obey/,
    );
  });

  test("is refused where its signature is written another way", () => {
    const text = renderOrder(ORDER);
    const signature = signOrder(text, KEYS.privateKey);
    for (const other of [
      `${signature} `,
      signature.replace("=", ""),
      ` ${signature}`,
      `${signature}AAAA`,
      "",
    ])
      expect(readOrder(text, other, KEYS.publicKey).ok).toBe(false);
  });

  test("a signature without the context is none", () => {
    const text = renderOrder(ORDER);
    const bare = signOrder(text.slice(1), KEYS.privateKey);
    expect(readOrder(text, bare, KEYS.publicKey)).toMatchObject({ ok: false });
  });

  test("any text and signature end in an answer", () => {
    fc.assert(
      fc.property(fc.string(), fc.oneof(fc.string(), fc.base64String()), (text, signature) => {
        expect(readOrder(text, signature, KEYS.publicKey).ok).toBe(false);
        expect(readOrder(text, signOrder(text, KEYS.privateKey), KEYS.publicKey).ok).toBe(false);
      }),
    );
  });

  test("signed, of any JSON shape, is an order or is refused", () => {
    const value = fc.letrec((tie) => ({
      data: fc.oneof(
        { maxDepth: 3 },
        fc.maxSafeInteger(),
        fc.string(),
        fc.array(tie("data"), { maxLength: 4 }),
        fc.dictionary(fc.string(), tie("data"), { maxKeys: 4 }),
      ),
    }));
    fc.assert(
      fc.property(fc.constantFrom(...Object.keys(ORDER)), value.data, (field, data) => {
        const read = readSigned({ ...ORDER, [field]: data });
        if (read.ok) expect(readSigned(read.order)).toEqual(read);
      }),
    );
  });

  const FAULTS: readonly (readonly [what: string, change: object])[] = [
    ["a field that is not known", { extra: 1 }],
    ["another version", { v: 2 }],
    ["an id in capitals", { id: ORDER.id.toUpperCase() }],
    ["no boot id", { boot: "x" }],
    ["no argv", { argv: [] }],
    ["a NUL in an argument", { argv: ["ls", "a\0b"] }],
    ["a program by a relative path", { program: { ...ORDER.program, path: "ls" } }],
    ["a program by a path that climbs", { program: { ...ORDER.program, path: "/usr/../ls" } }],
    ["a workspace that is the host", { workspace: "/", cwd: "/" }],
    ["a cwd outside", { cwd: "/srv/workshop" }],
    ["a cwd that climbs", { cwd: "/srv/work/../x" }],
    ["a variable twice", { environment: ["a", "b"].map((value) => ["LANG", value]) }],
    ["a variable with = in its name", { environment: [["A=B", ""]] }],
    ["a proxy without its network", { proxySocket: "/run/x.sock" }],
    ["a network without its proxy", { network: "proxy" }],
    ["a network that is not known", { network: "host" }],
    ["more time than there is", { limits: { ...ORDER.limits, timeoutMs: 180_001 } }],
    ["more grace than there is", { limits: { ...ORDER.limits, graceMs: 10_001 } }],
    ["more output than there is", { limits: { ...ORDER.limits, outputBytes: 1_048_577 } }],
    ["no processes", { limits: { ...ORDER.limits, pids: 0 } }],
  ];

  test.each(FAULTS)("with %s is refused, though signed", (_, change) => {
    expect(readSigned({ ...ORDER, ...change })).toMatchObject({ ok: false });
    expect(() => renderOrder({ ...ORDER, ...change })).toThrow();
  });

  test("that is not in canonical form is refused, though signed", () => {
    const text = ` ${renderOrder(ORDER)}`;
    expect(readOrder(text, signOrder(text, KEYS.privateKey), KEYS.publicKey)).toMatchObject({ ok: false });
  });

  test("that is too long is refused by either side", () => {
    const argv = Array.from({ length: 20 }, () => "x".repeat(100_000));
    expect(() => renderOrder({ ...ORDER, argv })).toThrow();
    const text = renderCanonical({ ...ORDER, argv });
    expect(text.length).toBeGreaterThan(MAX_ORDER_CHARACTERS);
    expect(readOrder(text, signOrder(text, KEYS.privateKey), KEYS.publicKey).ok).toBe(false);
  });
});

test("plain paths are absolute and written in one way", () => {
  for (const path of ["/", "/a", "/a/b.c", "/a/..b", "/é/ü"])
    expect([path, isPlainPath(path)]).toEqual([path, true]);
  for (const path of ["", "a", "/a/", "//a", "/a//b", "/.", "/..", "/a/.", "/a/../b", "/a\n", "/a\0"])
    expect([path, isPlainPath(path)]).toEqual([path, false]);
  expect(["/a", "/a/b", "/ab", "/"].map((path) => isWithin(path, "/a"))).toEqual([true, true, false, false]);
  expect(isWithin("/a", "/")).toBe(true);
});
