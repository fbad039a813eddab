import { createHmac } from "node:crypto";

export const FINGERPRINT_KEY_BYTES = 32;
/** 64 bits: enough to tell a workspace's secrets apart, too few to be of use as a digest of one. */
const FINGERPRINT_BYTES = 8;

/**
 * A redacted derivative for search: HMAC-SHA-256 (RFC 2104) of the value under the workspace's own key, cut to 16 hex
 * digits. Equal secrets of a workspace have equal ones; without the key nobody can try values against it.
 */
export function fingerprintOf(key: Uint8Array, value: Uint8Array): string {
  return hmac(key, "fingerprint", value).subarray(0, FINGERPRINT_BYTES).toString("hex");
}

/** HMAC-SHA-256 of some bytes, for one purpose: what is made for one says nothing of what is made for another. */
export function hmac(key: Uint8Array, purpose: string, value: Uint8Array): Buffer {
  return createHmac("sha256", key).update(`${purpose}\0`).update(value).digest();
}
