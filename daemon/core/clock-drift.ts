/** Two readings of one instant. Milliseconds; `bootMs` counts suspend, so a sleeping host is no jump. */
export type ClockLook = { readonly wallMs: number; readonly bootMs: number };

/** What was seen before: the offset (wall minus boot, milliseconds) of the last look, and the one drift is measured from. */
export type ClockState = { readonly lastOffsetMs: number; readonly referenceOffsetMs: number };

export type ClockLimits = { readonly maxStepMs: number; readonly maxDriftMs: number };

export type ClockMove = {
  readonly change: "step" | "drift";
  /** Signed: how far the wall clock moved against the boot clock. */
  readonly milliseconds: number;
};

/**
 * Compares the wall clock with the boot clock. "step": the offset changed by more than `maxStepMs` between two
 * looks; "drift": it is more than `maxDriftMs` away from the reference. What has been reported becomes the new
 * reference, so that one jump is reported once. The first look (state null) only sets the reference.
 */
export function watchClock(
  state: ClockState | null,
  look: ClockLook,
  limits: ClockLimits,
): { readonly state: ClockState; readonly moved: ClockMove | null } {
  const offsetMs = look.wallMs - look.bootMs;
  if (state === null) return { state: referTo(offsetMs), moved: null };
  const steppedMs = offsetMs - state.lastOffsetMs;
  if (Math.abs(steppedMs) > limits.maxStepMs) return report("step", steppedMs, offsetMs);
  const driftedMs = offsetMs - state.referenceOffsetMs;
  if (Math.abs(driftedMs) > limits.maxDriftMs) return report("drift", driftedMs, offsetMs);
  return { state: { ...state, lastOffsetMs: offsetMs }, moved: null };
}

/** When the log's last record was made, as its fields tell it. */
export type LastRecord = { readonly lastAt: string; readonly lastMono: string; readonly lastBoot: string };

export type Now = {
  readonly wallMs: number;
  /** CLOCK_MONOTONIC, nanoseconds: comparable within one boot. */
  readonly monoNs: bigint;
  readonly boot: string;
};

/**
 * Whether the wall clock moved while nobody watched, from the log's last record to a start: why loosening is to be
 * frozen, "" when nothing speaks for it. Time only goes forward, over a reboot too; within one boot the wall clock
 * advanced as the monotonic one did, but for `maxStepMs`. The monotonic clock stands while the host sleeps: a host
 * that slept with the daemon stopped is frozen, for a person to clear, since the log does not tell the two apart.
 */
export function clockWhileStopped(
  last: LastRecord,
  now: Now,
  limits: Pick<ClockLimits, "maxStepMs">,
): string {
  if (last.lastAt === "") return ""; // no record, nothing to compare with
  const wallMs = now.wallMs - Date.parse(last.lastAt);
  const monoMs = millisecondsSince(last.lastMono, now.monoNs);
  if (Number.isNaN(wallMs) || Number.isNaN(monoMs)) return "the time of the log's last record cannot be read";
  if (wallMs < 0) return `the wall clock is ${-wallMs} ms before the log's last record`;
  if (now.boot !== last.lastBoot) return "";
  const apartMs = Math.round(wallMs - monoMs);
  return Math.abs(apartMs) > limits.maxStepMs
    ? `the wall clock moved by ${apartMs} ms against the monotonic clock while the daemon was stopped`
    : "";
}

function millisecondsSince(mono: string, nowNs: bigint): number {
  return /^\d{1,20}$/.test(mono) ? Number((nowNs - BigInt(mono)) / 1_000_000n) : Number.NaN;
}

function report(change: ClockMove["change"], milliseconds: number, offsetMs: number) {
  return { state: referTo(offsetMs), moved: { change, milliseconds: Math.round(milliseconds) } };
}

function referTo(offsetMs: number): ClockState {
  return { lastOffsetMs: offsetMs, referenceOffsetMs: offsetMs };
}
