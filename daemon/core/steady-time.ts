import type { Moment } from "./elapsed.ts";

/**
 * The time by which grants end, ms: the wall clock, but never earlier than it was plus what has gone by since. A clock that
 * is set back lengthens nothing; one that is set on ends what it says. `latest`: the same at an earlier moment.
 */
export function steadyAfter(latest: Moment, now: Moment): number {
  const gone = latest.boot === now.boot ? Math.max(0, now.monoMs - latest.monoMs) : 0;
  return Math.min(Math.max(now.wallMs, latest.wallMs + gone), Number.MAX_SAFE_INTEGER);
}

/** The same, from look to look. `before`: as the log's last record says. */
export function createSteadyTime(before: Moment): (now: Moment) => number {
  let latest = before;
  return (now) => {
    latest = { ...now, wallMs: steadyAfter(latest, now) };
    return latest.wallMs;
  };
}
