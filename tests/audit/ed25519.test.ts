import { createPrivateKey, sign } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { parseVkey } from "../../daemon/audit/checkpoint.ts";
import { readPublicKey, verifyStrict } from "../../daemon/audit/ed25519.ts";
import { testSigner } from "./fixture.ts";

const DATA = "../shared/data/ed25519";
const absent = !existsSync(DATA);
const why = absent ? ` (skipped: ${DATA} is not here)` : "";
const bytes = (hex: string) => Buffer.from(hex, "hex");

describe.skipIf(absent)(`published vectors${why}`, () => {
  test("Wycheproof: all 151 cases come out as they should", () => {
    const suite = JSON.parse(readFileSync(`${DATA}/wycheproof_ed25519_test.json`, "utf8"));
    const wrong: number[] = [];
    let count = 0;
    for (const group of suite.testGroups) {
      for (const each of group.tests) {
        count++;
        const good = verifyStrict(bytes(group.publicKey.pk), bytes(each.msg), bytes(each.sig));
        if (good !== (each.result === "valid")) wrong.push(each.tcId);
      }
    }
    expect({ count, wrong }).toEqual({ count: 151, wrong: [] });
  });

  test("RFC 8032 vectors: signatures come out the same and verify", () => {
    const lines = readFileSync(`${DATA}/rfc8032_vectors.txt`, "utf8").trim().split("\n");
    const prefix = "302e020100300506032b657004220420";
    for (const line of lines) {
      const [secret = "", publicKey = "", message = "", signed = ""] = line.split(":");
      const key = createPrivateKey({
        key: bytes(prefix + secret.slice(0, 64)),
        format: "der",
        type: "pkcs8",
      });
      const signature = sign(null, bytes(message), key);
      expect(signature.toString("hex")).toBe(signed.slice(0, 128));
      expect(verifyStrict(bytes(publicKey), bytes(message), signature)).toBe(true);
    }
    expect(lines.length).toBe(1024);
  });
});

const P = 2n ** 255n - 19n;
const L = 2n ** 252n + 27742317777372353535851937790883648493n;
const littleEndian = (value: bigint) => Buffer.from(value.toString(16).padStart(64, "0"), "hex").reverse();
const fromLittleEndian = (raw: Uint8Array) => BigInt(`0x${Buffer.from(raw).reverse().toString("hex")}`);
const modular = (value: bigint) => ((value % P) + P) % P;

describe("strictness", () => {
  const signer = testSigner();
  const parsed = parseVkey(signer.vkey);
  const publicKey = parsed.ok ? parsed.value.key.raw : Buffer.alloc(0);
  const message = Buffer.from("a message");
  const signature = signer.sign(message);

  test("accepts a good signature, and none with another message, key, or S + L", () => {
    expect(verifyStrict(publicKey, message, signature)).toBe(true);
    expect(verifyStrict(publicKey, Buffer.from("another"), signature)).toBe(false);
    const malleated = Buffer.concat([
      signature.subarray(0, 32),
      littleEndian(fromLittleEndian(signature.subarray(32)) + L),
    ]);
    expect(verifyStrict(publicKey, message, malleated)).toBe(false);
  });

  test("refuses all 14 encodings of small-order points as a key and as R", () => {
    const encodings = smallOrderEncodings();
    expect(encodings.length).toBe(14);
    for (const point of encodings) {
      expect(readPublicKey(point)).toBeNull();
      // With a key of small order, R = key and S = 0 is the classic signature over anything.
      expect(verifyStrict(point, message, Buffer.concat([point, Buffer.alloc(32)]))).toBe(false);
      expect(verifyStrict(publicKey, message, Buffer.concat([point, signature.subarray(32)]))).toBe(false);
    }
  });

  test("refuses keys that are not canonical: y of p and above", () => {
    for (let y = P; y < 2n ** 255n; y++) expect(readPublicKey(littleEndian(y))).toBeNull();
  });

  test("any bytes of any length give an answer, and no changed signature is good", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), fc.uint8Array({ maxLength: 70 }), (key, signed) => {
        expect(verifyStrict(key, message, signed)).toBe(false);
        expect(verifyStrict(publicKey, message, signed)).toBe(false);
      }),
    );
    for (let bit = 0; bit < 512; bit++) {
      const changed = Buffer.from(signature);
      changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      expect(verifyStrict(publicKey, message, changed)).toBe(false);
    }
  });
});

/** From the curve's equation, not from a list: y of the points whose order divides 8, in every 32-byte encoding. */
function smallOrderEncodings(): Buffer[] {
  const power = (base: bigint, exponent: bigint): bigint => {
    let result = 1n;
    for (let b = base, e = exponent; e > 0n; b = (b * b) % P, e >>= 1n) if (e & 1n) result = (result * b) % P;
    return result;
  };
  const inverse = (value: bigint) => power(modular(value), P - 2n);
  const root = (square: bigint): bigint | null => {
    const half = power(modular(square), (P + 3n) / 8n);
    const candidates = [half, (half * power(2n, (P - 1n) / 4n)) % P];
    return candidates.find((each) => modular(each * each - square) === 0n) ?? null;
  };
  const d = modular(-121665n * inverse(121666n));
  // A point of order 8 doubles to (±√-1, 0): there x² = y² up to sign, so d·y⁴ - 2y² - 1 = 0 or d·y⁴ + 2y² - 1... solve both.
  const ys = new Set<bigint>([0n, 1n, P - 1n]);
  const discriminant = root(modular(1n + d));
  if (discriminant === null) throw new Error("no root of 1 + d");
  for (const sign of [1n, -1n]) {
    for (const signOfRoot of [1n, -1n]) {
      const square = modular((-sign + signOfRoot * discriminant) * inverse(d));
      const y = root(square);
      if (y === null || !isOrder8(y)) continue;
      ys.add(y);
      ys.add(P - y);
    }
  }
  function isOrder8(y: bigint): boolean {
    const y2 = modular(y * y);
    const x2 = modular((y2 - 1n) * inverse(d * y2 + 1n));
    return root(x2) !== null && modular(y2 + x2) === 0n;
  }
  const encodings = [...ys].flatMap((y) => (y + P < 2n ** 255n ? [y, y + P] : [y]));
  return encodings.flatMap((y) => [littleEndian(y), littleEndian(y + 2n ** 255n)]);
}
