/**
 * Checksums that some formats of secrets carry. Where one holds the text is a secret, and where one of the full length fails
 * it is a placeholder or was made up: nobody ever issued it.
 */
export type Checksum = "holds" | "fails" | "none";

/** Of a secret as its shape found it, without line breaks. "none": this format has no checksum, or the text was cut. */
export function checksumOf(secret: string): Checksum {
  const issued = CRC_FORMAT.exec(secret);
  if (issued !== null) {
    const [, random = "", sum = ""] = issued;
    return base62(crc32(random)) === sum ? "holds" : "fails";
  }
  if (AGE_FORMAT.test(secret)) return bech32Holds(secret.toLowerCase()) ? "holds" : "fails";
  return "none";
}

/** GitHub's tokens since 2021, and npm's: 30 random characters, then their CRC-32 in six digits of base 62. */
const CRC_FORMAT = /^(?:gh[pousr]|npm)_([0-9A-Za-z]{30})([0-9A-Za-z]{6})$/;
const AGE_FORMAT = /^AGE-SECRET-KEY-1[02-9AC-HJ-NP-Z]{58}$/;

const DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

function base62(value: number): string {
  let text = "";
  for (let left = value; left > 0; left = Math.floor(left / 62)) text = (DIGITS[left % 62] ?? "") + text;
  return text.padStart(6, "0");
}

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value;
});

/** The CRC-32 of zip and PNG, of ASCII text. */
function crc32(text: string): number {
  let value = 0xffffffff;
  for (let at = 0; at < text.length; at++)
    value = (value >>> 8) ^ (CRC_TABLE[(value ^ text.charCodeAt(at)) & 0xff] ?? 0);
  return (value ^ 0xffffffff) >>> 0;
}

const BECH32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l";
const BECH32_STEPS = [0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3];

/** BIP 173, in lower case: a name, "1", then data with six characters of checksum. */
function bech32Holds(text: string): boolean {
  const cut = text.lastIndexOf("1");
  const codes = Array.from(text.slice(0, cut), (letter) => letter.charCodeAt(0));
  const data = Array.from(text.slice(cut + 1), (letter) => BECH32.indexOf(letter));
  const values = [...codes.map((code) => code >> 5), 0, ...codes.map((code) => code & 31), ...data];
  let sum = 1;
  for (const value of values) {
    const top = sum >>> 25;
    sum = ((sum & 0x1ffffff) << 5) ^ value;
    for (const [bit, step] of BECH32_STEPS.entries()) if ((top >> bit) & 1) sum ^= step;
  }
  return sum === 1;
}
