/**
 * One cause is one record, however often it repeats: the first is told, those within the window are counted, and the
 * count is told when the window ends. Holds a bounded number of causes; what is beyond is counted together.
 */
export type Repeats = {
  /** True when this is to be recorded now; false when it was counted. */
  first(key: string, nowMs: number): boolean;
  /** Counts whose window has ended. A cause that went on has its window begun again. */
  drain(nowMs: number): readonly { readonly key: string; readonly count: number }[];
  /** Every count still held, for a clean stop. */
  drainAll(): readonly { readonly key: string; readonly count: number }[];
};

const MAX_KEYS = 256;
const OTHERS = "others";

export function createRepeats(windowMs: number): Repeats {
  const held = new Map<string, { count: number; untilMs: number }>();

  const take = (due: (untilMs: number) => boolean, nowMs: number) => {
    const counts: { key: string; count: number }[] = [];
    for (const [key, entry] of held) {
      if (!due(entry.untilMs)) continue;
      if (entry.count === 0) {
        held.delete(key);
        continue;
      }
      counts.push({ key, count: entry.count });
      held.set(key, { count: 0, untilMs: nowMs + windowMs });
    }
    return counts;
  };

  return {
    first(key, nowMs) {
      const entry = held.get(key) ?? (held.size >= MAX_KEYS ? held.get(OTHERS) : undefined);
      if (!entry) {
        held.set(held.size >= MAX_KEYS ? OTHERS : key, { count: 0, untilMs: nowMs + windowMs });
        return true;
      }
      entry.count += 1;
      return false;
    },
    drain: (nowMs) => take((untilMs) => nowMs >= untilMs, nowMs),
    drainAll: () => take(() => true, 0),
  };
}
