/** Shannon entropy in bits per character. */
export function entropyBits(text: string): number {
  const counts = new Map<string, number>();
  for (const letter of text) counts.set(letter, (counts.get(letter) ?? 0) + 1);
  let bits = 0;
  for (const count of counts.values()) bits -= (count / text.length) * Math.log2(count / text.length);
  return bits;
}

const LEAST_LENGTH = 12;
/** Hexadecimal tops out at 4 bits: 32 random digits measure 3.5 to 3.8, a name with a number in it seldom 3. */
const LEAST_BITS = 3.2;
/** A call, a variable, a template, a path: what stands in code where a value would. */
const CODE = /[(){}$<>|\\*\s]|^[./~]|\.\.|^(?:[A-Za-z_]\w*\.)+[A-Za-z_]\w*$|\[/;
const PLACEHOLDER =
  /example|sample|placeholder|changeme|change[-_]me|dummy|redacted|your[-_]|xxxx|0000|1234/i;

/** Whether a value that was given to a name like "password" may be one: it is as random as what people are given. */
export function looksRandom(value: string): boolean {
  if (value.length < LEAST_LENGTH || CODE.test(value) || PLACEHOLDER.test(value)) return false;
  return /[0-9]/.test(value) && /[A-Za-z]/.test(value) && entropyBits(value) >= LEAST_BITS;
}
