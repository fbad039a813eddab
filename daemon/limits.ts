import type { Data, Entry } from "./audit/record.ts";
import type { Moment } from "./core/elapsed.ts";
import type { ErrorCode } from "./core/errors.ts";
import { createLimits, type Taken } from "./core/limit.ts";
import { type Asked, chargesOf, type LimitSettings } from "./core/limit-charges.ts";
import { blockedData, readLimits, restoreLimits, stateData } from "./core/limit-memory.ts";
import type { Clock } from "./ports.ts";

/** Whether a caller may ask at all: step 1 of every answer. docs/LIMITS.md. */
export type LimitDesk = Clerk & {
  /** Counts a request, or says why not, and from when on the same may be let through. */
  take(
    asked: Asked,
  ):
    | { readonly ok: true }
    | { readonly ok: false; readonly code: ErrorCode; readonly retryAfterMs: number; readonly why: string };
};

/** Who keeps something that the log has to hold. */
export type Clerk = {
  /** Once a heartbeat. */
  tick(): void;
  /** Before the stop is recorded: what is left to record; afterwards nothing is. */
  stop(): void;
};

export type LimitParts = {
  readonly settings: LimitSettings;
  /** What the log says of the time before: the fold's `limits`. */
  readonly memory: Data;
  readonly clock: Clock;
  /** Appends a record; what cannot be recorded limits all the same. */
  readonly append: (entry: Entry) => unknown;
};

/** Keys of each kind. Some hundred bytes each, and up to two kilobytes while a caller asks all the time. */
const MAX_KEYS = 4_096;
/** So often what is counted is recorded while something is above half its limit: what a crash forgets at most. */
const STATE_EVERY_MS = 10_000;
/** What the log says cannot be read: so long only what tightens is let through, and services with a row of their own. */
const UNREADABLE_MS = 300_000;

export function createLimitDesk({ settings, memory, clock, append }: LimitParts): LimitDesk {
  const limits = createLimits(MAX_KEYS);
  const before = readLimits(memory);
  // closed by default: what is not known of anybody counts for all
  if (before === null) limits.block({ kind: "overall", name: "all", leftMs: UNREADABLE_MS }, monoMs(clock));
  else restoreLimits(limits, before, momentNow(clock));
  let statedMs = monoMs(clock);
  let stopped = false;

  function recordState(): void {
    const now = momentNow(clock);
    statedMs = now.monoMs;
    append({ kind: "limit.state", data: stateData(limits, now) });
  }

  return {
    take(asked) {
      const taken = limits.take(chargesOf(settings, asked), monoMs(clock));
      if (taken.ok) return taken;
      // a stranger's refusal is recorded as one; the room for blocks is for those who may ask something
      if (taken.blockMs > 0 && !stopped && taken.kind !== "stranger")
        append({
          kind: "limit.blocked",
          data: blockedData({ ...taken, leftMs: taken.blockMs }, momentNow(clock)),
        });
      return { ok: false, code: "rate-limited", retryAfterMs: taken.retryAfterMs, why: whyNot(taken) };
    },
    tick() {
      const nowMs = monoMs(clock);
      if (stopped) return;
      if (nowMs - statedMs >= STATE_EVERY_MS && limits.wasHalfFull()) recordState();
    },
    stop() {
      stopped = true; // the stop is the last record
      const nowMs = monoMs(clock);
      const isSomething = limits.carried(1, nowMs).length > 0 || limits.blocked(1, nowMs).length > 0;
      // also when there is nothing any more: what an earlier record says is over
      if (isSomething || Object.keys(memory).length > 0) recordState();
    },
  };
}

const WHAT = {
  overall: "of all callers together",
  loosening: "for what loosens",
  service: "of this service",
  token: "of this token",
  uid: "of this user",
  stranger: "of this user, for tokens that do not do",
  verb: "for this verb",
} as const;

function whyNot(taken: Extract<Taken, { ok: false }>): string {
  const shared = taken.name === "others" ? ", counted with others: there are too many callers" : "";
  return `the limit ${WHAT[taken.kind]} is reached${shared}; again in ${Math.ceil(taken.retryAfterMs / 1_000)} s`;
}

export function momentNow(clock: Clock): Moment {
  return { wallMs: clock.wallMs(), monoMs: monoMs(clock), boot: clock.bootId() };
}

export function monoMs(clock: Clock): number {
  return Number(clock.monoNs() / 1_000n) / 1_000;
}
