/**
 * One cause is one record, however often it repeats: the first is told, those within the window are counted, and the
 * count is told when the window ends. Causes are held in groups (a tripwire, a kind), each with bounded room, so that
 * nobody can hide one tripwire behind the noise of another; what is beyond a group's room is counted together.
 */
export type Repeats = {
  /** True when this is to be recorded now; false when it was counted. */
  first(group: string, key: string, nowMs: number): boolean;
  /** Counts whose window has ended. A cause that went on has its window begun again. */
  drain(nowMs: number): readonly Repeated[];
  /** Every count still held, for a clean stop. */
  drainAll(): readonly Repeated[];
};

export type Repeated = { readonly group: string; readonly key: string; readonly count: number };

type Held = { count: number; untilMs: number };

const MAX_KEYS = 64;
const OTHERS = "others";

/** Groups are named by the configuration and by this program, never by an outsider. */
export function createRepeats(windowMs: number): Repeats {
  const groups = new Map<string, Map<string, Held>>();

  const take = (isDue: (held: Held) => boolean, nowMs: number): readonly Repeated[] => {
    const told: Repeated[] = [];
    for (const [group, keys] of groups) {
      for (const [key, held] of keys) {
        if (!isDue(held)) continue;
        keys.delete(key);
        if (held.count === 0) continue;
        told.push({ group, key, count: held.count });
        keys.set(key, { count: 0, untilMs: nowMs + windowMs });
      }
    }
    return told;
  };

  return {
    first(group, key, nowMs) {
      const keys = groups.get(group) ?? new Map<string, Held>();
      groups.set(group, keys);
      const name = keys.has(key) || keys.size < MAX_KEYS ? key : OTHERS;
      const held = keys.get(name);
      if (held) held.count += 1;
      else keys.set(name, { count: 0, untilMs: nowMs + windowMs });
      return held === undefined;
    },
    drain: (nowMs) => take((held) => nowMs >= held.untilMs, nowMs),
    drainAll: () => take(() => true, 0),
  };
}
