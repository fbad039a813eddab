import type { Hold } from "./hold.ts";

/** A hold and for how long it was meant: "boot" is the boot parameter's, which is over with the boot it was given for. */
export type Held = { readonly hold: Hold; readonly lasts: "always" | "boot" };

/**
 * The hold, with what lies beneath one that lasts for a boot only. `base`: the one that the next boot begins with, which
 * a record of the hold has to name as well; where `held` lasts it is the same.
 */
export type Holding = { readonly held: Held; readonly base: Hold };

export const ENFORCING: Held & { readonly lasts: "always" } = { hold: "enforcing", lasts: "always" };

/** What the log says of the hold: the one that lasts, and what the boot parameter did. */
export type HoldMemory = {
  readonly hold: Hold;
  /** The last boot whose parameter was taken; "" for none. A parameter is taken once, or a person's `enforce` would not outlive a restart. */
  readonly parameterBoot: string;
  /** The boot that is released by its parameter still; "" for none. */
  readonly releasedBoot: string;
};

export const NO_HOLD_MEMORY: HoldMemory = { hold: "enforcing", parameterBoot: "", releasedBoot: "" };

/** A hold that lasts: nothing lies beneath it. */
export function lasting(held: Held & { readonly lasts: "always" }): Holding {
  return { held, base: held.hold };
}

/** Whether two hold alike, for as long. */
export function sameHeld(a: Held, b: Held): boolean {
  return a.hold === b.hold && a.lasts === b.lasts;
}
