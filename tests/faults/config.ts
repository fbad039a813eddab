/**
 * The daemon of all parts: log-only, and out of LOCKDOWN by a ceremony that takes no time. With small segments
 * (log.segmentBytes) the faults would hit rotations too; examine.ts has to know the genesis key then.
 */
export const CONFIG = {
  initialMode: "RESTRICTED",
  ceremony: { coolDownMs: 0, requireTerminal: false },
} as const;
