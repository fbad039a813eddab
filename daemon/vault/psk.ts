/** A key of 32 bytes, for the caller to wipe, or why the text is none. Never the text itself. */
export type ReadKey =
  | { readonly ok: true; readonly key: Buffer }
  | { readonly ok: false; readonly why: string };

const KEY_BYTES = 32;
/** No key is written so long; what is longer is not looked at. */
const MAX_TEXT_BYTES = 1_024;

/**
 * Reads a key of 32 bytes from text: hexadecimal (64 digits), else base64 (RFC 4648, with or without padding). Text that
 * is valid hex is read as hex, also where it is valid base64: 64 hex digits are never 48 bytes of base64. Blanks around
 * it are no part of it. `text` is ASCII bytes, since a string cannot be wiped.
 */
export function readKeyText(text: Buffer): ReadKey {
  if (text.length > MAX_TEXT_BYTES) return no(`${text.length} bytes are no key`);
  const trimmed = trim(text);
  if (trimmed.length === 0) return no("it is empty");
  if (trimmed.every(isHexDigit))
    return trimmed.length === 2 * KEY_BYTES ? yes(fromHex(trimmed)) : no(hexLength(trimmed));
  const bytes = fromBase64(trimmed);
  if (bytes === null) return no("it is neither hex nor base64");
  if (bytes.length === KEY_BYTES) return yes(bytes);
  bytes.fill(0);
  return no(`its base64 is ${bytes.length} bytes, not ${KEY_BYTES}`);
}

function hexLength({ length }: Buffer): string {
  return `it is ${length} hex digits, not ${2 * KEY_BYTES}`;
}

function trim(text: Buffer): Buffer {
  let [start, end] = [0, text.length];
  while (start < end && isBlank(text[start])) start++;
  while (end > start && isBlank(text[end - 1])) end--;
  return text.subarray(start, end);
}

function isBlank(byte: number | undefined): boolean {
  return byte === 0x20 || byte === 0x09 || byte === 0x0a || byte === 0x0d;
}

function isHexDigit(byte: number): boolean {
  return hexValue(byte) !== -1;
}

function hexValue(byte: number): number {
  if (byte >= 0x30 && byte <= 0x39) return byte - 0x30;
  const lower = byte | 0x20;
  return lower >= 0x61 && lower <= 0x66 ? lower - 0x57 : -1;
}

function fromHex(text: Buffer): Buffer {
  const key = Buffer.alloc(text.length / 2);
  for (let at = 0; at < key.length; at++)
    key[at] = (hexValue(text[2 * at] ?? 0) << 4) | hexValue(text[2 * at + 1] ?? 0);
  return key;
}

/** Strict: one text for one key, so no stray bits in the last digit. */
function fromBase64(text: Buffer): Buffer | null {
  let end = text.length;
  while (end > 0 && text[end - 1] === 0x3d && text.length - end < 2) end--;
  const padding = text.length - end;
  if (end % 4 === 1 || (padding > 0 && (end + padding) % 4 !== 0)) return null;
  const bytes = Buffer.alloc(Math.floor((end * 3) / 4));
  let [held, bits, at] = [0, 0, 0];
  for (let index = 0; index < end; index++) {
    const value = base64Value(text[index] ?? 0);
    if (value === -1) return wiped(bytes);
    held = ((held << 6) | value) & 0xffff;
    bits += 6;
    if (bits < 8) continue;
    bits -= 8;
    bytes[at++] = (held >> bits) & 0xff;
  }
  return (held & ((1 << bits) - 1)) === 0 ? bytes : wiped(bytes);
}

function wiped(bytes: Buffer): null {
  bytes.fill(0);
  return null;
}

function base64Value(byte: number): number {
  if (byte >= 0x41 && byte <= 0x5a) return byte - 0x41;
  if (byte >= 0x61 && byte <= 0x7a) return byte - 0x61 + 26;
  if (byte >= 0x30 && byte <= 0x39) return byte - 0x30 + 52;
  if (byte === 0x2b) return 62;
  return byte === 0x2f ? 63 : -1;
}

function yes(key: Buffer): ReadKey {
  return { ok: true, key };
}

function no(why: string): ReadKey {
  return { ok: false, why };
}
