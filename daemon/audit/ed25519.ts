import { createPublicKey, type KeyObject, verify } from "node:crypto";

/**
 * Ed25519 on node:crypto, made strict. OpenSSL alone accepts small-order and non-canonical keys, differently from
 * version to version, so that two verifiers could disagree about one log. The rules are RFC 8032's, plus: S < L,
 * canonical A, and none of the 14 encodings of a point of small order as A or R.
 */
export type PublicKey = { readonly raw: Buffer; readonly key: KeyObject };

const PUBLIC_KEY_BYTES = 32;
const SIGNATURE_BYTES = 64;

/** Reads a raw public key; null when it is not 32 bytes, not canonical, of small order or not on the curve. */
export function readPublicKey(raw: Uint8Array): PublicKey | null {
  if (raw.length !== PUBLIC_KEY_BYTES || !isCanonical(raw) || isSmallOrder(raw)) return null;
  const copy = Buffer.from(raw);
  try {
    const key = createPublicKey({ key: Buffer.concat([SPKI_PREFIX, copy]), format: "der", type: "spki" });
    return { raw: copy, key };
  } catch {
    return null; // a key that cannot be read verifies nothing
  }
}

/** True when the signature is good, by the strict rules. Never throws for bad bytes. */
export function verifySignature(key: PublicKey, message: Uint8Array, signature: Uint8Array): boolean {
  if (signature.length !== SIGNATURE_BYTES) return false;
  if (isSmallOrder(signature.subarray(0, 32)) || !isBelowOrder(signature.subarray(32))) return false;
  return verify(null, message, key.key, signature);
}

/** The same with a raw key; reading a key costs about as much as the check, so keep the PublicKey for many. */
export function verifyStrict(publicKey: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean {
  const key = readPublicKey(publicKey);
  return key !== null && verifySignature(key, message, signature);
}

/** SubjectPublicKeyInfo of an Ed25519 key up to the key itself (RFC 8410). */
const SPKI_PREFIX = Buffer.from("302a300506032b6570032100", "hex");

/** L, the order of the base point: 2^252 + 27742317777372353535851937790883648493. Little-endian. */
const ORDER = littleEndian(2n ** 252n + 27742317777372353535851937790883648493n);
const P = 2n ** 255n - 19n;
const PRIME = littleEndian(P);

/** y of the points of order 8: this and its negative. */
const ORDER_8_Y = 0x05fc536d880238b13933c6d305acdfd5f098eff289f4c345b027b2c28f95e826n;
/** All y that encode a point of small order, the non-canonical p and p+1 (as 0 and 1) included; each with both signs of x. */
const SMALL_ORDER_Y = [0n, 1n, P - 1n, P, P + 1n, ORDER_8_Y, P - ORDER_8_Y].map((y) =>
  hexOf(littleEndian(y)),
);
const SMALL_ORDER: ReadonlySet<string> = new Set(SMALL_ORDER_Y);

function isSmallOrder(point: Uint8Array): boolean {
  return SMALL_ORDER.has(hexOf(withoutSign(point)));
}

function isCanonical(point: Uint8Array): boolean {
  return isBelow(withoutSign(point), PRIME);
}

function isBelowOrder(scalar: Uint8Array): boolean {
  return isBelow(scalar, ORDER);
}

/** The y coordinate: the top bit of the last byte is the sign of x. */
function withoutSign(point: Uint8Array): Buffer {
  const y = Buffer.from(point);
  y[31] = (y[31] ?? 0) & 0x7f;
  return y;
}

function isBelow(a: Uint8Array, b: Uint8Array): boolean {
  for (let i = 31; i >= 0; i--) {
    const difference = (a[i] ?? 0) - (b[i] ?? 0);
    if (difference !== 0) return difference < 0;
  }
  return false;
}

function littleEndian(value: bigint): Buffer {
  return Buffer.from(value.toString(16).padStart(64, "0"), "hex").reverse();
}

function hexOf(bytes: Buffer): string {
  return bytes.toString("hex");
}
