import type { Entry } from "../audit/record.ts";
import { ceilingMs } from "./backoff.ts";
import { ceremonyBegin, ceremonyCancel, ceremonyConfirm } from "./ceremony.ts";
import { isLooser, isStricter, type Mode } from "./mode.ts";
import type { Cause, Input, Settings, State, Step } from "./state.ts";
import {
  answer,
  done,
  fullDisk,
  lapsed,
  loosenObstacle,
  modeChanged,
  order,
  promise,
  quiet,
  refuse,
  tightened,
} from "./steps.ts";

const RETRY = { firstMs: 100, mostMs: 10_000 };

/** The first order to the kernel, and every renewed one for the mode already wanted. */
export function reorder(state: State): Step {
  return order(state, []);
}

/** Decides what one input means. `nowMs` is monotonic milliseconds. */
export function step(state: State, input: Input, settings: Settings, nowMs: number): Step {
  switch (input.kind) {
    case "trip":
      return trip(state, input);
    case "set-mode":
      return setMode(state, input, nowMs);
    case "ceremony-begin":
      return ceremonyBegin(state, input, settings, nowMs);
    case "ceremony-confirm":
      return ceremonyConfirm(state, input, settings, nowMs);
    case "ceremony-cancel":
      return ceremonyCancel(state, input);
    case "freeze":
      return freeze(state, input, nowMs);
    case "unfreeze":
      return unfreeze(state, input);
    case "room":
      return roomChanged(state, input);
    case "logged":
      return logged(state, input.loosening);
    case "log-failed":
      return logFailed(state, input.loosening);
    case "enforced":
      return enforced(state, input);
    case "enforce-failed":
      return enforceFailed(state, input, nowMs);
    case "unconfirmed":
      return order({ ...state, applied: null }, []);
    case "tick":
      return tick(state, nowMs);
    case "stop":
      return stop(state, input);
  }
}

function trip(state: State, input: Extract<Input, { kind: "trip" }>): Step {
  const tightens = isStricter(input.to, state.wanted);
  const to = tightens ? input.to : state.wanted;
  const cancels = state.loosening !== null || state.ceremony !== null || loosensLater(state);
  const next: State = {
    ...state,
    wanted: to,
    epoch: state.epoch + 1,
    cause: tightens ? { kind: "tripwire", why: `${input.tripwire}: ${input.why}` } : state.cause,
    loosening: null,
    ceremony: null,
    deadline: keptDeadline(state, to),
  };
  const record: Entry = {
    kind: "tripwire.fired",
    data: {
      tripwire: input.tripwire,
      why: input.why,
      facts: input.facts,
      from: state.wanted,
      wanted: to,
      epoch: next.epoch,
    },
  };
  const answers = lapsed(state, "a tripwire fired before the loosening was durable");
  const records = [record, ...stillFrozen(state, next)];
  if (tightens) return { ...order(next, records), answers };
  return { ...quiet(next), records, repeat: !cancels, answers };
}

function setMode(state: State, input: Extract<Input, { kind: "set-mode" }>, nowMs: number): Step {
  if (input.to === "LOCKDOWN" && input.forMs !== null) {
    return refuse(
      state,
      input.request,
      "argument-invalid",
      "LOCKDOWN is left only by ceremony: it cannot be timed",
    );
  }
  if (isLooser(input.to, state.wanted)) return loosenByPerson(state, input, nowMs);
  const same = input.to === state.wanted;
  // Staying where one is, when a tightening is set for later, calls that tightening off.
  if (same && tightensLater(state)) return loosenByPerson(state, input, nowMs);
  if (same && state.loosening === null && state.deadline === null) {
    return { ...quiet(state), answers: [done(input.request, false)] };
  }
  if (input.forMs !== null && tightensLater(state)) {
    const why = `${state.wanted} is timed already: set a mode without a time first`;
    return refuse(state, input.request, "argument-invalid", why);
  }
  const timed = input.forMs === null || same ? null : { atMs: nowMs + input.forMs, to: state.wanted };
  const cause: Cause = { kind: "person", why: input.reason };
  const next = {
    ...tightened(state, input.to, cause),
    deadline: timed ?? (same ? null : keptDeadline(state, input.to)),
  };
  const record = modeChanged(state.wanted, next, input.by.name, input.reason);
  const answers = [
    ...lapsed(state, `${input.by.name} tightened the mode meanwhile`),
    done(input.request, !same),
  ];
  return { ...order(next, [record, ...stillFrozen(state, next)]), answers };
}

function loosenByPerson(state: State, input: Extract<Input, { kind: "set-mode" }>, nowMs: number): Step {
  if (state.wanted === "LOCKDOWN") {
    return refuse(state, input.request, "ceremony-required", "LOCKDOWN is left only by ceremony");
  }
  const obstacle = loosenObstacle(state);
  if (obstacle) return refuse(state, input.request, obstacle.code, obstacle.why);
  const cause: Cause = { kind: "person", why: input.reason };
  const back = tightensLater(state) ? (state.deadline?.to ?? state.wanted) : state.wanted;
  const deadline = input.forMs === null ? null : { atMs: nowMs + input.forMs, to: back };
  const change = { kind: "mode", to: input.to, cause, deadline } as const;
  return promise(state, input.request, change, input.by.name, input.reason);
}

function logged(state: State, number: number): Step {
  const loosening = state.loosening;
  if (loosening?.number !== number) return quiet(state); // lapsed, and answered when it lapsed
  const settled: State = { ...state, loosening: null };
  if (loosening.epoch !== state.epoch) return quiet(settled); // unreachable while every bump clears it; stays closed if not
  const { change, request } = loosening;
  if (change.kind === "unfreeze") {
    return {
      ...quiet({ ...settled, frozen: null }),
      answers: answer(request, { kind: "done", changed: true }),
    };
  }
  const next: State = {
    ...settled,
    wanted: change.to,
    cause: change.cause,
    ceremony: null,
    deadline: change.deadline,
  };
  return { ...order(next, []), answers: answer(request, { kind: "done", changed: true }) };
}

function logFailed(state: State, number: number): Step {
  if (state.loosening?.number !== number) return quiet(state);
  const why = "the record of the loosening could not be written";
  const answers = answer(state.loosening.request, { kind: "refused", code: "log-unavailable", why });
  return { ...quiet({ ...state, loosening: null }), answers };
}

/** Told when it begins and when it ends. What is on its way to loosen has its record already. */
function roomChanged(state: State, input: Extract<Input, { kind: "room" }>): Step {
  if (input.room === state.room) return quiet(state);
  const kind = input.room === "low" ? "log.low" : "log.room";
  const record: Entry = { kind, data: { freeBytes: input.freeBytes } };
  return { ...quiet({ ...state, room: input.room }), records: [record] };
}

/** Whatever was on its way to loosen lapses: whoever clears has to have seen the newest jump. */
function freeze(state: State, input: Extract<Input, { kind: "freeze" }>, nowMs: number): Step {
  const epoch = state.epoch + 1;
  const frozen = { why: input.why, sinceMs: nowMs };
  const next: State = { ...state, epoch, frozen, loosening: null, ceremony: null };
  const record: Entry = { kind: "clock.frozen", data: { why: input.why, wanted: state.wanted, epoch } };
  return { ...quiet(next), records: [record], answers: lapsed(state, `loosening is frozen: ${input.why}`) };
}

function unfreeze(state: State, input: Extract<Input, { kind: "unfreeze" }>): Step {
  if (!state.frozen) return refuse(state, input.request, "clock-not-frozen", "loosening is not frozen");
  const full = fullDisk(state);
  if (full) return refuse(state, input.request, full.code, full.why);
  if (state.loosening)
    return refuse(state, input.request, "loosening-pending", "another loosening is under way");
  return promise(state, input.request, { kind: "unfreeze" }, input.by.name, input.reason);
}

function enforced(state: State, input: Extract<Input, { kind: "enforced" }>): Step {
  if (input.attempt !== state.attempt) return quiet(state);
  const records: Entry[] =
    state.applied === input.mode && !state.failure
      ? []
      : [
          {
            kind: "mode.applied",
            data: {
              mode: input.mode,
              how: input.how,
              attempt: input.attempt,
              failuresBefore: state.failure?.count ?? 0,
            },
          },
        ];
  return { ...quiet({ ...state, applied: input.mode, failure: null }), records };
}

function enforceFailed(state: State, input: Extract<Input, { kind: "enforce-failed" }>, nowMs: number): Step {
  if (input.attempt !== state.attempt) return quiet(state);
  const count = (state.failure?.count ?? 0) + 1;
  const retryAtMs = nowMs + ceilingMs(RETRY, count);
  const records: Entry[] =
    state.failure?.why === input.why
      ? []
      : [{ kind: "mode.apply-failed", data: { mode: state.wanted, attempt: input.attempt, why: input.why } }];
  return { ...quiet({ ...state, applied: null, failure: { why: input.why, count, retryAtMs } }), records };
}

function tick(state: State, nowMs: number): Step {
  if (state.failure && nowMs >= state.failure.retryAtMs) return order(state, []);
  if (state.ceremony && nowMs >= state.ceremony.expiresAtMs && state.loosening === null) {
    const record: Entry = {
      kind: "ceremony.cancelled",
      data: { ceremony: state.ceremony.id, why: "expired" },
    };
    return { ...quiet({ ...state, ceremony: null }), records: [record] };
  }
  if (state.deadline && nowMs >= state.deadline.atMs) return deadlineReached(state, state.deadline.to);
  return quiet(state);
}

function deadlineReached(state: State, to: Mode): Step {
  const cause: Cause = { kind: "deadline", why: `the time set for ${state.wanted} has run out` };
  if (!isLooser(to, state.wanted)) {
    const next: State = { ...tightened(state, to, cause), deadline: null };
    const answers = lapsed(state, cause.why);
    return {
      ...order(next, [modeChanged(state.wanted, next, "deadline", cause.why), ...stillFrozen(state, next)]),
      answers,
    };
  }
  if (loosenObstacle(state)) return quiet(state); // asked again at the next tick
  const change = { kind: "mode", to, cause, deadline: null } as const;
  return promise({ ...state, deadline: null }, null, change, "deadline", cause.why);
}

function stop(state: State, input: Extract<Input, { kind: "stop" }>): Step {
  const { deadline, loosening, wanted } = state;
  const answers = lapsed(state, "the daemon is stopping");
  if (deadline && isStricter(deadline.to, wanted)) {
    const next: State = {
      ...tightened(state, deadline.to, { kind: "deadline", why: input.why }),
      deadline: null,
    };
    return {
      ...order(next, [modeChanged(wanted, next, "stop", input.why), ...stillFrozen(state, next)]),
      answers,
    };
  }
  const next: State = { ...tightened(state, wanted, state.cause), deadline: null };
  const record: Entry = { kind: "mode.lapsed", data: { wanted, epoch: next.epoch, why: input.why } };
  return { ...quiet(next), records: loosening ? [record, ...stillFrozen(state, next)] : [], answers };
}

/** A tightening that is set for later. Only a loosening, logged first, may call it off. */
function tightensLater(state: State): boolean {
  return state.deadline !== null && isStricter(state.deadline.to, state.wanted);
}

/** What is left of the deadline when the mode becomes `to`: it stays when it will still tighten. */
function keptDeadline(state: State, to: Mode): State["deadline"] {
  if (state.deadline === null) return null;
  if (isStricter(state.deadline.to, to)) return state.deadline;
  return to === state.wanted && !loosensLater(state) ? state.deadline : null;
}

/** The record of a clearing that lapsed is on its way to the log: this one after it says that the freeze goes on. */
function stillFrozen(before: State, next: State): readonly Entry[] {
  if (before.loosening?.change.kind !== "unfreeze" || !next.frozen) return [];
  return [{ kind: "clock.frozen", data: { why: next.frozen.why, wanted: next.wanted, epoch: next.epoch } }];
}

/** A deadline that would loosen: a trip takes it away. */
function loosensLater(state: State): boolean {
  return state.deadline !== null && isLooser(state.deadline.to, state.wanted);
}
