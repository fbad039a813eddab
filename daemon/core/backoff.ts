/** How long to wait between tries: twice as long each time, up to a limit. */
export type Backoff = { readonly firstMs: number; readonly mostMs: number };

/** The longest wait after so many failures (1 and more): exponential, without randomness. */
export function ceilingMs({ firstMs, mostMs }: Backoff, failures: number): number {
  return Math.min(firstMs * 2 ** Math.min(Math.max(failures, 1) - 1, 52), mostMs);
}

/**
 * Full jitter: anything up to the ceiling, so that what failed together does not come back together. `random` is in
 * [0, 1). At least a millisecond: none is a loop.
 */
export function jitteredMs(backoff: Backoff, failures: number, random: number): number {
  return Math.max(1, Math.floor(random * ceilingMs(backoff, failures)));
}
