import { type ClockLimits, type ClockState, watchClock } from "../core/clock-drift.ts";
import type { Signal } from "../core/signal.ts";
import type { Clock, SignalSource } from "../ports.ts";

/** Looks at the wall clock against the boot clock every `everyMs`. Emits `clock.moved`. */
export function createClockSensor(options: {
  readonly clock: Clock;
  readonly limits: ClockLimits;
  readonly everyMs: number;
}): SignalSource {
  const { clock, limits, everyMs } = options;
  let state: ClockState | null = null; // kept over stop and start: a jump in between is a jump
  let timer: NodeJS.Timeout | undefined;

  function look(emit: (signal: Signal) => void): void {
    const seen = watchClock(state, { wallMs: clock.wallMs(), bootMs: clock.bootMs() }, limits);
    state = seen.state;
    if (seen.moved === null) return;
    const { change, milliseconds } = seen.moved;
    const facts = { change, milliseconds: String(milliseconds) };
    emit({ kind: "clock.moved", facts, seenNs: clock.monoNs() });
  }

  return {
    name: "clock",
    start: async (emit) => {
      look(emit);
      clearInterval(timer);
      timer = setInterval(() => look(emit), everyMs);
      timer.unref();
    },
    stop: async () => {
      clearInterval(timer);
      timer = undefined;
    },
    health: () =>
      timer === undefined
        ? { state: "blind", why: "not started" }
        : { state: "watching", via: `CLOCK_REALTIME against CLOCK_BOOTTIME every ${everyMs} ms` },
  };
}
