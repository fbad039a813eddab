import type { Entry } from "./audit/record.ts";
import {
  baselineDigest,
  diffStates,
  type FileDifference,
  type FileState,
  fileSignal,
  type SelfPath,
} from "./core/fingerprint.ts";
import type { Mode } from "./core/mode.ts";
import type { Signal } from "./core/signal.ts";
import { match, type Tripwire } from "./core/tripwire.ts";
import type { BaselineStore } from "./ports.ts";

export type BaselineParts = {
  readonly snapshot: () => Promise<readonly FileState[]>;
  readonly store: BaselineStore;
  readonly self: readonly SelfPath[];
  readonly tripwires: readonly Tripwire[];
  readonly append: (entry: Entry) => void;
  readonly seenNs: () => bigint;
};

/** What the time before this start left behind. */
export type Before = {
  readonly kind: "first" | "clean" | "crash";
  readonly mode: Mode;
  /** Digest of the newest `baseline.set`; "" when there is none. */
  readonly digest: string;
  /** RFC 3339: the last record before this start. */
  readonly lastAt: string;
  readonly sameBoot: boolean;
};

export type Comparison = { readonly changes: readonly string[]; readonly states: readonly FileState[] };

/** The accepted picture of the watched files: what a difference is measured against, and how it is renewed. */
export type Baseline = {
  /** The gap check: records what changed while nobody watched; returns what tripwires want to hear of. */
  begin(before: Before): Promise<readonly Signal[]>;
  /** A live change that tripped nothing: it goes into the baseline at a following tick. */
  noted(path: string): void;
  tick(): void;
  /** The paths known to differ, without looking at the disk: for the status. */
  pendingChanges(): readonly string[];
  /** A live change that tripped: it stays a difference until a person accepts it. */
  tripped(path: string): void;
  /** What differs now. Throws nothing: what cannot be read is a difference. */
  compare(): Promise<Comparison>;
  /** Makes what a person was shown the baseline. */
  accept(seen: Comparison, by: string): Promise<void>;
};

const MAX_CHANGES_RECORDED = 100;
const MAX_PENDING = 10_000;

export function createBaseline(parts: BaselineParts): Baseline {
  let accepted: readonly FileState[] | null = null; // only set() writes this
  const pending = new Set<string>(); // at most MAX_PENDING: beyond that the next start notes the rest
  const differing = new Set<string>(); // for the status only, so it may be cut off at MAX_CHANGES_RECORDED
  let renewing = false;

  function set(states: readonly FileState[], why: string, changes: readonly string[]): void {
    parts.store.save(states);
    accepted = states;
    parts.append({
      kind: "baseline.set",
      data: {
        digest: baselineDigest(states),
        files: states.length,
        why,
        changes: changes.slice(0, MAX_CHANGES_RECORDED),
      },
    });
  }

  async function begin(before: Before): Promise<readonly Signal[]> {
    const found = await parts.snapshot();
    if (before.kind === "first") {
      set(found, "first start", []);
      return [];
    }
    const stored = load(before.digest);
    if ("why" in stored) {
      recordGap(before, [`the baseline: ${stored.why}`], 1);
      return [
        {
          kind: "self.changed",
          facts: { path: parts.store.path, part: "baseline", change: stored.why },
          seenNs: parts.seenNs(),
        },
      ];
    }
    accepted = stored.states;
    const differences = diffStates(stored.states, found, before.sameBoot ? "compare" : "ignore");
    recordGap(before, differences.map(describe), differences.length);
    if (before.kind === "crash") return [];
    const signals = differences.map((difference) => fileSignal(difference, parts.self, parts.seenNs()));
    const tripping = signals.filter((signal) => tripsAcrossStop(signal, before.mode));
    renewFrom(found, differences, tripping);
    return tripping;
  }

  function load(digest: string): { states: readonly FileState[] } | { why: string } {
    const stored = parts.store.load();
    if (stored.kind === "missing") return { why: "missing" };
    if (stored.kind === "unreadable") return { why: stored.why };
    if (baselineDigest(stored.states) !== digest) return { why: "is not the one the log signed" };
    return { states: stored.states };
  }

  function recordGap(before: Before, changes: readonly string[], count: number): void {
    parts.append({
      kind: "gap",
      data: {
        since: before.lastAt,
        ended: before.kind,
        count,
        changes: changes.slice(0, MAX_CHANGES_RECORDED),
      },
    });
  }

  function tripsAcrossStop(signal: Signal, mode: Mode): boolean {
    return match(parts.tripwires, signal, mode).some(
      (wire) => wire.action.kind === "trip" && wire.acrossStop === "trip",
    );
  }

  /** What no tripwire minds is accepted; the rest stays a difference until a person accepts it. */
  function renewFrom(
    found: readonly FileState[],
    differences: readonly FileDifference[],
    tripping: readonly Signal[],
  ): void {
    const minded = new Set(tripping.map((signal) => signal.facts["path"]));
    const fine = differences.filter((difference) => !minded.has(difference.path));
    if (fine.length > 0) adopt(found, new Set(fine.map((d) => d.path)), "changed across a clean stop");
  }

  /** Takes over the states of some paths and leaves the rest as accepted. */
  function adopt(found: readonly FileState[], paths: ReadonlySet<string>, why: string): void {
    if (accepted === null) return;
    const kept = accepted.filter((state) => !paths.has(state.path));
    set([...kept, ...found.filter((state) => paths.has(state.path))], why, [...paths]);
  }

  async function renewNoted(): Promise<void> {
    const paths = new Set(pending);
    pending.clear();
    const found = await parts.snapshot();
    if (accepted === null) return;
    const changed = diffStates(accepted, found, "compare").filter((difference) => paths.has(difference.path));
    if (changed.length > 0)
      adopt(found, new Set(changed.map((d) => d.path)), "changed where it is only noted");
  }

  async function compare(): Promise<Comparison> {
    const states = await parts.snapshot();
    if (accepted === null)
      return { changes: ["the baseline cannot be read: everything counts as changed"], states };
    // Content, owner and mode count here, not the inode: a file put back as it was is as it was.
    const differences = diffStates(accepted, states, "ignore");
    differing.clear();
    for (const difference of differences.slice(0, MAX_CHANGES_RECORDED)) differing.add(difference.path);
    return { changes: differences.map(describe), states };
  }

  return {
    begin,
    noted(path) {
      if (pending.size < MAX_PENDING) pending.add(path);
    },
    tripped(path) {
      if (differing.size < MAX_CHANGES_RECORDED) differing.add(path);
    },
    pendingChanges: () => [...differing],
    tick() {
      if (pending.size === 0 || renewing) return;
      renewing = true;
      renewNoted()
        .catch(() => undefined) // the files are looked at again with the next change; the accepted picture stays as it was
        .finally(() => {
          renewing = false;
        });
    },
    compare,
    async accept(seen, by) {
      set(seen.states, `accepted by ${by}`, seen.changes);
      differing.clear();
    },
  };
}

function describe(difference: FileDifference): string {
  return `${difference.path} ${difference.change}`;
}
