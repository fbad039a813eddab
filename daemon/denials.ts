import type { Data, Entry } from "./audit/record.ts";
import { type Counted, createCoalescer } from "./core/coalesce.ts";
import { createProbing, type ProbingSettings, type Refused } from "./core/probing.ts";
import type { Signal } from "./core/signal.ts";
import { type Clerk, monoMs } from "./limits.ts";
import type { Clock } from "./ports.ts";

/** What is done with every denial: the same one again is counted, and too many of one caller are a signal. */
export type Denials = Clerk & {
  /**
   * A denial. `digest`: of what was asked (core/access-text.ts); `answer`: all of the answer that may differ. The first
   * is a record ("decision", with `data`), those like it within the window are counted. `seq` is the record that stands
   * for it, -1 when none does. A denial stands without its record: nobody need wait for `durable`, which never rejects.
   */
  record(
    caller: Refused,
    denied: { readonly digest: string; readonly answer: string; readonly data: Data },
  ): { readonly seq: number; readonly durable: Promise<unknown> };
  /** A refusal that is recorded elsewhere, or not at all: it counts for probing. */
  refused(caller: Refused): void;
};

export type DenialParts = {
  readonly probing: ProbingSettings;
  readonly repeatWindowMs: number;
  readonly clock: Clock;
  readonly append: (entry: Entry) => { readonly seq: number; readonly durable: Promise<unknown> };
  readonly submit: (signal: Signal) => void;
};

export function createDenials({ probing, repeatWindowMs, clock, append, submit }: DenialParts): Denials {
  const repeats = createCoalescer(repeatWindowMs);
  const watch = createProbing(probing);
  let stopped = false;

  function refused(caller: Refused): void {
    const facts = watch.denied(caller, monoMs(clock));
    if (facts !== null) submit({ kind: "peer.probing", facts, seenNs: clock.monoNs() });
  }

  return {
    record(caller, { digest, answer, data }) {
      if (stopped) return { seq: -1, durable: Promise.resolve() };
      let durable: Promise<unknown> = Promise.resolve();
      const cause = { caller: nameOf(caller), key: `${digest} ${answer}` };
      const { seq } = repeats.take(cause, monoMs(clock), () => {
        const receipt = append({ kind: "decision", data });
        durable = receipt.durable.catch(() => undefined);
        return receipt.seq;
      });
      refused(caller); // after its record: the log tells the cause before the effect
      return { seq, durable };
    },
    refused,
    tick() {
      if (stopped) return;
      for (const counted of repeats.drain(monoMs(clock))) append(repeatedRecord(counted));
    },
    stop() {
      stopped = true;
      for (const counted of repeats.drainAll()) append(repeatedRecord(counted));
    },
  };
}

function nameOf({ uid, token }: Refused): string {
  return token === null ? `uid ${uid}` : `token ${token}`;
}

function repeatedRecord({ caller, key, count, seq }: Counted): Entry {
  return { kind: "decision.repeated", data: { caller, cause: key.slice(0, MAX_CAUSE), count, first: seq } };
}

const MAX_CAUSE = 500;
