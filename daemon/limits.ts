import type { Entry } from "./audit/record.ts";
import type { Moment } from "./core/elapsed.ts";
import type { ErrorCode } from "./core/errors.ts";
import { createLimits, type Taken } from "./core/limit.ts";
import { type Asked, chargesOf, type LimitSettings } from "./core/limit-charges.ts";
import { blockedData, type LimitMemory, MAX_CARRIED, restoreLimits, stateData } from "./core/limit-memory.ts";
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
  /** What the log says of the time before. */
  readonly memory: LimitMemory;
  readonly clock: Clock;
  /** Appends a record; what cannot be recorded limits all the same. */
  readonly append: (entry: Entry) => unknown;
};

/** Keys of each kind. Some hundred bytes each, and up to two kilobytes while a caller asks all the time. */
const MAX_KEYS = 4_096;
/** So often what is counted is recorded while something is above half its limit: what a crash forgets at most. */
const STATE_EVERY_MS = 10_000;

export function createLimitDesk({ settings, memory, clock, append }: LimitParts): LimitDesk {
  const limits = createLimits(MAX_KEYS);
  restoreLimits(limits, memory, momentNow(clock));
  let statedMs = monoMs(clock);
  let stopped = false;

  function recordState(nowMs: number): void {
    statedMs = nowMs;
    append({ kind: "limit.state", data: stateData(limits.carried(MAX_CARRIED, nowMs)) });
  }

  return {
    take(asked) {
      const taken = limits.take(chargesOf(settings, asked), monoMs(clock));
      if (taken.ok) return taken;
      if (taken.blockMs > 0 && !stopped)
        append({
          kind: "limit.blocked",
          data: blockedData(taken.kind, taken.name, taken.blockMs, clock.wallMs()),
        });
      return { ok: false, code: "rate-limited", retryAfterMs: taken.retryAfterMs, why: whyNot(taken) };
    },
    tick() {
      const nowMs = monoMs(clock);
      if (stopped) return;
      if (nowMs - statedMs >= STATE_EVERY_MS && limits.wasHalfFull()) recordState(nowMs);
    },
    stop() {
      stopped = true; // the stop is the last record
      const nowMs = monoMs(clock);
      // also when there is nothing: what an earlier record says is over
      if (limits.carried(1, nowMs).length > 0 || memory.counts !== null) recordState(nowMs);
    },
  };
}

const WHAT = {
  overall: "of all callers together",
  loosening: "for what loosens",
  service: "of this service",
  token: "of this token",
  uid: "of this user",
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
