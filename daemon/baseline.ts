import { type AcceptedParts, createAccepted } from "./accepted.ts";
import { capLines, capList } from "./core/capped-list.ts";
import { BoundaryError, renderErrorChain } from "./core/errors.ts";
import {
  baselineDigest,
  diffStates,
  type FileDifference,
  type FileState,
  fileSignal,
  missingState,
  type SelfPath,
} from "./core/fingerprint.ts";
import type { Mode } from "./core/mode.ts";
import type { Signal } from "./core/signal.ts";
import { match, type Tripwire } from "./core/tripwire.ts";
import { createUnaccepted } from "./core/unaccepted.ts";
import type { FileMemory } from "./ports.ts";

export type BaselineParts = AcceptedParts & {
  /** What the file sensor knows; null while it has not looked at everything. */
  readonly memory: () => FileMemory | null;
  /** Reads everything watched from disk, now. */
  readonly snapshot: () => Promise<readonly FileState[]>;
  readonly self: readonly SelfPath[];
  readonly tripwires: readonly Tripwire[];
  /** Takes a change that no event told of. */
  readonly tell: (signal: Signal) => void;
  readonly seenNs: () => bigint;
  /** What is only noted is taken over once in this time, at most. */
  readonly renewEveryMs: number;
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
  /** What else changed while nobody watched, a line each. */
  readonly unwatched?: readonly string[];
};

/** One look at the disk, against what is accepted. */
export type Comparison = {
  /** One line for each change: as many as there are, so to be capped by whoever shows them. */
  readonly changes: readonly string[];
  /** The states that differ. */
  readonly found: readonly FileState[];
  /** Of `found`, without the inodes: equal when the same was seen. */
  readonly digest: string;
  /** The moment before the look. */
  readonly mark: number;
};

/** The accepted picture of the watched files: what a difference is measured against, and how it is renewed. */
export type Baseline = {
  /**
   * The gap check: records what changed while nobody watched; returns what tripwires want to hear of. The sensor has to
   * be watching by then, so that every change is in the gap or has a signal. Never rejects because of the disk or the
   * log: a baseline that cannot be read or kept is a signal about ourselves.
   */
  begin(before: Before): Promise<readonly Signal[]>;
  /** A live change that tripped nothing: it goes into the baseline at a following tick. */
  noted(path: string): void;
  /** A live change that tripped: it stays a difference until a person accepts it. */
  tripped(path: string): void;
  tick(): void;
  /** Everything has been hashed again: signals what differs from the baseline and is not known to. */
  recheck(): void;
  /** Some of the paths known to differ, without looking at the disk: for the status. */
  pendingChanges(): readonly string[];
  /** What differs now and nobody may take over but a person. */
  compare(): Promise<Comparison>;
  /** Compares, and remembers it as what a person was shown. */
  show(): Promise<Comparison>;
  /** Whether this is what a person was shown last. */
  isAsShown(seen: Comparison): boolean;
  /**
   * Makes what a person was shown the baseline, if `loosen` succeeds: everything that can fail without the log failing
   * is done before it. Rejects as `loosen` does, or with "state-unwritable" (then it was not called), or with
   * "log-unavailable".
   */
  acceptWith<T>(seen: Comparison, by: string, loosen: () => Promise<T>): Promise<T>;
};

/** A baseline on its way: the states, and the paths taken over from what was found. */
type Draft = { readonly states: readonly FileState[]; readonly taken: ReadonlySet<string> };

const MAX_PENDING = 10_000;
const MAX_UNACCEPTED = 10_000;
const MAX_SHOWN_IN_STATUS = 100;
const MAX_TAKE_OVER_TRIES = 5;

export function createBaseline(parts: BaselineParts): Baseline {
  const accepted = createAccepted(parts);
  const unaccepted = createUnaccepted(MAX_UNACCEPTED);
  const pending = new Set<string>(); // at most MAX_PENDING: the rest is found again by recheck
  let inFlight: ReadonlySet<string> = new Set(); // only taking() writes this
  const differing = new Set<string>(); // for the status only, so it may be cut off
  let shownDigest: string | null = null;
  let renewing = false;
  let renewFromMs = Number.NEGATIVE_INFINITY;

  const nowMs = () => Number(parts.seenNs() / 1_000_000n);

  // --- a start ---

  async function begin(before: Before): Promise<readonly Signal[]> {
    const memory = parts.memory() ?? { states: await parts.snapshot(), unsettled: new Set<string>() };
    if (before.kind === "first") return takeFirst(memory);
    const stored = accepted.load(before.digest);
    if (stored.kind === "missing" && before.kind === "clean" && before.digest === "") {
      recordGap(before, []); // a first start that was stopped before it had looked
      return takeFirst(memory);
    }
    if (stored.kind === "states") return checkGap(before, memory, stored.states);
    const why = stored.kind === "missing" ? "missing" : stored.why;
    recordGap(before, [`the baseline: ${why}`]);
    return [brokenSignal(why)];
  }

  /** What no tripwire minds is accepted; the rest stays a difference until a person accepts it. After a crash that is all. */
  async function checkGap(before: Before, memory: FileMemory, was: readonly FileState[]) {
    const differences = differencesTo(was, memory, before.sameBoot ? "compare" : "ignore");
    recordGap(before, differences.map(describe));
    const signals = differences.map((difference) => fileSignal(difference, parts.self, parts.seenNs()));
    const tripping = signals.filter((signal) => tripsAcrossStop(signal, before.mode));
    for (const signal of before.kind === "crash" ? signals : tripping) mind(signal.facts["path"] ?? "");
    if (before.kind === "crash") return [];
    const fine = differences.map(({ path }) => path).filter((path) => !unaccepted.has(path));
    await taking(new Set(fine), () => takeOver(memory, "changed across a clean stop"));
    return tripping;
  }

  /** The baseline of a first start: what is there, but for what is changing or has tripped already. */
  async function takeFirst(memory: FileMemory): Promise<readonly Signal[]> {
    const draft = (): Draft => {
      const states = memory.states.filter(({ path }) => isSettled(memory, path) && !unaccepted.has(path));
      return { states, taken: new Set(states.map(({ path }) => path)) };
    };
    const taken = await taking(new Set(memory.unsettled), () => replace(draft, "first start"));
    for (const path of memory.unsettled) noted(path);
    return taken === "done" ? [] : [brokenSignal("cannot be kept")];
  }

  function recordGap(before: Before, files: readonly string[]): void {
    const changes = [...(before.unwatched ?? []), ...files];
    const data = { since: before.lastAt, ended: before.kind, count: changes.length };
    try {
      parts.append({ kind: "gap", data: { ...data, changes: capList(changes).shown } });
    } catch (error) {
      parts.opLog.error({ err: renderErrorChain(error) }, "the gap could not be recorded");
    }
  }

  function tripsAcrossStop(signal: Signal, mode: Mode): boolean {
    return match(parts.tripwires, signal, mode).some(
      (wire) => wire.action.kind === "trip" && wire.acrossStop === "trip",
    );
  }

  function brokenSignal(change: string): Signal {
    const facts = { path: parts.store.path, part: "baseline", change };
    return { kind: "self.changed", facts, seenNs: parts.seenNs() };
  }

  // --- taking over what nobody minds ---

  /** Told, not thrown: what could not be taken over is looked at again, and counts as waiting until then. */
  function taking(paths: ReadonlySet<string>, work: () => Promise<void>): Promise<"done" | "failed"> {
    return accepted.exclusive(async () => {
      inFlight = paths;
      try {
        await work();
        return "done";
      } catch (error) {
        parts.opLog.error({ err: renderErrorChain(error) }, "the baseline could not be renewed");
        for (const path of paths) noted(path);
        return "failed";
      } finally {
        inFlight = new Set();
      }
    });
  }

  /** Takes over what the sensor has told of at the paths in flight, and leaves the rest as accepted. */
  async function takeOver(memory: FileMemory, why: string): Promise<void> {
    const before = accepted.states();
    if (before === null || unaccepted.isFull()) return;
    for (const path of inFlight) if (!isSettled(memory, path)) noted(path);
    const changed = diffStates(before, memory.states)
      .map(({ path }) => path)
      .filter((path) => inFlight.has(path) && isSettled(memory, path));
    const draft = () =>
      draftOf(before, memory.states, new Set(changed.filter((path) => !unaccepted.has(path))));
    await replace(draft, why);
  }

  /** A trip while the file is written means that its path is nobody's to take over any more: then once again. */
  async function replace(draft: () => Draft, why: string): Promise<void> {
    for (let tries = 0; tries < MAX_TAKE_OVER_TRIES; tries += 1) {
      const { states, taken } = draft();
      if (taken.size === 0 && accepted.states() !== null) return;
      const prepared = await accepted.prepare(states);
      if (unaccepted.isFull() || [...taken].some((path) => unaccepted.has(path))) continue;
      await prepared.sign({ why, changes: accepted.states() === null ? [] : [...taken] });
      return;
    }
    throw new BoundaryError("state-unwritable", "renewing the baseline: files trip all the while");
  }

  // --- while it runs ---

  function noted(path: string): void {
    if (!unaccepted.has(path) && pending.size < MAX_PENDING) pending.add(path);
  }

  function mind(path: string): void {
    unaccepted.add(path);
    pending.delete(path);
    if (differing.size < MAX_SHOWN_IN_STATUS) differing.add(path);
  }

  function tick(): void {
    if (pending.size === 0 || renewing || nowMs() < renewFromMs) return;
    const memory = parts.memory();
    if (memory === null || accepted.states() === null || unaccepted.isFull()) return;
    renewing = true;
    void renewNoted(memory).finally(() => {
      renewing = false;
    });
  }

  async function renewNoted(memory: FileMemory): Promise<void> {
    const ready = new Set([...pending].filter((path) => isSettled(memory, path)));
    const changed = diffStates(accepted.states() ?? [], memory.states).some(({ path }) => ready.has(path));
    if (changed) renewFromMs = nowMs() + parts.renewEveryMs;
    for (const path of ready) pending.delete(path);
    if (changed) await taking(ready, () => takeOver(memory, "changed where it is only noted"));
  }

  function recheck(): void {
    const memory = parts.memory();
    const was = accepted.states();
    if (was === null || memory === null) return;
    // Content, owner and mode count here, not the inode: a file put back as it was is as it was.
    for (const difference of diffStates(was, memory.states, "ignore")) {
      const { path } = difference;
      if (!isSettled(memory, path) || unaccepted.has(path) || isWaiting(path)) continue;
      parts.tell(fileSignal(difference, parts.self, parts.seenNs()));
    }
  }

  function isWaiting(path: string): boolean {
    return pending.has(path) || inFlight.has(path);
  }

  // --- a person ---

  async function compare(): Promise<Comparison> {
    const mark = unaccepted.mark();
    const states = await parts.snapshot();
    const was = accepted.states();
    const differences = diffStates(was ?? [], states, "ignore").filter(({ path }) => isForPerson(path));
    const found = statesOf(differences, states);
    const digest = baselineDigest(found.map((state) => ({ ...state, inode: "" })));
    const changes =
      was === null
        ? ["the baseline cannot be read: everything counts as changed"]
        : differences.map(describe);
    differing.clear();
    if (was !== null) for (const { path } of differences.slice(0, MAX_SHOWN_IN_STATUS)) differing.add(path);
    return { changes, found, digest, mark };
  }

  /** What is only noted is taken over without asking, so it is not asked about; unless all is in doubt. */
  function isForPerson(path: string): boolean {
    return unaccepted.isFull() || unaccepted.has(path) || !isWaiting(path);
  }

  async function show(): Promise<Comparison> {
    const seen = await compare();
    shownDigest = seen.digest;
    return seen;
  }

  async function accept<T>(seen: Comparison, by: string, loosen: () => Promise<T>): Promise<T> {
    const paths = new Set(seen.found.map(({ path }) => path));
    const { states } = draftOf(accepted.states() ?? [], seen.found, paths);
    const prepared = seen.changes.length > 0 ? await accepted.prepare(states) : null;
    const result = await loosen();
    await prepared?.sign({ why: `accepted by ${by}`, changes: seen.changes });
    unaccepted.clearUpTo(seen.mark);
    differing.clear();
    shownDigest = null;
    return result;
  }

  return {
    begin,
    noted,
    tripped: mind,
    tick,
    recheck,
    pendingChanges: () => capLines([...differing]),
    compare,
    show,
    isAsShown: (seen) => seen.digest === shownDigest,
    acceptWith: (seen, by, loosen) => accepted.exclusive(() => accept(seen, by, loosen)),
  };
}

function isSettled(memory: FileMemory, path: string): boolean {
  return !memory.unsettled.has(path);
}

/** Something is under way at an unsettled path: whatever it is, it is no longer as it was. */
function differencesTo(
  was: readonly FileState[],
  { states, unsettled }: FileMemory,
  inodes: "compare" | "ignore",
): readonly FileDifference[] {
  const settled = diffStates(was, states, inodes).filter(({ path }) => !unsettled.has(path));
  return [...settled, ...[...unsettled].map((path) => ({ path, change: "modified" }) as const)];
}

function draftOf(
  before: readonly FileState[],
  found: readonly FileState[],
  taken: ReadonlySet<string>,
): Draft {
  const kept = before.filter((state) => !taken.has(state.path));
  return { states: [...kept, ...found.filter((state) => taken.has(state.path))], taken };
}

function statesOf(
  differences: readonly FileDifference[],
  states: readonly FileState[],
): readonly FileState[] {
  const byPath = new Map(states.map((state) => [state.path, state]));
  return differences.map(({ path }) => byPath.get(path) ?? missingState(path));
}

function describe(difference: FileDifference): string {
  return `${difference.path} ${difference.change}`;
}
