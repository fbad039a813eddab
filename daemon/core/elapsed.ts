/** One instant by two clocks. `monoMs` counts from the beginning of `boot`. */
export type Moment = { readonly wallMs: number; readonly monoMs: number; readonly boot: string };

/**
 * How long ago something was, in milliseconds, never negative. Within a boot the monotonic clock alone says it: moving the
 * wall clock makes nothing older. Across boots there is only the wall clock; set back, it says that no time has passed.
 */
export function elapsedMs(then: Moment, now: Moment): number {
  const passed = then.boot === now.boot ? now.monoMs - then.monoMs : now.wallMs - then.wallMs;
  return Math.max(0, Math.floor(passed));
}
