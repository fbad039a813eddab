/**
 * A count of what happened within a sliding window, in constant room. Time is cut into slots of a sixtieth of the window;
 * what happened in a slot counts until the window has passed since the slot's end. So everything counts for at least the
 * window and at most a sixtieth longer: never are there more than were let through in any window of that length.
 */
export type Span = {
  readonly slotMs: number;
  /** How many slots after its own something counts. */
  readonly slots: number;
};

export type Tally = {
  span: Span;
  /** Oldest first; slots in which nothing happened have no mark. */
  marks: { readonly slot: number; count: number }[];
  total: number;
};

const SLOTS = 60;

/** `windowMs`: a positive integer. */
export function spanOf(windowMs: number): Span {
  const slotMs = Math.max(1, Math.ceil(windowMs / SLOTS));
  return { slotMs, slots: Math.ceil(windowMs / slotMs) };
}

export function emptyTally(span: Span): Tally {
  return { span, marks: [], total: 0 };
}

/** Drops what counts no more. Constant work: there are at most as many marks as slots, and each is dropped once. */
export function settleTally(tally: Tally, nowMs: number): void {
  const current = slotAt(tally.span, nowMs);
  while (tally.marks[0] !== undefined && tally.marks[0].slot + tally.span.slots < current)
    tally.total -= tally.marks.shift()?.count ?? 0;
}

/** Counts `count` more at this time. Time that goes back counts as the newest time seen. */
export function addTo(tally: Tally, nowMs: number, count = 1): void {
  const last = tally.marks.at(-1);
  const slot = Math.max(slotAt(tally.span, nowMs), last?.slot ?? Number.NEGATIVE_INFINITY);
  if (last?.slot === slot) last.count += count;
  else tally.marks.push({ slot, count });
  tally.total += count;
}

/** When the oldest that counts will count no more; null when nothing does. */
export function firstFreeMs({ span, marks }: Tally): number | null {
  const oldest = marks[0];
  return oldest === undefined ? null : (oldest.slot + span.slots + 1) * span.slotMs;
}

/** What counts now, by age: how many milliseconds before now its slot ended; 0 for the present one. Oldest first. */
export function agesOf(
  { span, marks }: Tally,
  nowMs: number,
): readonly { readonly ageMs: number; readonly count: number }[] {
  return marks.map(({ slot, count }) => ({ ageMs: Math.max(0, nowMs - (slot + 1) * span.slotMs), count }));
}

/** The same in slots of another length, nothing of it earlier than it was. */
export function respan(tally: Tally, span: Span, nowMs: number): void {
  const ages = agesOf(tally, nowMs);
  tally.span = span;
  tally.marks = [];
  tally.total = 0;
  for (const { ageMs, count } of ages) addTo(tally, nowMs - ageMs, count);
}

function slotAt(span: Span, nowMs: number): number {
  return Math.floor(nowMs / span.slotMs);
}
