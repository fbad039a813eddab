/**
 * Identical answers to one caller are one record, and a count when the window ends. Each caller has his own room, so that
 * nobody hides what another one does behind his own noise; what finds no room is counted as "others". Bounded: records
 * in a window are at most (callers + 1) × (keys + 1) firsts and as many counts.
 */
export type Coalescer = {
  /**
   * The number of the record that stands for this answer. `record` makes it when there is none yet, and is called once a
   * cause. -1 is no record: then the next one is made again. What is counted with others has no record of its own: -1.
   */
  take(cause: { readonly caller: string; readonly key: string }, nowMs: number, record: () => number): Stood;
  /** Counts whose window has ended. A cause that went on has its window begun again, one that did not is forgotten. */
  drain(nowMs: number): readonly Counted[];
  /** A count that could not be recorded: it is told when the window ends that has begun. */
  giveBack(counted: Counted): void;
  /** Every count still held, for a clean stop. */
  drainAll(): readonly Counted[];
  /** How many causes are held. */
  size(): number;
};

export type Stood = { readonly seq: number; readonly first: boolean };
export type Counted = {
  readonly caller: string;
  readonly key: string;
  readonly count: number;
  /** The record of the first one. */
  readonly seq: number;
};

type Held = { count: number; readonly seq: number; readonly untilMs: number };

const OTHERS = "others";
const MAX_CALLERS = 256;
const MAX_KEYS = 32;

export function createCoalescer(windowMs: number): Coalescer {
  const callers = new Map<string, Map<string, Held>>();

  function keysOf(name: string): Map<string, Held> {
    const keys = callers.get(name) ?? new Map<string, Held>();
    callers.set(name, keys);
    return keys;
  }

  function drained(isDue: (held: Held) => boolean, nowMs: number): readonly Counted[] {
    const told: Counted[] = [];
    for (const [caller, keys] of callers) {
      for (const [key, held] of keys) {
        if (!isDue(held)) continue;
        keys.delete(key);
        if (held.count === 0) continue;
        told.push({ caller, key, count: held.count, seq: held.seq });
        keys.set(key, { count: 0, seq: held.seq, untilMs: nowMs + windowMs });
      }
      if (keys.size === 0) callers.delete(caller);
    }
    return told;
  }

  return {
    take({ caller, key }, nowMs, record) {
      const who = callers.has(caller) || callers.size < MAX_CALLERS ? caller : OTHERS;
      const keys = keysOf(who);
      const name = keys.has(key) || keys.size < MAX_KEYS ? key : OTHERS;
      const held = keys.get(name);
      if (held !== undefined) {
        held.count += 1;
        return { seq: who === caller && name === key ? held.seq : -1, first: false };
      }
      const seq = record();
      if (seq !== -1) keys.set(name, { count: 0, seq, untilMs: nowMs + windowMs });
      return { seq, first: true };
    },
    giveBack({ caller, key, count }) {
      const held = callers.get(caller)?.get(key);
      if (held !== undefined) held.count += count;
    },
    drain: (nowMs) => drained((held) => nowMs >= held.untilMs, nowMs),
    drainAll: () => drained(() => true, 0),
    size: () => [...callers.values()].reduce((sum, keys) => sum + keys.size, 0),
  };
}
