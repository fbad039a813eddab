import type { Entry } from "../audit/record.ts";
import type { ErrorCode } from "./errors.ts";
import type { Flow } from "./flow.ts";
import { renderFlow, sameFlow } from "./flow-text.ts";
import type { Holding } from "./held.ts";
import type { Mode } from "./mode.ts";
import type { Answer, Cause, Loosening, State, Step } from "./state.ts";

export function quiet(state: State): Step {
  return { state, records: [], enforce: null, awaits: null, answers: [], repeat: false };
}

export function order(state: State, records: readonly Entry[]): Step {
  const attempt = state.attempt + 1;
  const { wanted: mode, keep } = state;
  return {
    ...quiet({ ...state, attempt }),
    records,
    enforce: { mode, attempt, hold: state.held.hold, keep },
  };
}

export function refuse(
  state: State,
  request: number,
  code: ErrorCode,
  why: string,
  records: readonly Entry[] = [],
): Step {
  return { ...quiet(state), records, answers: [{ request, answer: { kind: "refused", code, why } }] };
}

export function done(request: number, changed: boolean): Step["answers"][number] {
  return { request, answer: { kind: "done", changed } };
}

export function answer(request: number | null, given: Answer): Step["answers"] {
  return request === null ? [] : [{ request, answer: given }];
}

/** The answer owed to whoever asked for the loosening that lapses now. */
export function lapsed(state: State, why: string): Step["answers"] {
  return state.loosening
    ? answer(state.loosening.request, { kind: "refused", code: "loosening-lapsed", why })
    : [];
}

/** Why nothing may be loosened at this moment, or null. */
export function loosenObstacle(state: State): { code: ErrorCode; why: string } | null {
  if (state.frozen) return { code: "clock-frozen", why: `loosening is frozen: ${state.frozen.why}` };
  const full = fullDisk(state);
  if (full) return full;
  if (state.loosening) return { code: "loosening-pending", why: "another loosening is under way" };
  return null;
}

/** Why nothing can be loosened for want of room in the log, or null. */
export function fullDisk(state: State): { code: ErrorCode; why: string } | null {
  if (state.room === "ok") return null;
  return { code: "log-unavailable", why: "the log's disk is nearly full: nothing is loosened" };
}

/** Writes a loosening's record; the world changes when it is durable. */
export function promise(
  state: State,
  request: number | null,
  change: Loosening["change"],
  by: string,
  reason: string,
): Step {
  const number = state.promised + 1;
  const loosening: Loosening = { number, request, epoch: state.epoch, change };
  const record = promised(state, change, by, reason);
  return { ...quiet({ ...state, promised: number, loosening }), records: [record], awaits: number };
}

function promised(state: State, change: Loosening["change"], by: string, reason: string): Entry {
  switch (change.kind) {
    case "mode":
      return modeChanged(state.wanted, { ...state, wanted: change.to, keep: change.keep }, by, reason);
    case "hold":
      return holdChanged(state, change.to, by, reason);
    case "unfreeze":
      return { kind: "clock.cleared", data: { by, reason, wanted: state.wanted, epoch: state.epoch } };
  }
}

/** The state after a tightening to a mode: what was on its way to loosen lapses, and no flow is kept any more. */
export function tightened(state: State, to: Mode, cause: Cause): State {
  const closed = withKeep(state, null);
  return { ...closed, wanted: to, epoch: state.epoch + 1, cause, loosening: null, ceremony: null };
}

/** What the kernel confirmed of one hold says nothing of another, nor of one more flow or one less. */
export const UNCONFIRMED = { applied: null, how: null } as const;

export function withKeep(state: State, keep: Flow | null): State {
  return sameFlow(keep, state.keep) ? state : { ...state, ...UNCONFIRMED, keep };
}

/**
 * A loosening that lapses has its record on the way to the log: this one after it says that all is as it was. A lapsed
 * change of the mode needs none: the record of what made it lapse names the mode.
 */
export function stillSo(before: State, next: State): readonly Entry[] {
  const change = before.loosening?.change;
  if (change?.kind === "hold") {
    const why = "the change of the hold recorded before this lapsed";
    return [holdChanged({ ...next, held: change.to.held }, next, "lapsed", why)];
  }
  if (change?.kind !== "unfreeze" || !next.frozen) return [];
  return [{ kind: "clock.frozen", data: { why: next.frozen.why, wanted: next.wanted, epoch: next.epoch } }];
}

export function modeChanged(from: Mode, next: State, by: string, reason: string): Entry {
  const data = { from, wanted: next.wanted, epoch: next.epoch, by, reason };
  const keep = renderFlow(next.keep);
  return { kind: "mode.changed", data: keep === "" ? data : { ...data, keep } };
}

/** Says all of the hold, also what lies beneath. `why`: a person's reason, or what the change is the end of. */
export function holdChanged(
  state: Pick<State, "held" | "wanted" | "epoch">,
  { held, base }: Holding,
  by: string,
  why: string,
): Entry {
  const { hold: to, lasts } = held;
  const beneath = lasts === "boot" ? { base } : {};
  const { held: before, wanted: mode, epoch: inEpoch } = state;
  return {
    kind: "hold.changed",
    data: { from: before.hold, to, lasts, ...beneath, by, why, mode, inEpoch },
  };
}
