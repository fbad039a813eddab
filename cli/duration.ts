import { usageError } from "./exit.ts";

const UNIT_MS: Readonly<Record<string, number>> = { s: 1_000, m: 60_000, h: 3_600_000 };
const MOST_MS = 86_400_000;

/** As `parseDuration`, and "30d": up to ten years. Throws a usage error for anything else. */
export function parseLife(text: string): number {
  const days = /^([0-9]{1,4})d$/.exec(text);
  if (days === null) return parseDuration(text);
  const ms = Number(days[1]) * MOST_MS;
  if (ms >= MOST_MS && ms <= 3_650 * MOST_MS) return ms;
  throw usageError(`${JSON.stringify(text)} is no such time: one day to 3650d`);
}

/** "90s", "10m", "2h" in milliseconds, one second to one day. Throws a usage error for anything else. */
export function parseDuration(text: string): number {
  const found = /^([0-9]{1,5})([smh])$/.exec(text);
  const ms = Number(found?.[1]) * (UNIT_MS[found?.[2] ?? ""] ?? Number.NaN);
  if (ms >= 1_000 && ms <= MOST_MS) return ms;
  throw usageError(`${JSON.stringify(text)} is no duration: write 90s, 10m or 2h, one second to one day`);
}
