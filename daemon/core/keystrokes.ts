/**
 * Whether keys were pressed by a person, judged by the times of key-downs alone: which keys they were is never known
 * here. It sees the usual injection device, which types as fast as it can, or at a fixed pace; it does not see one that
 * types like a person. For those there is the challenge (core/usb-challenge.ts).
 *
 * People: 168,000 of them in Dhakal et al., Observations on Typing from 136 Million Keystrokes (CHI 2018), type 52 words
 * a minute on average, one key in some 240 ms, the fast ones one in 120 ms. Records of typing are 212 to 231 words a
 * minute for minutes, 300 in bursts of 15 s: 25 keys a second. Two fingers drumming do as much. Injection devices send a
 * key in 2 to 20 ms: the bus is asked for a report every 1 to 10 ms, and a key needs one for down and one for up.
 */
export type KeystrokeLimits = {
  /** More key-downs a second than this, over `keys` of them, is no person. */
  readonly maxPerSecond: number;
  /** How many of them in a row make a judgement: one chord, or an arm on the keyboard, is fewer than 20. */
  readonly keys: number;
};

/** The newest key-downs of one device, microseconds, in their order; bounded. */
export type Keystrokes = { readonly timesUs: readonly number[] };

/** No person did this: so many key-downs within so long. */
export type Injection = {
  readonly keys: number;
  readonly milliseconds: number;
  readonly why: "too fast" | "too regular";
};

export const NO_KEYSTROKES: Keystrokes = { timesUs: [] };
/** Fewer than 20 may be an arm on the keyboard. */
export const KEYS_JUDGED = 20;

/**
 * A fixed pace shows over this many intervals. The time between two reports (10 ms at most) makes two neighbouring
 * values of one interval. A person who taps as evenly as people can has a standard deviation of 6 ms: one in four of his
 * intervals is another value.
 */
const REGULAR_INTERVALS = 80;
const REGULAR_SPREAD_US = 10_000;
const REGULAR_MEAN_US = 250_000;

/**
 * Takes in a key-down, and judges. After an injection the count begins anew. `atUs`: of the kernel's monotonic clock;
 * the interfaces of one device may be read out of order.
 */
export function keyDown(
  before: Keystrokes,
  atUs: number,
  limits: KeystrokeLimits,
): { readonly after: Keystrokes; readonly injection: Injection | null } {
  const kept = Math.max(limits.keys, REGULAR_INTERVALS + 1);
  const timesUs = [...before.timesUs, atUs].toSorted((a, b) => a - b).slice(-kept);
  const injection = tooFast(timesUs, limits) ?? tooRegular(timesUs);
  return { after: injection === null ? { timesUs } : NO_KEYSTROKES, injection };
}

function tooFast(timesUs: readonly number[], { keys, maxPerSecond }: KeystrokeLimits): Injection | null {
  if (timesUs.length < keys) return null;
  const spanUs = spanOf(timesUs.slice(-keys));
  return spanUs * maxPerSecond <= (keys - 1) * 1_000_000 ? injected(keys, spanUs, "too fast") : null;
}

function tooRegular(timesUs: readonly number[]): Injection | null {
  if (timesUs.length <= REGULAR_INTERVALS) return null;
  const last = timesUs.slice(-REGULAR_INTERVALS - 1);
  const intervals = last.slice(1).map((time, index) => time - (last[index] ?? time));
  const spread = Math.max(...intervals) - Math.min(...intervals);
  const spanUs = spanOf(last);
  if (spread > REGULAR_SPREAD_US || spanUs > REGULAR_MEAN_US * REGULAR_INTERVALS) return null;
  return injected(last.length, spanUs, "too regular");
}

function spanOf(timesUs: readonly number[]): number {
  return (timesUs.at(-1) ?? 0) - (timesUs[0] ?? 0);
}

function injected(keys: number, spanUs: number, why: Injection["why"]): Injection {
  return { keys, milliseconds: Math.round(spanUs / 1_000), why };
}
