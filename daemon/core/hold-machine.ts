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
  if (sameHeld(state.held, ENFORCING)) return alreadyEnforcing(state, input);
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
  return { ...order(next, [record, ...restated(state, next)]), answers };
}

/** No record of this change names the mode: where one of a loosening of it is on its way to the log, another has to follow. */
function restated(before: State, next: State): readonly Entry[] {
  if (before.loosening?.change.kind !== "mode") return stillSo(before, next);
  const { wanted, epoch } = next;
  return [{ kind: "mode.lapsed", data: { wanted, epoch, why: "the mode was enforced meanwhile" } }];
}

/** To enforce without a condition, while it is on trial, confirms it. */
function alreadyEnforcing(state: State, input: Extract<Input, { kind: "enforce" }>): Step {
  if (state.trial === null) return { ...quiet(state), answers: [done(input.request, false)] };
  if (input.confirmMs !== null) {
    return refuse(state, input.request, "argument-invalid", "enforcing is on trial already: confirm it");
  }
  return confirmHold(state, input.request, input.by.name);
}

function confirmHold(state: State, request: number, by: string): Step {
  const records = [confirmed(state, by)];
  return { ...quiet({ ...state, trial: null }), records, answers: [done(request, true)] };
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
  const kept: State = { ...state, deadline: deadline?.confirmable ? null : deadline, trial: null };
  return {
    ...quiet(kept),
    records: [confirmed(state, by)],
    answers: [done(input.request, true)],
  };
}

/** The trial is over and nobody confirmed: back to what it was, logged first. Asked again while something stands in the way. */
export function trialOver(state: State): Step {
  if (state.trial === null || loosenObstacle(state)) return quiet(state);
  const why = "the time for confirming has run out";
  const change = { kind: "hold", to: state.trial.to } as const;
  return promise({ ...state, trial: null }, null, change, "deadline", why);
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
