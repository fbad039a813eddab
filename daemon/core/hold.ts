/**
 * How firmly a mode is held. "enforcing": in the kernel. "shadow": what would be refused is counted and listed, and
 * nothing is refused. "released": a person took our rules out by ceremony, or by the boot parameter. Only the first one
 * isolates anything. The hold is a fold of the log, like the mode.
 */
export const HOLDS = ["enforcing", "shadow", "released"] as const;

export type Hold = (typeof HOLDS)[number];
