import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Injection, KEYS_JUDGED, keyDown, NO_KEYSTROKES } from "../../daemon/core/keystrokes.ts";

const limits = { maxPerSecond: 40, keys: KEYS_JUDGED };
const HOUR_MS = 3_600_000;
const seed = fc.integer({ min: 1, max: 2 ** 31 - 1 });

function judge(timesMs: Iterable<number>): readonly Injection[] {
  let strokes = NO_KEYSTROKES;
  const found: Injection[] = [];
  for (const ms of timesMs) {
    const { after, injection } = keyDown(strokes, Math.round(ms * 1_000), limits);
    strokes = after;
    if (injection !== null) found.push(injection);
  }
  return found;
}

/** Numbers in (0, 1), the same for the same seed (mulberry32). */
function randomOf(start: number): () => number {
  let state = start;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return (((mixed ^ (mixed >>> 14)) >>> 0) + 0.5) / 2 ** 32;
  };
}

/** Inter-key intervals of people are about log-normal. */
function logNormal(random: () => number, median: number, sigma: number): number {
  const normal = Math.sqrt(-2 * Math.log(random())) * Math.cos(2 * Math.PI * random());
  return median * Math.exp(sigma * normal);
}

/**
 * An hour at a keyboard that is asked every `reportMs`: words and pauses, bursts of a practised word (rollover, keys 12 to
 * 40 ms apart), chords of several keys at once, and now and then an arm on the keys.
 */
function* person(at: { seed: number; wpm: number; sigma: number; reportMs: number }): Generator<number> {
  const random = randomOf(at.seed);
  const median = 12_000 / at.wpm;
  let now = 0;
  const report = () => Math.ceil(now / at.reportMs) * at.reportMs;
  while (now < HOUR_MS) {
    const what = random();
    if (what < 0.02) {
      const keys = 2 + Math.floor(random() * 4);
      for (let key = 0; key < keys; key += 1) yield report();
      now += 250 + random() * 300;
    } else if (what < 0.12) {
      const keys = 3 + Math.floor(random() * 6);
      for (let key = 0; key < keys; key += 1) {
        now += 12 + random() * 28;
        yield report();
      }
      now += 150; // a word in 180 ms and its space: the pace of the records
    } else if (what < 0.122) {
      const keys = 8 + Math.floor(random() * 6);
      now += 500;
      for (let key = 0; key < keys; key += 1) {
        now += random() * 4;
        yield report();
      }
      now += 500;
    } else if (what < 0.15) {
      now += random() * 4_000;
    } else {
      now += logNormal(random, median, at.sigma);
      yield report();
    }
  }
}

describe("people", () => {
  test("never trip in an hour of typing, up to 200 words a minute, with bursts, chords and an arm on the keys", () => {
    const trait = fc.record({
      seed,
      wpm: fc.integer({ min: 10, max: 200 }),
      sigma: fc.double({ min: 0.25, max: 0.9, noNaN: true }),
      reportMs: fc.constantFrom(1, 2, 4, 8, 10),
    });
    fc.assert(
      fc.property(trait, (traits) => {
        expect(judge(person(traits))).toEqual([]);
      }),
      { numRuns: 30, examples: [[{ seed: 7, wpm: 200, sigma: 0.25, reportMs: 8 }]] },
    );
  });

  test("never trip with a record of 300 words a minute, nor drumming two keys as evenly as anybody can", () => {
    fc.assert(
      fc.property(
        seed,
        fc.constantFrom(40, 45, 60, 100),
        fc.constantFrom(1, 8),
        (start, everyMs, reportMs) => {
          const random = randomOf(start);
          let now = 0;
          const drum = Array.from({ length: 2_000 }, () => {
            const normal = Math.sqrt(-2 * Math.log(random())) * Math.cos(2 * Math.PI * random());
            now += Math.max(1, everyMs + 6 * normal);
            return Math.ceil(now / reportMs) * reportMs;
          });
          expect(judge(drum)).toEqual([]);
        },
      ),
    );
  });

  test("never trip with fewer keys than are judged, however they come", () => {
    fc.assert(
      fc.property(fc.array(fc.double({ min: 0, max: 100, noNaN: true }), { maxLength: 19 }), (times) => {
        expect(judge(times)).toEqual([]);
      }),
    );
  });
});

describe("injection devices", () => {
  const jitter = fc.double({ min: -0.3, max: 0.3, noNaN: true });

  test("always trip with 20 keys and more, 1 to 15 ms apart, at any time, with jitter and whatever was typed before", () => {
    fc.assert(
      fc.property(
        fc.record({
          seed,
          wpm: fc.integer({ min: 10, max: 200 }),
          typedMs: fc.integer({ min: 0, max: 20_000 }),
        }),
        fc.double({ min: 1, max: 15, noNaN: true }),
        fc.array(jitter, { minLength: 20, maxLength: 200 }),
        ({ seed: start, wpm, typedMs }, everyMs, jitters) => {
          const before = [...person({ seed: start, wpm, sigma: 0.4, reportMs: 8 })].filter(
            (ms) => ms < typedMs,
          );
          const from = (before.at(-1) ?? 0) + 5_000;
          const injected = jitters.map((part, index) => from + (index + part) * everyMs);
          const found = judge([...before, ...injected]);
          expect(found.length).toBeGreaterThanOrEqual(1);
          expect(found[0]?.why).toBe("too fast");
        },
      ),
    );
  });

  test("trip at 50 a second, evenly, and with six keys in each report", () => {
    const fifty = Array.from({ length: 20 }, (_, index) => index * 20);
    expect(judge(fifty)).toEqual([{ keys: 20, milliseconds: 380, why: "too fast" }]);
    const sixes = Array.from({ length: 24 }, (_, index) => Math.floor(index / 6) * 8);
    expect(judge(sixes)).toHaveLength(1);
  });

  test("trip at a pace of people when it is too even for people, through a bus that is asked every 1 to 10 ms", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 26, max: 240 }),
        fc.constantFrom(1, 2, 4, 8, 10),
        fc.double({ min: 0, max: 1_000, noNaN: true }),
        (everyMs, reportMs, from) => {
          const even = Array.from(
            { length: 81 },
            (_, index) => Math.ceil((from + index * everyMs) / reportMs) * reportMs,
          );
          expect(judge(even).map(({ why }) => why)).toEqual(["too regular"]);
        },
      ),
    );
  });

  test("trip once for each run of keys, and not again for the same ones", () => {
    const run = Array.from({ length: 100 }, (_, index) => index);
    expect(judge(run)).toHaveLength(5);
  });
});

test("what is remembered is bounded, and the order in which times are read does not matter", () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 10_000_000 }), { maxLength: 300 }), (times) => {
      let strokes = NO_KEYSTROKES;
      for (const time of times) {
        strokes = keyDown(strokes, time, limits).after;
        expect(strokes.timesUs.length).toBeLessThanOrEqual(81);
        expect(strokes.timesUs).toEqual(strokes.timesUs.toSorted((a, b) => a - b));
      }
    }),
  );
});
