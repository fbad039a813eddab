/**
 * The daemon of all parts: log-only, out of LOCKDOWN by a ceremony that takes no time, and with segments so small that
 * every load crosses rotations. As root the segments are append-only and immutable, as they are by default.
 */
export const CONFIG = {
  initialMode: "RESTRICTED",
  enforcement: { heartbeatMs: 50 }, // a rotation is begun by a tick
  ceremony: { coolDownMs: 0, requireTerminal: false },
  log: { segmentBytes: 8_192, appendOnly: process.getuid?.() === 0 },
} as const;
