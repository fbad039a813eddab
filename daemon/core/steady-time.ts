/**
 * The time by which grants end: the wall clock, but never earlier than it was plus what has gone by since. A clock that is
 * set back lengthens nothing; one that is set on ends what it says.
 */
export function createSteadyTime(atLeastMs: number): (wallMs: number, monoMs: number) => number {
  let latest = { wallMs: atLeastMs, monoMs: Number.NaN };
  return (wallMs, monoMs) => {
    const gone = Number.isNaN(latest.monoMs) ? 0 : Math.max(0, monoMs - latest.monoMs);
    latest = { wallMs: Math.max(wallMs, latest.wallMs + gone), monoMs };
    return latest.wallMs;
  };
}
