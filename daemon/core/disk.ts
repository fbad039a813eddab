/** Whether the log's file system has room: while it is "low", nothing is allowed and nothing loosened. */
export type Room = "ok" | "low";

/** It has to have this much more than the low-water mark before it is "ok" again, or each record would turn it over. */
const BACK_ABOVE = 1.25;

/**
 * Room from what is free, with hysteresis. `freeBytes`: what an ordinary user could still write there; null when the
 * file system does not say, which is "low": unknown is no reason to allow.
 */
export function roomAfter(before: Room, freeBytes: number | null, lowWaterBytes: number): Room {
  if (freeBytes === null || freeBytes < lowWaterBytes) return "low";
  if (before === "low" && freeBytes < lowWaterBytes * BACK_ABOVE) return "low";
  return "ok";
}
