/** When the log's segment ends: at the first of the two. */
export type SegmentLimits = { readonly segmentBytes: number; readonly segmentAgeMs: number };

/** `since`: RFC 3339, the segment's first record; `nowMs`: CLOCK_REALTIME. A segment that began far in the future (the clock was
 * set back since) ends too, or it might not for years. */
export function isSegmentFull(
  segment: { readonly bytes: number; readonly since: string },
  limits: SegmentLimits,
  nowMs: number,
): boolean {
  if (segment.bytes >= limits.segmentBytes) return true;
  const sinceMs = Date.parse(segment.since);
  return Number.isFinite(sinceMs) && Math.abs(nowMs - sinceMs) >= limits.segmentAgeMs;
}
