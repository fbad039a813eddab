import { BoundaryError } from "../core/errors.ts";
import {
  aesGcm,
  aesKeyGeneration,
  CKA,
  CKK_AES,
  CKO_SECRET_KEY,
  CKR,
  GCM_TAG_BYTES,
  initializeArguments,
  nameOf,
  parseSessionState,
  parseTokenInfo,
  SESSION_INFO_BYTES,
  TOKEN_INFO_BYTES,
  type TokenInfo,
  template,
  ulong,
} from "./pkcs11-layout.ts";
import type { FunctionName, Pkcs11Module } from "./pkcs11-module.ts";

/**
 * What a token is asked, a step each. Nothing here is tried twice. Everything rejects with
 * BoundaryError("kek-unavailable") where nothing else is said.
 */
const CKU_USER = 1;
/** CKF_SERIAL_SESSION, which is always set, and CKF_RW_SESSION: keys are made and destroyed. */
const SESSION_FLAGS = 6;
const MAX_SLOTS = 256;
const KEY_BYTES = 32;
/** A module that wants room for whole blocks would leave the operation open, and the session of no use. */
const SPARE_BYTES = 16;

export type Slot = { readonly id: bigint; readonly info: TokenInfo };

/** What the token said is no more than a code; it goes into the message by its name. */
function refused(doing: string, answer: number): BoundaryError {
  return new BoundaryError("kek-unavailable", `${doing}: the token says ${nameOf(answer)}`);
}

async function done(
  module: Pkcs11Module,
  doing: string,
  name: FunctionName,
  ...args: Parameters<Pkcs11Module["call"]> extends [unknown, ...infer Rest] ? Rest : never
): Promise<void> {
  const answer = await module.call(name, ...args);
  if (answer !== CKR.OK) throw refused(doing, answer);
}

/** A module that has seen nothing yet, also where it was in use: tokens that came or went since are known then. No session may be open. */
export async function begin(module: Pkcs11Module): Promise<void> {
  const ended = await module.call("C_Finalize", null);
  if (ended !== CKR.OK && ended !== CKR.CRYPTOKI_NOT_INITIALIZED)
    throw refused("ending what the module knew", ended);
  await done(module, "starting the module", "C_Initialize", initializeArguments());
}

/** The one token with this label: the PIN goes to no other. */
export async function findToken(module: Pkcs11Module, label: string): Promise<Slot> {
  const doing = `looking for the token ${label}`;
  const count = ulong();
  await done(module, doing, "C_GetSlotList", 1, null, count);
  // one may be plugged in meanwhile
  const room = Math.min(Number(count.readBigUInt64LE()) + 8, MAX_SLOTS);
  const ids = Buffer.alloc(room * 8);
  count.writeBigUInt64LE(BigInt(room));
  await done(module, doing, "C_GetSlotList", 1, ids, count);
  const found: Slot[] = [];
  for (let at = 0; at < Number(count.readBigUInt64LE()); at++) {
    const id = ids.readBigUInt64LE(at * 8);
    const info = await tokenInfo(module, id).catch(() => null); // a slot that does not answer is not ours
    if (info?.initialized && info.label === label) found.push({ id, info });
  }
  const [first, second] = found;
  if (first === undefined) throw new BoundaryError("kek-unavailable", `${doing}: it is not there`);
  if (second !== undefined)
    throw new BoundaryError("kek-unavailable", `${doing}: ${found.length} tokens have that label`);
  return first;
}

export async function tokenInfo(module: Pkcs11Module, slot: bigint): Promise<TokenInfo> {
  const bytes = Buffer.alloc(TOKEN_INFO_BYTES);
  await done(module, "asking the token about itself", "C_GetTokenInfo", slot, bytes);
  return parseTokenInfo(bytes);
}

export async function openSession(module: Pkcs11Module, slot: bigint): Promise<bigint> {
  const session = ulong();
  await done(module, "opening a session", "C_OpenSession", slot, SESSION_FLAGS, null, null, session);
  return session.readBigUInt64LE();
}

/** Who is logged in to the token: all sessions of a process are, or none. */
export async function loginState(
  module: Pkcs11Module,
  session: bigint,
): Promise<ReturnType<typeof parseSessionState>> {
  const bytes = Buffer.alloc(SESSION_INFO_BYTES);
  await done(module, "asking who is logged in", "C_GetSessionInfo", session, bytes);
  return parseSessionState(bytes);
}

/** Logs in, once. "wrong": the token has counted it. */
export async function logIn(module: Pkcs11Module, session: bigint, pin: Buffer): Promise<"in" | "wrong"> {
  const answer = await module.call("C_Login", session, CKU_USER, pin, pin.length);
  if (answer === CKR.OK) return "in";
  const wrong: readonly number[] = [CKR.PIN_INCORRECT, CKR.PIN_INVALID, CKR.PIN_LEN_RANGE];
  if (wrong.includes(answer)) return "wrong";
  throw refused("logging in to the token", answer);
}

/** Whoever was logged in before. What it answers says nothing that a login would not. */
export async function logOut(module: Pkcs11Module, session: bigint): Promise<void> {
  await module.call("C_Logout", session);
}

export async function closeSession(module: Pkcs11Module, session: bigint): Promise<void> {
  await module.call("C_CloseSession", session);
}

/**
 * Synchronous. `isLast`: nobody else is logged in by us, and nobody is after that; the end of its last session logs a
 * process out in any case. A token that was pulled knows no such session, and about another answer nothing can be done.
 */
export function closeNow(module: Pkcs11Module, session: bigint, isLast: boolean): void {
  if (isLast) module.callNow("C_Logout", session);
  module.callNow("C_CloseSession", session);
}

/** Makes an AES-256 key that the token does not give away. Its id is the KEK's. */
export async function generateKey(
  module: Pkcs11Module,
  session: bigint,
  { id, label }: { readonly id: string; readonly label: string },
): Promise<bigint> {
  const key = ulong();
  const wanted = template([
    [CKA.CLASS, CKO_SECRET_KEY],
    [CKA.KEY_TYPE, CKK_AES],
    [CKA.VALUE_LEN, KEY_BYTES],
    [CKA.TOKEN, true],
    [CKA.PRIVATE, true],
    [CKA.SENSITIVE, true],
    [CKA.EXTRACTABLE, false],
    [CKA.ENCRYPT, true],
    [CKA.DECRYPT, true],
    [CKA.WRAP, false],
    [CKA.UNWRAP, false],
    [CKA.SIGN, false],
    [CKA.VERIFY, false],
    [CKA.DERIVE, false],
    [CKA.LABEL, Buffer.from(label)],
    [CKA.ID, Buffer.from(id)],
  ]);
  const doing = `making the key ${id}`;
  const attributes = wanted.bytes.length / 24;
  await done(module, doing, "C_GenerateKey", session, aesKeyGeneration(), wanted, attributes, key);
  return key.readBigUInt64LE();
}

/** The handles of the keys of this id: none, one, or (somebody else's doing) two. */
export async function findKeys(
  module: Pkcs11Module,
  session: bigint,
  id: string,
): Promise<readonly bigint[]> {
  const doing = `looking for the key ${id}`;
  const wanted = template([
    [CKA.CLASS, CKO_SECRET_KEY],
    [CKA.KEY_TYPE, CKK_AES],
    [CKA.TOKEN, true],
    [CKA.ID, Buffer.from(id)],
  ]);
  await done(module, doing, "C_FindObjectsInit", session, wanted, wanted.bytes.length / 24);
  const handles = Buffer.alloc(2 * 8);
  const count = ulong();
  try {
    await done(module, doing, "C_FindObjects", session, handles, 2, count);
  } finally {
    await module.call("C_FindObjectsFinal", session);
  }
  return [0, 1].slice(0, Number(count.readBigUInt64LE())).map((at) => handles.readBigUInt64LE(at * 8));
}

/** A token may pass over what it was asked for, and somebody may have put a key of his own there. */
export async function requireSealed(module: Pkcs11Module, session: bigint, key: bigint): Promise<void> {
  const [sensitive, extractable, length] = [Buffer.alloc(1), Buffer.alloc(1, 1), ulong()];
  const asked = template([
    [CKA.SENSITIVE, sensitive],
    [CKA.EXTRACTABLE, extractable],
    [CKA.VALUE_LEN, length],
  ]);
  await done(module, "asking how the key is kept", "C_GetAttributeValue", session, key, asked, 3);
  if (sensitive[0] !== 1 || extractable[0] !== 0 || length.readBigUInt64LE() !== BigInt(KEY_BYTES))
    throw new BoundaryError(
      "kek-unavailable",
      "using the key: the token would give it away, or it has another length than 256 bits",
    );
}

export async function destroyKey(module: Pkcs11Module, session: bigint, key: bigint): Promise<void> {
  await done(module, "destroying a key", "C_DestroyObject", session, key);
}

type Gcm = { readonly session: bigint; readonly key: bigint; readonly iv: Buffer; readonly aad: Buffer };

/** AES-GCM on the token: ciphertext and tag. */
export async function encrypt(
  module: Pkcs11Module,
  { session, key, iv, aad }: Gcm,
  plain: Buffer,
): Promise<Buffer> {
  const doing = "wrapping a key on the token";
  await done(module, doing, "C_EncryptInit", session, aesGcm(iv, aad), key);
  const sealedLength = plain.length + GCM_TAG_BYTES;
  const out = Buffer.alloc(sealedLength + SPARE_BYTES);
  const length = ulong(BigInt(out.length));
  await done(module, doing, "C_Encrypt", session, plain, plain.length, out, length);
  if (length.readBigUInt64LE() === BigInt(sealedLength)) return out.subarray(0, sealedLength);
  throw new BoundaryError("kek-unavailable", `${doing}: what came back has a wrong length`);
}

/** The plain text, for the caller to wipe; else what the token said: "altered", or a code that can mean that as well. */
export async function decrypt(
  module: Pkcs11Module,
  { session, key, iv, aad }: Gcm,
  sealed: Buffer,
): Promise<Buffer | "altered" | "unclear"> {
  const doing = "unwrapping a key on the token";
  await done(module, doing, "C_DecryptInit", session, aesGcm(iv, aad), key);
  const out = Buffer.alloc(sealed.length + SPARE_BYTES);
  const length = ulong(BigInt(out.length));
  const answer = await module.call("C_Decrypt", session, sealed, sealed.length, out, length);
  const plainLength = sealed.length - GCM_TAG_BYTES;
  if (answer === CKR.OK && length.readBigUInt64LE() === BigInt(plainLength)) {
    const plain = Buffer.from(out.subarray(0, plainLength));
    out.fill(0);
    return plain;
  }
  out.fill(0);
  if (ALTERED.includes(answer)) return "altered";
  if (answer === CKR.OK || answer === CKR.GENERAL_ERROR || answer === CKR.FUNCTION_FAILED) return "unclear";
  throw refused(doing, answer);
}

const ALTERED: readonly number[] = [
  CKR.DATA_INVALID,
  CKR.DATA_LEN_RANGE,
  CKR.ENCRYPTED_DATA_INVALID,
  CKR.ENCRYPTED_DATA_LEN_RANGE,
  CKR.AEAD_DECRYPT_FAILED,
];
