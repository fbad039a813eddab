/** What a command carries beside itself. */
export type Carried =
  /** Another command, as words. `more`: words come to it that nobody knows yet. */
  | { readonly kind: "argv"; readonly argv: readonly string[]; readonly more: boolean }
  /** A line that a shell will read. */
  | { readonly kind: "line"; readonly line: string }
  /** A name it puts into the environment. */
  | { readonly kind: "assignment"; readonly name: string }
  /** Something that cannot be resolved here: the profile says whether a person may be asked. */
  | { readonly kind: "unknown"; readonly why: string }
  /** Something that no profile lets through. */
  | { readonly kind: "refused"; readonly why: string };

/** Where a command's standard input comes from. */
export type Input = "inherited" | "pipe" | "here" | "file";

/** Stands for a word that is only known when the command runs. No argument can hold it: it is of a private area. */
export const UNKNOWN = "\ue000";

export function unknown(why: string): Carried {
  return { kind: "unknown", why };
}

export function refused(why: string): Carried {
  return { kind: "refused", why };
}

export function inner(argv: readonly string[], more = false): Carried {
  return { kind: "argv", argv, more };
}
