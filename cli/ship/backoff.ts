const FIRST_MS = 1_000;
const MOST_MS = 60_000;

/**
 * How long to wait before the next attempt, milliseconds: twice as long each time up to a minute, and somewhere in the
 * upper half of that, so that many hosts do not come back at one moment. `random` is from 0 to 1.
 */
export function backoffMs(failures: number, random: number): number {
  const most = Math.min(MOST_MS, FIRST_MS * 2 ** Math.min(failures - 1, 30));
  return Math.round(most / 2 + (most / 2) * random);
}
