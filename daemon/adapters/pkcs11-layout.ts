import koffi from "koffi";

/**
 * The bytes of PKCS#11 v2.40 on 64-bit Linux: CK_ULONG has 8 bytes, structures have the compiler's own layout, and
 * numbers are little-endian (x64, arm64). What points to other memory holds that memory.
 */
export type Packed = { readonly bytes: Buffer; readonly holds: readonly Buffer[] };
type AttributeValue = boolean | number | Buffer;

export const CKA = {
  CLASS: 0x0,
  TOKEN: 0x1,
  PRIVATE: 0x2,
  LABEL: 0x3,
  KEY_TYPE: 0x100,
  ID: 0x102,
  SENSITIVE: 0x103,
  ENCRYPT: 0x104,
  DECRYPT: 0x105,
  WRAP: 0x106,
  UNWRAP: 0x107,
  SIGN: 0x108,
  VERIFY: 0x10a,
  DERIVE: 0x10c,
  VALUE_LEN: 0x161,
  EXTRACTABLE: 0x162,
} as const;
export const CKO_SECRET_KEY = 4;
export const CKK_AES = 0x1f;
const CKM_AES_KEY_GEN = 0x1080;
const CKM_AES_GCM = 0x1087;
export const GCM_IV_BYTES = 12;
export const GCM_TAG_BYTES = 16;

/** Return values that are told by name, or that we do something about. */
export const CKR = {
  OK: 0x0,
  HOST_MEMORY: 0x2,
  GENERAL_ERROR: 0x5,
  FUNCTION_FAILED: 0x6,
  ATTRIBUTE_SENSITIVE: 0x11,
  DATA_INVALID: 0x20,
  DATA_LEN_RANGE: 0x21,
  DEVICE_ERROR: 0x30,
  DEVICE_MEMORY: 0x31,
  DEVICE_REMOVED: 0x32,
  ENCRYPTED_DATA_INVALID: 0x40,
  ENCRYPTED_DATA_LEN_RANGE: 0x41,
  AEAD_DECRYPT_FAILED: 0x42,
  KEY_HANDLE_INVALID: 0x60,
  MECHANISM_INVALID: 0x70,
  MECHANISM_PARAM_INVALID: 0x71,
  OBJECT_HANDLE_INVALID: 0x82,
  PIN_INCORRECT: 0xa0,
  PIN_INVALID: 0xa1,
  PIN_LEN_RANGE: 0xa2,
  PIN_EXPIRED: 0xa3,
  PIN_LOCKED: 0xa4,
  SESSION_CLOSED: 0xb0,
  SESSION_COUNT: 0xb1,
  SESSION_HANDLE_INVALID: 0xb3,
  TOKEN_NOT_PRESENT: 0xe0,
  TOKEN_NOT_RECOGNIZED: 0xe1,
  TOKEN_WRITE_PROTECTED: 0xe2,
  USER_ALREADY_LOGGED_IN: 0x100,
  USER_NOT_LOGGED_IN: 0x101,
  USER_PIN_NOT_INITIALIZED: 0x102,
  CRYPTOKI_NOT_INITIALIZED: 0x190,
  CRYPTOKI_ALREADY_INITIALIZED: 0x191,
} as const;

/** As the specification calls it. */
export function nameOf(code: number): string {
  const found = Object.entries(CKR).find(([, value]) => value === code);
  return found ? `CKR_${found[0]}` : `CKR 0x${code.toString(16)}`;
}

/** CK_C_INITIALIZE_ARGS: the module may use the system's own locks. */
export function initializeArguments(): Buffer {
  const CKF_OS_LOCKING_OK = 2n;
  const bytes = Buffer.alloc(48);
  bytes.writeBigUInt64LE(CKF_OS_LOCKING_OK, 32);
  return bytes;
}

/** An array of CK_ATTRIBUTE. A number is a CK_ULONG. */
export function template(attributes: readonly (readonly [number, AttributeValue])[]): Packed {
  const bytes = Buffer.alloc(attributes.length * 24);
  const holds = attributes.map(([, value]) => bytesOf(value));
  attributes.forEach(([type], index) => {
    const held = holds[index] ?? Buffer.alloc(0);
    bytes.writeBigUInt64LE(BigInt(type), index * 24);
    bytes.writeBigUInt64LE(held.length === 0 ? 0n : koffi.address(held), index * 24 + 8);
    bytes.writeBigUInt64LE(BigInt(held.length), index * 24 + 16);
  });
  return { bytes, holds };
}

function bytesOf(value: AttributeValue): Buffer {
  if (typeof value === "number") return ulong(BigInt(value));
  return typeof value === "boolean" ? Buffer.from([value ? 1 : 0]) : value;
}

/** CK_MECHANISM of a new AES key. */
export function aesKeyGeneration(): Packed {
  return mechanism(CKM_AES_KEY_GEN, null, []);
}

/** CK_MECHANISM with CK_GCM_PARAMS: pIv, ulIvLen, ulIvBits, pAAD, ulAADLen, ulTagBits. */
export function aesGcm(iv: Buffer, aad: Buffer): Packed {
  const parameters = Buffer.alloc(48);
  parameters.writeBigUInt64LE(koffi.address(iv), 0);
  parameters.writeBigUInt64LE(BigInt(iv.length), 8);
  parameters.writeBigUInt64LE(BigInt(iv.length * 8), 16);
  parameters.writeBigUInt64LE(koffi.address(aad), 24);
  parameters.writeBigUInt64LE(BigInt(aad.length), 32);
  parameters.writeBigUInt64LE(BigInt(GCM_TAG_BYTES * 8), 40);
  return mechanism(CKM_AES_GCM, parameters, [iv, aad]);
}

function mechanism(type: number, parameters: Buffer | null, holds: readonly Buffer[]): Packed {
  const bytes = Buffer.alloc(24);
  bytes.writeBigUInt64LE(BigInt(type), 0);
  if (parameters === null) return { bytes, holds };
  bytes.writeBigUInt64LE(koffi.address(parameters), 8);
  bytes.writeBigUInt64LE(BigInt(parameters.length), 16);
  return { bytes, holds: [parameters, ...holds] };
}

/** A CK_ULONG to be written to, or read. */
export function ulong(value = 0n): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(value);
  return bytes;
}

export const TOKEN_INFO_BYTES = 208;
export type TokenInfo = {
  /** Without the blanks at its end. */
  readonly label: string;
  readonly serial: string;
  readonly loginRequired: boolean;
  readonly initialized: boolean;
  readonly pinInitialized: boolean;
  /** A PIN was wrong since the last right one. */
  readonly pinCountLow: boolean;
  /** The next wrong one locks it. */
  readonly pinFinalTry: boolean;
  readonly pinLocked: boolean;
};

/** CK_TOKEN_INFO. Texts are UTF-8, padded with blanks; what is none of it is replaced, and matches nothing. */
export function parseTokenInfo(bytes: Buffer): TokenInfo {
  const text = (at: number, length: number) =>
    bytes
      .subarray(at, at + length)
      .toString("utf8")
      .replace(/[ \0]+$/, "");
  const flags = bytes.readBigUInt64LE(96);
  const has = (flag: bigint) => (flags & flag) !== 0n;
  return {
    label: text(0, 32),
    // it goes into messages
    serial: text(80, 16).replace(/[^ -~]/g, "?"),
    loginRequired: has(0x4n),
    initialized: has(0x400n),
    pinInitialized: has(0x8n),
    pinCountLow: has(0x10000n),
    pinFinalTry: has(0x20000n),
    pinLocked: has(0x40000n),
  };
}

export const SESSION_INFO_BYTES = 32;

/** CK_SESSION_INFO: who is logged in. */
export function parseSessionState(bytes: Buffer): "public" | "user" | "other" {
  const state = bytes.readBigUInt64LE(8);
  if (state === 0n || state === 2n) return "public";
  return state === 1n || state === 3n ? "user" : "other";
}
