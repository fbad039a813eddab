import type { Data, Entry } from "./audit/record.ts";
import { type Counted, createCoalescer } from "./core/coalesce.ts";
import type { ErrorCode } from "./core/errors.ts";
import { createProbing, type ProbingSettings } from "./core/probing.ts";
import type { Signal } from "./core/signal.ts";
import { type Clerk, monoMs } from "./limits.ts";
import type { Clock } from "./ports.ts";

/** Who was refused, and the id of the token that he showed; null without one. */
type Refused = { readonly uid: number; readonly token: string | null };

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
  /** The id of the token at the root of this one; null when it is not known. */
  readonly rootOf: (token: string) => string | null;
  readonly clock: Clock;
  readonly append: (entry: Entry) => { readonly seq: number; readonly durable: Promise<unknown> };
  readonly submit: (signal: Signal) => void;
};

export function createDenials(parts: DenialParts): Denials {
  const { probing, repeatWindowMs, rootOf, clock, append, submit } = parts;
  const repeats = createCoalescer(repeatWindowMs);
  const watch = createProbing(probing);
  let stopped = false;

  function refused({ uid, token }: Refused): void {
    const tree = token === null ? null : rootOf(token);
    const facts = watch.denied({ uid, tree }, monoMs(clock));
    if (facts !== null) submit({ kind: "peer.probing", facts, seenNs: clock.monoNs() });
  }

  /** Room is a tree's and a user's: whoever narrows his token has no more of it, and takes none of the others'. */
  function causeOf({ uid, token }: Refused, key: string): { readonly caller: string; readonly key: string } {
    if (token === null) return { caller: `uid ${uid}`, key };
    const root = rootOf(token) ?? token;
    return { caller: `token ${root} uid ${uid}`, key: root === token ? key : `${key} token ${token}` };
  }

  return {
    record(caller, { digest, answer, data }) {
      if (stopped) return { seq: -1, durable: Promise.resolve() };
      let durable: Promise<unknown> = Promise.resolve();
      const cause = causeOf(caller, `${digest} ${answer}`);
      const { seq } = repeats.take(cause, monoMs(clock), () => {
        const receipt = append({ kind: "decision", data });
        durable = receipt.durable.catch(() => undefined);
        return receipt.seq;
      });
      // after its record: the log tells the cause before the effect
      if (data["code"] !== LIMITED) refused(caller);
      return { seq, durable };
    },
    refused,
    tick() {
      if (stopped) return;
      for (const counted of repeats.drain(monoMs(clock)))
        if (append(repeatedRecord(counted)).seq === -1) repeats.giveBack(counted);
    },
    stop() {
      stopped = true;
      for (const counted of repeats.drainAll()) append(repeatedRecord(counted));
    },
  };
}

/** Asking too often is no looking for a way through. docs/LIMITS.md */
const LIMITED: ErrorCode = "rate-limited";

function repeatedRecord({ caller, key, count, seq }: Counted): Entry {
  return { kind: "decision.repeated", data: { caller, cause: key.slice(0, MAX_CAUSE), count, first: seq } };
}

const MAX_CAUSE = 500;
