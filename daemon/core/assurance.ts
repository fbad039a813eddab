/**
 * How far a mode is more than a word. enforced: the kernel confirmed it. observed: we watch and log only.
 * failed: the kernel has not confirmed what is wanted; grants nothing that needs isolation.
 */
export type Assurance = "enforced" | "observed" | "failed";
