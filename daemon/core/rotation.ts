/** When the log's segment ends: at the first of the two. */
export type SegmentLimits = { readonly segmentBytes: number; readonly segmentAgeMs: number };

/** `since`: RFC 3339, the segment's first record; `nowMs`: CLOCK_REALTIME. A clock that went back is no age. */
export function isSegmentFull(
  segment: { readonly bytes: number; readonly since: string },
  limits: SegmentLimits,
  nowMs: number,
): boolean {
  if (segment.bytes >= limits.segmentBytes) return true;
  const sinceMs = Date.parse(segment.since);
  return Number.isFinite(sinceMs) && nowMs - sinceMs >= limits.segmentAgeMs;
}
