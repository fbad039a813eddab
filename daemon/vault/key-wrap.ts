import { createCipheriv, createDecipheriv } from "node:crypto";

/** RFC 5649, section 3: the upper half of the alternative initial value. The lower half is the length. */
const AIV = Buffer.from("a65959a6", "hex");

/** Wraps a key under a key-encryption key of 16, 24 or 32 bytes: AES key wrap with padding (KWP, RFC 5649). Throws for another length. */
export function wrapKey(kek: Uint8Array, key: Uint8Array): Buffer {
  const cipher = createCipheriv(algorithmFor(kek), kek, AIV);
  return Buffer.concat([cipher.update(key), cipher.final()]);
}

/** The wrapped key, for the caller to wipe; null when it was not wrapped under this one, or was altered. */
export function unwrapKey(kek: Uint8Array, wrapped: Uint8Array): Buffer | null {
  if (wrapped.length < 16 || wrapped.length % 8 !== 0) return null;
  const decipher = createDecipheriv(algorithmFor(kek), kek, AIV);
  try {
    // KWP is done in one piece: what it gives is the whole key, and final() adds nothing
    const key = decipher.update(wrapped);
    decipher.final();
    return key;
  } catch {
    return null;
  }
}

function algorithmFor(kek: Uint8Array): string {
  if (![16, 24, 32].includes(kek.length)) throw new RangeError(`${kek.length} bytes are no AES key`);
  return `id-aes${kek.length * 8}-wrap-pad`;
}
