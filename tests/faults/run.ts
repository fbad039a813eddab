import type { Random } from "./random.ts";

/** What a part of the run gets, and gives. */
export type Run = {
  readonly random: Random;
  /** At most so many rounds or cases. */
  readonly rounds: number;
  /** performance.now() after which no round begins. */
  readonly untilMs: number;
  /** Null: there is no C compiler. */
  readonly shim: string | null;
  tell(line: string): void;
};

export type Outcome = {
  readonly rounds: number;
  /** How often each thing happened, for a person to see that the faults did hit. */
  readonly seen: ReadonlyMap<string, number>;
  readonly problems: readonly string[];
  /** Why it was not run at all, or not in full; "" when it was. */
  readonly short: string;
};

export function count(seen: Map<string, number>, what: string): void {
  seen.set(what, (seen.get(what) ?? 0) + 1);
}

/** Milliseconds from now; for what a stuck daemon would hold up for ever. */
export async function within<T>(ms: number, what: string, work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: nothing in ${ms} ms`)), ms);
  });
  return await Promise.race([work, late]).finally(() => clearTimeout(timer));
}
