import { type Backoff, jitteredMs } from "./backoff.ts";
import { isTransient } from "./errno.ts";

export type RetryRules = Backoff & {
  /** No new try begins after this. */
  readonly deadlineMs: number;
  /** What is worth another try; without it, what is transient by its code. */
  readonly again?: (error: unknown) => boolean;
};

/** Time and randomness, from whoever has them. */
export type RetryMeans = {
  readonly nowMs: () => number;
  /** In [0, 1). */
  readonly random: () => number;
  readonly sleep: (ms: number) => Promise<unknown>;
};

/**
 * Does the work until it succeeds, fails for good, or the deadline would pass while waiting; rejects with what the last
 * try rejected with. For work that may safely be done twice.
 */
export async function retry<T>(work: () => Promise<T>, rules: RetryRules, means: RetryMeans): Promise<T> {
  const { again = isTransient } = rules;
  const untilMs = means.nowMs() + rules.deadlineMs;
  for (let failures = 1; ; failures++) {
    try {
      return await work();
    } catch (error) {
      const waitMs = jitteredMs(rules, failures, means.random());
      if (!again(error) || means.nowMs() + waitMs > untilMs) throw error;
      await means.sleep(waitMs);
    }
  }
}
