/**
 * Cedar's Long: a signed 64-bit integer. A number while it is a safe integer, a bigint beyond; no other form exists,
 * so `===` is equality, and the usual case costs no allocation.
 */
export type Long = number | bigint;

const LEAST = -(2n ** 63n);
const GREATEST = 2n ** 63n - 1n;

/** The Long of an exact integer; null when it does not fit into 64 bits. */
export function longOf(exact: bigint): Long | null {
  if (exact < LEAST || exact > GREATEST) return null;
  const short = Number(exact);
  return Number.isSafeInteger(short) ? short : exact;
}

/** The sum; null on overflow. */
export function addLong(a: Long, b: Long): Long | null {
  if (typeof a === "number" && typeof b === "number") {
    const sum = a + b;
    if (Number.isSafeInteger(sum)) return sum;
  }
  return longOf(BigInt(a) + BigInt(b));
}

/** The difference; null on overflow. */
export function subtractLong(a: Long, b: Long): Long | null {
  if (typeof a === "number" && typeof b === "number") {
    const difference = a - b;
    if (Number.isSafeInteger(difference)) return difference;
  }
  return longOf(BigInt(a) - BigInt(b));
}

/** The product; null on overflow. */
export function multiplyLong(a: Long, b: Long): Long | null {
  if (typeof a === "number" && typeof b === "number") {
    // a product that is rounded is at least 2^53 after it too; "+ 0" makes -0 a 0
    const product = a * b + 0;
    if (Number.isSafeInteger(product)) return product;
  }
  return longOf(BigInt(a) * BigInt(b));
}

/** The quotient, towards zero. */
export function divideLong(a: Long, by: number): Long {
  // the remainder is exact, and so is the division of an exact multiple; a / by may be rounded up
  if (typeof a === "number") return (a - (a % by)) / by + 0;
  return longOf(a / BigInt(by)) ?? 0;
}

/** The remainder, never negative. */
export function moduloLong(a: Long, by: number): number {
  const rest = typeof a === "number" ? a % by : Number(a % BigInt(by));
  return rest < 0 ? rest + by : rest + 0;
}
