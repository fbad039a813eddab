import { addTo, agesOf, emptyTally, firstFreeMs, respan, settleTally, spanOf, type Tally } from "./tally.ts";

/**
 * What a limit is for. `service`: a caller with a row of his own in the configuration. `stranger`: a user who may ask
 * nothing; with a table of their own, which no restart keeps, for they are as many as they like.
 */
export const LIMIT_KINDS = ["overall", "loosening", "service", "token", "uid", "stranger", "verb"] as const;
export type LimitKind = (typeof LIMIT_KINDS)[number];

/** So many requests in any window; with `blockMs`, whoever asks for more gets nothing for so long. 0 requests: no limit. */
export type Rate = { readonly requests: number; readonly windowMs: number; readonly blockMs: number };

/** One limit that a request counts against. */
export type Charge = { readonly kind: LimitKind; readonly name: string; readonly rate: Rate };

export type Taken =
  | { readonly ok: true }
  | {
      readonly ok: false;
      /** The limit that said no. `name` is "others" where the table had no room for the caller's own. */
      readonly kind: LimitKind;
      readonly name: string;
      /** After so long, and not before, the same may be let through. At least 1. */
      readonly retryAfterMs: number;
      /** A block begins with this refusal: so long. 0: it began earlier, or the limit blocks nobody. */
      readonly blockMs: number;
    };

/** What is counted under one key, as it may be carried over a restart: docs/LIMITS.md. */
export type Carried = {
  readonly kind: LimitKind;
  readonly name: string;
  readonly windowMs: number;
  /** So many, by age, in sixths of the window: the first is what is younger than a sixth. */
  readonly counts: readonly number[];
};

export type Blocked = { readonly kind: LimitKind; readonly name: string; readonly leftMs: number };

/**
 * The limits. Times are milliseconds of a clock that never goes back. Every call is constant work, and what is held is
 * bounded: `maxKeys` keys of each kind. A key whose window has passed makes room for another; while none has, further
 * keys are counted together, as "others". A key that still counts, or is blocked, never makes room.
 */
export type Limits = {
  /** All of the charges, or none: what is refused is not counted anywhere. */
  take(charges: readonly Charge[], nowMs: number): Taken;
  /** Blocks a key for what is left: what a restart found in the log. */
  block(blocked: Blocked, nowMs: number): void;
  /** The blocks under way, the longest first, as many as asked for. */
  blocked(most: number, nowMs: number): readonly Blocked[];
  /** Counts again what was counted before a restart, so long ago. */
  carry(carried: Carried, agoMs: number, nowMs: number): void;
  /** What counts now: the fullest keys, as many as asked for. */
  carried(most: number, nowMs: number): readonly Carried[];
  /** Whether a key was above half its limit when it was last counted, since this was last asked. */
  wasHalfFull(): boolean;
  /** How many keys are held. */
  size(): number;
};

type Held = { readonly tally: Tally; windowMs: number; requests: number; blockedUntilMs: number };

const OTHERS = "others";
/** So many of the oldest keys are looked at for one that can go. */
const MAX_LOOKS = 8;
export const AGE_GROUPS = 6;

export function createLimits(maxKeys: number): Limits {
  const tables = new Map<LimitKind, Map<string, Held>>(LIMIT_KINDS.map((kind) => [kind, new Map()]));
  let halfFull = false;

  const tableOf = (kind: LimitKind) => tables.get(kind) ?? new Map<string, Held>();

  /** The name it is counted under. */
  function nameIn(table: Map<string, Held>, name: string, nowMs: number): string {
    return table.has(name) || table.size < maxKeys || makeRoom(table, nowMs) ? name : OTHERS;
  }

  function makeRoom(table: Map<string, Held>, nowMs: number): boolean {
    for (let looks = 0; looks < MAX_LOOKS; looks++) {
      const oldest = table.entries().next().value;
      if (oldest === undefined) return true;
      const [name, held] = oldest;
      settleTally(held.tally, nowMs);
      const isBlocked = held.blockedUntilMs > nowMs;
      if (!isBlocked && held.tally.total === 0) return table.delete(name);
      if (!isBlocked) return false; // those behind it were counted later
      table.delete(name);
      table.set(name, held);
    }
    return false;
  }

  function hold(table: Map<string, Held>, name: string, rate: Omit<Rate, "blockMs">, nowMs: number): Held {
    const known = table.get(name);
    if (known === undefined) {
      const { windowMs, requests } = rate;
      const made = { tally: emptyTally(spanOf(windowMs)), windowMs, requests, blockedUntilMs: 0 };
      table.set(name, made);
      return made;
    }
    if (known.windowMs !== rate.windowMs) respan(known.tally, spanOf(rate.windowMs), nowMs);
    known.windowMs = rate.windowMs;
    known.requests = rate.requests;
    return known;
  }

  function refusal({ kind, name, rate }: Charge, held: Held, nowMs: number): Taken | null {
    const until = held.blockedUntilMs;
    if (until > nowMs) return { ok: false, kind, name, retryAfterMs: Math.ceil(until - nowMs), blockMs: 0 };
    settleTally(held.tally, nowMs);
    if (held.tally.total < rate.requests) return null;
    if (rate.blockMs > 0) {
      held.blockedUntilMs = nowMs + rate.blockMs;
      return { ok: false, kind, name, retryAfterMs: rate.blockMs, blockMs: rate.blockMs };
    }
    const free = firstFreeMs(held.tally) ?? nowMs;
    return { ok: false, kind, name, retryAfterMs: Math.max(1, Math.ceil(free - nowMs)), blockMs: 0 };
  }

  function take(charges: readonly Charge[], nowMs: number): Taken {
    const due: { readonly table: Map<string, Held>; readonly name: string; readonly held: Held }[] = [];
    for (const charge of charges) {
      if (charge.rate.requests === 0) continue;
      const table = tableOf(charge.kind);
      const name = nameIn(table, charge.name, nowMs);
      const held = hold(table, name, charge.rate, nowMs);
      const refused = refusal({ ...charge, name }, held, nowMs);
      if (refused !== null) return refused;
      due.push({ table, name, held });
    }
    for (const { table, name, held } of due) {
      addTo(held.tally, nowMs);
      if (held.tally.total * 2 > held.requests) halfFull = true;
      table.delete(name); // to the end: the first is the one that was counted longest ago
      table.set(name, held);
    }
    return { ok: true };
  }

  function block({ kind, name, leftMs }: Blocked, nowMs: number): void {
    if (leftMs <= 0) return;
    const table = tableOf(kind);
    const held = hold(table, nameIn(table, name, nowMs), table.get(name) ?? UNKNOWN_RATE, nowMs);
    held.blockedUntilMs = Math.max(held.blockedUntilMs, nowMs + leftMs);
  }

  function blocked(most: number, nowMs: number): readonly Blocked[] {
    const all = [...tables].flatMap(([kind, table]) =>
      [...table].map(([name, held]) => ({ kind, name, leftMs: held.blockedUntilMs - nowMs })),
    );
    return all
      .filter(({ kind, leftMs }) => leftMs > 0 && kind !== "stranger")
      .toSorted((a, b) => b.leftMs - a.leftMs)
      .slice(0, most);
  }

  function carry({ kind, name, windowMs, counts }: Carried, agoMs: number, nowMs: number): void {
    const table = tableOf(kind);
    const rate = { windowMs, requests: table.get(name)?.requests ?? UNKNOWN_RATE.requests };
    const { tally } = hold(table, nameIn(table, name, nowMs), rate, nowMs);
    const groupMs = windowMs / AGE_GROUPS;
    for (let group = counts.length - 1; group >= 0; group--) {
      const count = counts[group] ?? 0;
      if (count > 0) addTo(tally, nowMs - agoMs - group * groupMs, count);
    }
    settleTally(tally, nowMs);
  }

  function carried(most: number, nowMs: number): readonly Carried[] {
    const all: { readonly share: number; readonly one: Carried }[] = [];
    for (const [kind, table] of tables) {
      if (kind === "stranger") continue;
      for (const [name, { tally, windowMs, requests }] of table) {
        settleTally(tally, nowMs);
        if (tally.total === 0) continue;
        const share = kind === "overall" ? Number.POSITIVE_INFINITY : tally.total / requests;
        all.push({ share, one: { kind, name, windowMs, counts: groupsOf(tally, windowMs, nowMs) } });
      }
    }
    return all
      .toSorted((a, b) => b.share - a.share)
      .slice(0, most)
      .map(({ one }) => one);
  }

  return {
    take,
    block,
    blocked,
    carry,
    carried,
    wasHalfFull() {
      const was = halfFull;
      halfFull = false;
      return was;
    },
    size: () => [...tables.values()].reduce((sum, table) => sum + table.size, 0),
  };
}

/** Of a key that a restart found in the log: its first request after it says what its limit is. */
const UNKNOWN_RATE = { requests: 1, windowMs: 60_000 } as const;

/** Each rounded to younger than it is: so nothing counts for less long than it would have. */
function groupsOf(tally: Tally, windowMs: number, nowMs: number): readonly number[] {
  const counts = Array.from({ length: AGE_GROUPS + 1 }, () => 0);
  for (const { ageMs, count } of agesOf(tally, nowMs)) {
    const group = Math.min(AGE_GROUPS, Math.floor((ageMs * AGE_GROUPS) / windowMs));
    counts[group] = (counts[group] ?? 0) + count;
  }
  return counts;
}
