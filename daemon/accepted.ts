import type { Entry } from "./audit/record.ts";
import { capList } from "./core/capped-list.ts";
import { BoundaryError, renderErrorChain } from "./core/errors.ts";
import { baselineDigest, type FileState } from "./core/fingerprint.ts";
import type { BaselineStore, OpLog, PreparedBaseline } from "./ports.ts";

export type AcceptedParts = {
  readonly store: BaselineStore;
  /** Throws when the record cannot be taken. */
  readonly append: (entry: Entry) => { readonly durable: Promise<unknown> };
  readonly opLog: OpLog;
};

/** What goes into the record of a new baseline. */
export type Acceptance = { readonly why: string; readonly changes: readonly string[] };

/**
 * The accepted states, in memory, in their file and as a digest in the signed log. The new file is written beside the
 * old, then the log signs its digest, then it takes the old one's place: at any moment the file that the log signed is there.
 */
export type Accepted = {
  /** Null while there are none that the log signed. */
  states(): readonly FileState[] | null;
  load(digest: string): ReturnType<BaselineStore["load"]>;
  /** Runs alone: there is one file beside, and whoever has it written must sign it or leave it. */
  exclusive<T>(work: () => Promise<T>): Promise<T>;
  /** Rejects with "state-unwritable", or "log-unavailable"; then everything is as it was. */
  prepare(states: readonly FileState[]): Promise<Prepared>;
};

export type Prepared = {
  /**
   * Records the prepared states as the baseline; they are when it resolves. Throws what append throws, and then
   * everything is as it was; rejects with "log-unavailable" when nobody knows what is on disk.
   */
  sign(acceptance: Acceptance): Promise<void>;
};

export function createAccepted(parts: AcceptedParts): Accepted {
  let accepted: readonly FileState[] | null = null; // only load and sign write this
  let uncertain = false; // whether the log signed the last one: so neither file may be written over
  let lastWork: Promise<unknown> = Promise.resolve();

  async function sign(
    states: readonly FileState[],
    file: PreparedBaseline,
    { why, changes }: Acceptance,
  ): Promise<void> {
    const counts = { digest: baselineDigest(states), files: states.length, count: changes.length };
    const data = { ...counts, why, changes: capList(changes).shown };
    const receipt = parts.append({ kind: "baseline.set", data });
    try {
      await receipt.durable;
    } catch (cause) {
      uncertain = true;
      throw new BoundaryError("log-unavailable", "recording the baseline", { cause });
    }
    accepted = states;
    await file.commit().catch((error: unknown) => {
      // the file beside is the signed one, and a start finds it
      parts.opLog.error({ err: renderErrorChain(error) }, "the old baseline could not be replaced yet");
    });
  }

  return {
    states: () => accepted,
    load(digest) {
      const loaded = parts.store.load((states) => baselineDigest(states) === digest);
      if (loaded.kind === "states") accepted = loaded.states;
      return loaded;
    },
    exclusive(work) {
      const done = lastWork.then(work);
      lastWork = done.catch(() => undefined); // its caller has it
      return done;
    },
    async prepare(states) {
      if (uncertain) throw new BoundaryError("log-unavailable", "renewing the baseline");
      const file = await parts.store.prepare(states);
      return { sign: (acceptance) => sign(states, file, acceptance) };
    },
  };
}
