import { randomBytes } from "node:crypto";
import { BoundaryError } from "../core/errors.ts";
import { GCM_IV_BYTES, GCM_TAG_BYTES } from "./pkcs11-layout.ts";
import type { Pkcs11Module } from "./pkcs11-module.ts";
import { decrypt, encrypt } from "./pkcs11-session.ts";

/**
 * A wrapped key: a byte that says how, a random IV of 96 bits, ciphertext and tag. A stored format: another way to wrap
 * gets another first byte, and this one stays readable.
 */
const FORM = 1;
const MAX_DEK_BYTES = 64;

/** A KEK on a token, in a session. */
export type Held = { readonly id: string; readonly session: bigint; readonly key: bigint };

/** Wraps a key by AES-GCM on the token. */
export async function wrapOn(module: Pkcs11Module, held: Held, dek: Buffer): Promise<Buffer> {
  const iv = randomBytes(GCM_IV_BYTES);
  return Buffer.concat([
    Buffer.from([FORM]),
    iv,
    await encrypt(module, { ...held, iv, aad: boundTo(held) }, dek),
  ]);
}

/** The key, for the caller to wipe. Rejects with "secret-damaged" where it was not wrapped by this KEK, or was altered. */
export async function unwrapOn(module: Pkcs11Module, held: Held, wrapped: Buffer): Promise<Buffer> {
  const damaged = new BoundaryError("secret-damaged", `unwrapping a key with the KEK ${held.id}`);
  const least = 1 + GCM_IV_BYTES + GCM_TAG_BYTES;
  if (wrapped[0] !== FORM || wrapped.length <= least || wrapped.length > least + MAX_DEK_BYTES) throw damaged;
  const iv = Buffer.from(wrapped.subarray(1, 1 + GCM_IV_BYTES));
  const sealed = Buffer.from(wrapped.subarray(1 + GCM_IV_BYTES));
  const plain = await decrypt(module, { ...held, iv, aad: boundTo(held) }, sealed);
  if (Buffer.isBuffer(plain)) return plain;
  // a token that only says "error" may be failing: it is the wrapped key's fault where it can do another one
  if (plain === "unclear") await requireWorking(module, held);
  throw damaged;
}

/** Rejects with "kek-unavailable" where the token does not give back what it was given. */
export async function requireWorking(module: Pkcs11Module, held: Held): Promise<void> {
  const probe = randomBytes(32);
  const at = { ...held, iv: randomBytes(GCM_IV_BYTES), aad: boundTo(held) };
  const back = await decrypt(module, at, await encrypt(module, at, probe));
  if (Buffer.isBuffer(back) && back.equals(probe)) return;
  throw new BoundaryError(
    "kek-unavailable",
    `trying the KEK ${held.id}: it does not give back what it wrapped`,
  );
}

/** Authenticated with each wrapped key: under another id it does not open. */
function boundTo({ id }: Held): Buffer {
  return Buffer.from(`boundary-daemon pkcs11 kek v1\0${id}`);
}
