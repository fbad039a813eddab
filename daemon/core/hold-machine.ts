import type { Entry } from "../audit/record.ts";
import { sameFlow } from "./flow-text.ts";
import { ENFORCING, lasting, sameHeld } from "./held.ts";
import { isStricter } from "./mode.ts";
import type { Input, State, Step } from "./state.ts";
import {
  done,
  holdChanged,
  lapsed,
  loosenObstacle,
  modeChanged,
  order,
  promise,
  quiet,
  refuse,
  stillSo,
  tightened,
  UNCONFIRMED,
} from "./steps.ts";

/** The hold's part of the mode machine: to enforce is a tightening, at once; every other change of the hold is logged first. */
export function enforceHold(state: State, input: Extract<Input, { kind: "enforce" }>, nowMs: number): Step {
  if (sameHeld(state.held, ENFORCING)) return alreadyEnforcing(state, input, nowMs);
  const { held, base } = state;
  const trial = input.confirmMs === null ? null : { atMs: nowMs + input.confirmMs, to: { held, base } };
  const next: State = {
    ...tightened(state, state.wanted, state.cause),
    ...UNCONFIRMED,
    keep: state.keep,
    ...lasting(ENFORCING),
    trial,
  };
  const record = holdChanged(state, lasting(ENFORCING), input.by.name, input.reason);
  const answers = [
    ...lapsed(state, `${input.by.name} enforced the mode meanwhile`),
    done(input.request, true),
  ];
  return { ...order(next, [record, ...restated(state, next, "the mode was enforced meanwhile")]), answers };
}

/** No record of this change names the mode: where one of a loosening of it is on its way to the log, another has to follow. */
function restated(before: State, next: State, why: string): readonly Entry[] {
  if (before.loosening?.change.kind !== "mode") return stillSo(before, next);
  const { wanted, epoch } = next;
  return [{ kind: "mode.lapsed", data: { wanted, epoch, why } }];
}

/** To enforce without a condition, while it is on trial, confirms it. What would open and is on its way to the log lapses. */
function alreadyEnforcing(state: State, input: Extract<Input, { kind: "enforce" }>, nowMs: number): Step {
  const { trial } = state;
  const { request, confirmMs } = input;
  const opens = state.loosening?.change.kind === "hold";
  if (trial === null && !opens) return { ...quiet(state), answers: [done(request, false)] };
  if (trial !== null && !opens && confirmMs !== null)
    return refuse(state, request, "argument-invalid", "enforcing is on trial already: confirm it");
  const again = trial === null || confirmMs === null ? null : { atMs: nowMs + confirmMs, to: trial.to };
  const next: State = { ...(opens ? withoutLoosening(state) : state), trial: again };
  const says = trial !== null && again === null ? [confirmed(state, input.by.name)] : [];
  const records = [...says, ...(opens ? stillSo(state, next) : [])];
  const answers = opens ? lapsed(state, `${input.by.name} enforced the mode meanwhile`) : [];
  return { ...quiet(next), records, answers: [...answers, done(request, true)] };
}

/** A tightening of nothing but what is on its way. */
function withoutLoosening(state: State): State {
  return { ...state, epoch: state.epoch + 1, loosening: null, ceremony: null };
}

function confirmed(state: State, by: string): Entry {
  return { kind: "mode.confirmed", data: { mode: state.wanted, hold: state.held.hold, by } };
}

/** What waits for a confirmation stays: the mode's way back and the hold's trial are over. */
export function confirm(state: State, input: Extract<Input, { kind: "confirm" }>): Step {
  const { deadline, trial } = state;
  const by = input.by.name;
  if (deadline?.confirmable && isStricter(deadline.to, state.wanted)) {
    // it would have tightened: to call that off is to loosen
    const obstacle = loosenObstacle(state);
    if (obstacle) return refuse(state, input.request, obstacle.code, obstacle.why);
    const { wanted: to, cause, keep } = state;
    const change = { kind: "mode", to, cause, deadline: null, keep } as const;
    return promise(state, input.request, change, by, `${to} is confirmed`);
  }
  if (!deadline?.confirmable && trial === null) {
    return refuse(state, input.request, "confirm-none", "nothing waits for a confirmation");
  }
  const over = { deadline: deadline?.confirmable ? null : deadline, trial: null };
  const answers = [done(input.request, true)];
  if (!goesBack(state)) return { ...quiet({ ...state, ...over }), records: [confirmed(state, by)], answers };
  const next: State = { ...withoutLoosening(state), ...over };
  const still = restated(state, next, `${by} confirmed it meanwhile`);
  return { ...quiet(next), records: [confirmed(state, by), ...still], answers };
}

/** Whether what is on its way to the log is the way back of something that waits for its confirmation. */
function goesBack({ loosening, deadline, trial }: State): boolean {
  if (loosening === null || loosening.request !== null) return false;
  const { kind } = loosening.change;
  return (kind === "mode" && deadline?.confirmable === true) || (kind === "hold" && trial !== null);
}

/** The trial is over and nobody confirmed: back to what it was, logged first. Asked again while something stands in the way. */
export function trialOver(state: State): Step {
  if (state.trial === null || loosenObstacle(state)) return quiet(state);
  const why = "the time for confirming has run out";
  const change = { kind: "hold", to: state.trial.to } as const;
  return promise(state, null, change, "deadline", why);
}

/** The flow that was kept is no more: neither is what let it through. A way back stays: whoever sat at its end needs it. */
export function flowEnded(state: State, input: Extract<Input, { kind: "flow-ended" }>): Step {
  const { deadline, trial, keep } = state;
  if (keep === null || !sameFlow(keep, input.flow)) return quiet(state);
  const why = "the connection that was kept has ended";
  const next: State = { ...tightened(state, state.wanted, state.cause), deadline, trial };
  const record = modeChanged(state.wanted, next, "flow-ended", why);
  return { ...order(next, [record, ...stillSo(state, next)]), answers: lapsed(state, why) };
}
