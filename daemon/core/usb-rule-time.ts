import type { EvaluateContext, UsbTest } from "./usb-rule.ts";
import { SECONDS_OF_DAY } from "./usb-rule-values.ts";

/** What a condition that depends on time says now, and until when (wall clock, ms) time alone cannot change it. */
export type Timed = { readonly holds: boolean; readonly untilMs: number | null };

const DAY_MS = SECONDS_OF_DAY * 1_000;
const STEP_MS = 3_600_000;

/**
 * Is local time within the window? `from` and `to` are both in it, to the end of that second. A window that ends before
 * it begins goes over midnight. Where the clocks are changed, local time is what the passed function says: an hour that
 * comes twice is in the window twice, one that is left out is in none.
 */
export function atLocalTime(
  window: Extract<UsbTest, { kind: "localtime" }>,
  context: Pick<EvaluateContext, "nowMs" | "localOffsetMinutes">,
  offsetChangeMs: number | null,
): Timed {
  const { nowMs } = context;
  const opens = window.from * 1_000;
  const closes = ((window.to + 1) * 1_000) % DAY_MS;
  if (opens === closes) return { holds: true, untilMs: null }; // the whole day
  const localMs = modulo(nowMs + context.localOffsetMinutes(nowMs) * 60_000, DAY_MS);
  const holds = opens < closes ? localMs >= opens && localMs < closes : localMs >= opens || localMs < closes;
  const boundaryMs = nowMs + modulo((holds ? closes : opens) - localMs, DAY_MS);
  return { holds, untilMs: Math.min(boundaryMs, offsetChangeMs ?? Number.POSITIVE_INFINITY) };
}

/**
 * When in the next day local time is moved against UTC, to the millisecond; null: it is not. Two changes within one hour
 * that undo each other are not seen; no time zone has them.
 */
export function nextOffsetChange(
  context: Pick<EvaluateContext, "nowMs" | "localOffsetMinutes">,
): number | null {
  const { nowMs, localOffsetMinutes } = context;
  const offset = localOffsetMinutes(nowMs);
  for (let before = nowMs; before < nowMs + DAY_MS; before += STEP_MS) {
    if (localOffsetMinutes(before + STEP_MS) !== offset)
      return firstOther(before, before + STEP_MS, offset, localOffsetMinutes);
  }
  return null;
}

/** Did something happen within so many seconds? It did up to that very moment. */
export function within(
  happenedMs: number | null,
  seconds: number | null,
  { nowMs, monoMs }: Pick<EvaluateContext, "nowMs" | "monoMs">,
): Timed {
  if (happenedMs === null) return { holds: false, untilMs: null };
  if (seconds === null) return { holds: true, untilMs: null };
  const leftMs = seconds * 1_000 - Math.max(0, monoMs - happenedMs);
  return leftMs >= 0
    ? { holds: true, untilMs: nowMs + Math.floor(leftMs) + 1 }
    : { holds: false, untilMs: null };
}

/** The first moment after `same` and not after `other` with another offset. */
function firstOther(
  same: number,
  other: number,
  offset: number,
  offsetAt: EvaluateContext["localOffsetMinutes"],
): number {
  let [low, high] = [same, other];
  while (high - low > 1) {
    const middle = low + Math.floor((high - low) / 2);
    if (offsetAt(middle) === offset) low = middle;
    else high = middle;
  }
  return high;
}

function modulo(value: number, by: number): number {
  return ((value % by) + by) % by;
}
