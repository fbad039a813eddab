import { BoundaryError } from "../core/errors.ts";

/**
 * Work for one that may be slow, or never answer: one after the other, each with a deadline. Nothing that runs is ended
 * by it, for nothing can end it; who waits is told. `after`: what is to be done when no work is under way any more, said
 * before it.
 */
export function createTurns(deadlineMs: number) {
  const afterwards: (() => void)[] = [];
  /** What gives up those whose turn has not ended. */
  const waiting = new Set<() => void>();
  let turn: Promise<unknown> = Promise.resolve();
  let isBusy = false;
  let isStuck = false;

  /**
   * What comes after the deadline is `discard`ed. What is behind it then is given up as well and not done at all, and so
   * is everything until it has come. Rejects with BoundaryError("kek-unavailable").
   */
  function inTurn<T>(doing: string, work: () => Promise<T>, discard: (late: T) => void): Promise<T> {
    const silent = () =>
      new BoundaryError("kek-unavailable", `${doing}: the token has not answered in ${deadlineMs} ms`);
    if (isStuck) return Promise.reject(silent());
    return new Promise((resolve, reject) => {
      let isGivenUp = false;
      const giveUp = () => {
        isGivenUp = true;
        reject(silent());
      };
      const run = async () => {
        if (isGivenUp) return;
        const timer = setTimeout(stuck, deadlineMs);
        isBusy = true;
        try {
          const result = await work();
          if (isGivenUp) discard(result);
          else resolve(result);
        } catch (cause) {
          reject(
            cause instanceof BoundaryError ? cause : new BoundaryError("kek-unavailable", doing, { cause }),
          );
        } finally {
          clearTimeout(timer);
          waiting.delete(giveUp);
          isStuck = false;
          isBusy = false;
          for (const each of afterwards.splice(0)) each();
        }
      };
      waiting.add(giveUp);
      turn = turn.then(run);
    });
  }

  function stuck(): void {
    isStuck = true;
    for (const giveUp of waiting) giveUp();
    waiting.clear();
  }

  return {
    inTurn,
    /** At once, or when the work under way has ended. Does not throw. */
    whenIdle(then: () => void): void {
      if (isBusy) afterwards.push(then);
      else then();
    },
  };
}
