import type { Entry } from "../audit/record.ts";
import type { ErrorCode } from "./errors.ts";
import type { Mode } from "./mode.ts";
import type { Answer, Cause, Loosening, State, Step } from "./state.ts";

export function quiet(state: State): Step {
  return { state, records: [], enforce: null, awaits: null, answers: [], repeat: false };
}

export function order(state: State, records: readonly Entry[]): Step {
  const attempt = state.attempt + 1;
  return { ...quiet({ ...state, attempt }), records, enforce: { mode: state.wanted, attempt } };
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
  const record: Entry =
    change.kind === "mode"
      ? modeChanged(state.wanted, { ...state, wanted: change.to }, by, reason)
      : { kind: "clock.cleared", data: { by, reason, wanted: state.wanted, epoch: state.epoch } };
  return { ...quiet({ ...state, promised: number, loosening }), records: [record], awaits: number };
}

export function tightened(state: State, to: Mode, cause: Cause): State {
  return { ...state, wanted: to, epoch: state.epoch + 1, cause, loosening: null, ceremony: null };
}

export function modeChanged(from: Mode, next: State, by: string, reason: string): Entry {
  return { kind: "mode.changed", data: { from, wanted: next.wanted, epoch: next.epoch, by, reason } };
}
