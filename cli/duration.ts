import { usageError } from "./exit.ts";

const UNIT_MS: Readonly<Record<string, number>> = { s: 1_000, m: 60_000, h: 3_600_000 };
const MOST_MS = 86_400_000;

/** "90s", "10m", "2h" in milliseconds, one second to one day. Throws a usage error for anything else. */
export function parseDuration(text: string): number {
  const found = /^([0-9]{1,5})([smh])$/.exec(text);
  const ms = Number(found?.[1]) * (UNIT_MS[found?.[2] ?? ""] ?? Number.NaN);
  if (ms >= 1_000 && ms <= MOST_MS) return ms;
  throw usageError(`${JSON.stringify(text)} is no duration: write 90s, 10m or 2h, one second to one day`);
}
