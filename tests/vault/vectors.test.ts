import { argon2Sync, createCipheriv, createDecipheriv } from "node:crypto";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { decrypt, encrypt } from "../../daemon/vault/envelope.ts";
import { unwrapKey, wrapKey } from "../../daemon/vault/key-wrap.ts";

const hex = (text: string) => Buffer.from(text.replaceAll(/\s/g, ""), "hex");

describe("key wrap", () => {
  // RFC 5649, section 6
  const KEK = hex("5840df6e29b02af1 ab493b705bf16ea1 ae8338f4dcc176a8");
  test.each([
    [
      "c37b7e6492584340 bed1220780894115 5068f738",
      "138bdeaa9b8fa7fc 61f97742e72248ee 5ae6ae5360d1ae6a 5f54f373fa543b6a",
    ],
    ["466f7250617369", "afbeb0f07dfbf541 9200f2ccb50bb24f"],
  ])("RFC 5649: %s", (key, wrapped) => {
    expect(wrapKey(KEK, hex(key))).toEqual(hex(wrapped));
    expect(unwrapKey(KEK, hex(wrapped))).toEqual(hex(key));
  });

  // RFC 3394, section 4.6: the engine beneath, and that what we make is that very algorithm with RFC 5649's initial value
  const KEK256 = hex("000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F");
  const DATA = hex("00112233445566778899AABBCCDDEEFF000102030405060708090A0B0C0D0E0F");
  test("RFC 3394: 256 bits under 256 bits", () => {
    const cipher = createCipheriv("id-aes256-wrap", KEK256, hex("A6A6A6A6A6A6A6A6"));
    expect(Buffer.concat([cipher.update(DATA), cipher.final()])).toEqual(
      hex("28C9F404C4B810F4 CBCCB35CFB87F826 3F5786E2D80ED326 CBC7F0E71A99F43B FB988B9B7A02DD21"),
    );
    const decipher = createDecipheriv("id-aes256-wrap", KEK256, hex("A65959A6 00000020"));
    expect(decipher.update(wrapKey(KEK256, DATA))).toEqual(DATA);
  });

  test("any key comes back, and nothing that was altered does", () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 32, maxLength: 32 }),
        fc.uint8Array({ minLength: 1, maxLength: 64 }),
        fc.nat(),
        fc.integer({ min: 1, max: 255 }),
        (kek, key, at, flip) => {
          const wrapped = wrapKey(kek, key);
          expect(unwrapKey(kek, wrapped)?.equals(key)).toBe(true);
          wrapped[at % wrapped.length] = (wrapped[at % wrapped.length] ?? 0) ^ flip;
          expect(unwrapKey(kek, wrapped)).toBeNull();
        },
      ),
      { numRuns: 300 },
    );
  });

  test("what is no wrapped key is refused, and so is a key of another length", () => {
    for (const length of [0, 1, 8, 15, 17]) expect(unwrapKey(KEK256, Buffer.alloc(length))).toBeNull();
    expect(() => wrapKey(Buffer.alloc(31), DATA)).toThrow(RangeError);
  });
});

describe("AES-256-GCM", () => {
  // McGrew and Viega, "The Galois/Counter Mode of Operation", the test cases that NIST's validation took over: 13 to 16
  const KEY = hex("feffe9928665731c6d6a8f9467308308 feffe9928665731c6d6a8f9467308308");
  const NONCE = hex("cafebabefacedbaddecaf888");
  const PLAIN = hex(
    "d9313225f88406e5a55909c5aff5269a 86a7a9531534f7da2e4c303d8a318a72 1c3c0c95956809532fcf0e2449a6b525 b16aedf5aa0de657ba637b391aafd255",
  );
  const CIPHER = hex(
    "522dc1f099567d07f47f37a32a84427d 643a8cdcbfe5c0c97598a2bd2555d1aa 8cb08e48590dbb3da7b08b1056828838 c5f61e6393ba7a0abcc9f662898015ad",
  );
  const BOUND = hex("feedfacedeadbeeffeedfacedeadbeefabaddad2");
  const ZERO = { key: Buffer.alloc(32), nonce: Buffer.alloc(12) };
  test.each([
    ["13", ZERO.key, ZERO.nonce, "", "", "", "530f8afbc74536b9a963b4f1c4cb738b"],
    [
      "14",
      ZERO.key,
      ZERO.nonce,
      "",
      "00000000000000000000000000000000",
      "cea7403d4d606b6e074ec5d3baf39d18",
      "d0d1c8a799996bf0265b98b5d48ab919",
    ],
    ["15", KEY, NONCE, "", PLAIN.toString("hex"), CIPHER.toString("hex"), "b094dac5d93471bdec1a502270e3cc6c"],
    [
      "16",
      KEY,
      NONCE,
      BOUND.toString("hex"),
      PLAIN.subarray(0, 60).toString("hex"),
      CIPHER.subarray(0, 60).toString("hex"),
      "76fc6ece0f4e1768cddf8853bb2d551b",
    ],
  ])("case %s", (_, key, nonce, bound, plain, ciphertext, tag) => {
    expect(encrypt(key, nonce, hex(bound), hex(plain))).toEqual({
      ciphertext: hex(ciphertext),
      tag: hex(tag),
    });
    const box = { nonce, bound: hex(bound), ciphertext: hex(ciphertext), tag: hex(tag) };
    expect(decrypt(key, box)).toEqual(hex(plain));
    expect(decrypt(key, { ...box, bound: Buffer.concat([box.bound, Buffer.of(0)]) })).toBeNull();
  });

  test("a shortened tag or nonce opens nothing", () => {
    const { ciphertext, tag } = encrypt(KEY, NONCE, BOUND, PLAIN);
    const box = { nonce: NONCE, bound: BOUND, ciphertext, tag };
    expect(decrypt(KEY, { ...box, tag: tag.subarray(0, 12) })).toBeNull();
    expect(decrypt(KEY, { ...box, nonce: NONCE.subarray(0, 8) })).toBeNull();
  });
});

test("Argon2id: RFC 9106, section 5.3", () => {
  const tag = argon2Sync("argon2id", {
    message: Buffer.alloc(32, 1),
    nonce: Buffer.alloc(16, 2),
    secret: Buffer.alloc(8, 3),
    associatedData: Buffer.alloc(12, 4),
    memory: 32,
    passes: 3,
    parallelism: 4,
    tagLength: 32,
  });
  expect(tag).toEqual(hex("0d640df58d78766c08c037a34a8b53c9d01ef0452d75b65eb52520e96b01e659"));
});
