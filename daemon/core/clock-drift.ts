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

function report(change: ClockMove["change"], milliseconds: number, offsetMs: number) {
  return { state: referTo(offsetMs), moved: { change, milliseconds: Math.round(milliseconds) } };
}

function referTo(offsetMs: number): ClockState {
  return { lastOffsetMs: offsetMs, referenceOffsetMs: offsetMs };
}
