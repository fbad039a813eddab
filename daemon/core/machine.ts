import type { Data, Entry } from "../audit/record.ts";
import { ceilingMs } from "./backoff.ts";
import { ceremonyBegin, ceremonyCancel, ceremonyConfirm } from "./ceremony.ts";
import { renderFlow, sameFlow } from "./flow-text.ts";
import { confirm, enforceHold, flowEnded, trialOver } from "./hold-machine.ts";
import { isLooser, isStricter, type Mode } from "./mode.ts";
import type { Cause, Deadline, Input, Settings, State, Step } from "./state.ts";
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
  stillSo,
  tightened,
  UNCONFIRMED,
  withKeep,
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
    case "confirm":
      return confirm(state, input);
    case "enforce":
      return enforceHold(state, input, nowMs);
    case "flow-ended":
      return flowEnded(state, input);
    case "take-up":
      return promise(state, null, { kind: "hold", to: input.to }, input.by, input.why);
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
      return order({ ...state, ...UNCONFIRMED }, []);
    case "tick":
      return tick(state, nowMs);
    case "stop":
      return stop(state, input);
  }
}

function trip(state: State, input: Extract<Input, { kind: "trip" }>): Step {
  const tightens = isStricter(input.to, state.wanted);
  const to = tightens ? input.to : state.wanted;
  const cancels =
    state.loosening !== null || state.ceremony !== null || state.trial !== null || loosensLater(state);
  const next: State = {
    ...withKeep(state, null),
    wanted: to,
    epoch: state.epoch + 1,
    cause: tightens ? { kind: "tripwire", why: `${input.tripwire}: ${input.why}` } : state.cause,
    loosening: null,
    ceremony: null,
    deadline: keptDeadline(state, to),
    trial: null,
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
  const records = [record, ...stillSo(state, next)];
  if (tightens || state.keep !== null) return { ...order(next, records), answers };
  return { ...quiet(next), records, repeat: !cancels, answers };
}

/** The modes that cut a remote session and have a network to keep it in. */
const KEEPS: readonly Mode[] = ["TRUSTED", "AIRGAP", "COLDROOM"];

function setMode(state: State, input: Extract<Input, { kind: "set-mode" }>, nowMs: number): Step {
  const impossible = impossibleWish(input);
  if (impossible !== null) return refuse(state, input.request, "argument-invalid", impossible);
  if (isLooser(input.to, state.wanted) || opensFlow(state, input)) return loosenByPerson(state, input, nowMs);
  const sameMode = input.to === state.wanted;
  const flow = input.keep?.flow ?? null;
  const same = sameMode && sameFlow(flow, state.keep);
  // Staying where one is, when a tightening is set for later, calls that tightening off.
  if (sameMode && tightensLater(state)) return loosenByPerson(state, input, nowMs);
  if (same && state.loosening === null && state.deadline === null) {
    return { ...quiet(state), answers: [done(input.request, false)] };
  }
  if ((input.forMs !== null || input.confirmMs !== null) && tightensLater(state)) {
    const why = `${state.wanted} is timed already: set a mode without a time first`;
    return refuse(state, input.request, "argument-invalid", why);
  }
  const cause: Cause = { kind: "person", why: input.reason };
  const next = {
    ...withKeep(tightened(state, input.to, cause), flow),
    deadline: wayBack(state, input, nowMs) ?? (sameMode ? null : keptDeadline(state, input.to)),
  };
  const record = modeChanged(state.wanted, next, input.by.name, input.reason);
  const answers = [
    ...lapsed(state, `${input.by.name} tightened the mode meanwhile`),
    done(input.request, !same || loosensLater(state)),
  ];
  return { ...order(next, [record, ...stillSo(state, next)]), answers };
}

function impossibleWish(input: Extract<Input, { kind: "set-mode" }>): string | null {
  const { to, forMs, confirmMs, keep } = input;
  if (forMs !== null && confirmMs !== null) return "a time, or a time for confirming: not both";
  if (to === "LOCKDOWN" && (forMs !== null || confirmMs !== null))
    return "LOCKDOWN is left only by ceremony: it cannot be timed";
  if (keep !== null && !KEEPS.includes(to))
    return `a connection can be kept in ${KEEPS.join(", ")}, not in ${to}`;
  return null;
}

/** A flow that passes neither by the present mode nor by being kept already: to let it through loosens, whatever the mode. */
function opensFlow(state: State, { keep }: Extract<Input, { kind: "set-mode" }>): boolean {
  return keep !== null && !keep.passes && !sameFlow(keep.flow, state.keep);
}

function loosenByPerson(state: State, input: Extract<Input, { kind: "set-mode" }>, nowMs: number): Step {
  if (state.wanted === "LOCKDOWN") {
    return refuse(state, input.request, "ceremony-required", "LOCKDOWN is left only by ceremony");
  }
  const obstacle = loosenObstacle(state);
  if (obstacle) return refuse(state, input.request, obstacle.code, obstacle.why);
  const cause: Cause = { kind: "person", why: input.reason };
  const deadline = wayBack(state, input, nowMs);
  const change = { kind: "mode", to: input.to, cause, deadline, keep: input.keep?.flow ?? null } as const;
  return promise(state, input.request, change, input.by.name, input.reason);
}

/**
 * Where a timed change ends: where it began, or where an earlier timed loosening would have ended. A mode that waits for
 * its confirmation is nowhere to go back to: whoever asks for another may have been locked out by it. Nor is the present
 * mode with the present flow: asked for again, it ends where it would have ended, later. null: nowhere.
 */
function wayBack(
  state: State,
  { to, forMs, confirmMs, keep }: Extract<Input, { kind: "set-mode" }>,
  nowMs: number,
): Deadline | null {
  const ms = confirmMs ?? forMs;
  if (ms === null) return null;
  const { deadline, wanted } = state;
  const isAsked = (end: Pick<Deadline, "to" | "keep">) =>
    end.to === to && sameFlow(end.keep, keep?.flow ?? null);
  const now = { to: wanted, keep: state.keep };
  const stands = to === wanted || tightensLater(state) || deadline?.confirmable === true;
  const origin = stands && deadline !== null ? deadline : now;
  // what only a flow on trial set apart from where it began goes back to that flow
  const end = to === wanted && isAsked(origin) ? now : origin;
  return isAsked(end) ? null : { ...end, atMs: nowMs + ms, confirmable: confirmMs !== null };
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
  const next = change.kind === "hold" ? afterHold(settled, change) : afterMode(settled, change);
  return { ...order(next, []), answers: answer(request, { kind: "done", changed: true }) };
}

type Change<K> = Extract<NonNullable<State["loosening"]>["change"], { kind: K }>;

/** A ceremony for something else goes on. */
function afterMode(state: State, change: Change<"mode">): State {
  const { to: wanted, cause, deadline, keep } = change;
  const ceremony = state.ceremony?.purpose === "release" ? state.ceremony : null;
  return { ...withKeep(state, keep), wanted, cause, ceremony, deadline };
}

function afterHold(state: State, { to: { held, base } }: Change<"hold">): State {
  const ceremony = state.ceremony?.purpose === "release" ? null : state.ceremony;
  return { ...state, ...UNCONFIRMED, held, base, ceremony, trial: null };
}

function logFailed(state: State, number: number): Step {
  if (state.loosening?.number !== number) return quiet(state);
  const { request, change } = state.loosening;
  const why = "the record of the loosening could not be written";
  const answers = answer(request, { kind: "refused", code: "log-unavailable", why });
  return { ...quiet({ ...state, ...noWayBack(request, change.kind), loosening: null }), answers };
}

/** A log that failed once takes nothing any more: what goes back by itself, and would be recorded first, stays. */
function noWayBack(request: number | null, kind: string): Partial<Pick<State, "deadline" | "trial">> {
  if (request !== null) return {};
  return kind === "mode" ? { deadline: null } : { trial: null };
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
  const still = state.loosening?.change.kind === "hold" ? stillSo(state, next) : [];
  const answers = lapsed(state, `loosening is frozen: ${input.why}`);
  return { ...quiet(next), records: [record, ...still], answers };
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
    state.applied === input.mode && state.how === input.how && !state.failure
      ? []
      : [
          {
            kind: "mode.applied",
            data: {
              mode: input.mode,
              how: input.how,
              ...holdAndKeep(state),
              attempt: input.attempt,
              failuresBefore: state.failure?.count ?? 0,
            },
          },
        ];
  const { mode: applied, how } = input;
  return { ...quiet({ ...state, applied, how, failure: null }), records };
}

/** What is out of the ordinary in what the kernel was asked for. */
function holdAndKeep({ held, keep }: State): Data {
  return {
    ...(held.hold === "enforcing" ? {} : { hold: held.hold }),
    ...(keep === null ? {} : { keep: renderFlow(keep) }),
  };
}

function enforceFailed(state: State, input: Extract<Input, { kind: "enforce-failed" }>, nowMs: number): Step {
  if (input.attempt !== state.attempt) return quiet(state);
  const count = (state.failure?.count ?? 0) + 1;
  const retryAtMs = nowMs + ceilingMs(RETRY, count);
  const records: Entry[] =
    state.failure?.why === input.why
      ? []
      : [{ kind: "mode.apply-failed", data: { mode: state.wanted, attempt: input.attempt, why: input.why } }];
  return { ...quiet({ ...state, ...UNCONFIRMED, failure: { why: input.why, count, retryAtMs } }), records };
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
  if (state.deadline && nowMs >= state.deadline.atMs) return deadlineReached(state, state.deadline);
  if (state.trial && nowMs >= state.trial.atMs) return trialOver(state);
  return quiet(state);
}

function deadlineReached(state: State, { to, confirmable, keep }: Deadline): Step {
  const time = confirmable ? "time for confirming" : "time set for";
  const cause: Cause = { kind: "deadline", why: `the ${time} ${state.wanted} has run out` };
  if (!loosensLater(state)) {
    const next: State = { ...tightened(state, to, cause), deadline: null };
    const answers = lapsed(state, cause.why);
    return {
      ...order(next, [modeChanged(state.wanted, next, "deadline", cause.why), ...stillSo(state, next)]),
      answers,
    };
  }
  if (loosenObstacle(state)) return quiet(state); // asked again at the next tick
  const change = { kind: "mode", to, cause, deadline: null, keep } as const;
  // it stays until it has taken effect: what makes this lapse, and is no trip, does not call it off
  return promise(state, null, change, "deadline", cause.why);
}

/** Nothing that a person left open or under way outlives a stop: neither a time, nor a trial, nor a flow that is kept. */
function stop(state: State, input: Extract<Input, { kind: "stop" }>): Step {
  const { deadline, loosening, wanted } = state;
  const answers = lapsed(state, "the daemon is stopping");
  const over = { deadline: null, trial: null };
  if (deadline && isStricter(deadline.to, wanted)) {
    const cause: Cause = { kind: "deadline", why: input.why };
    const next: State = { ...tightened(state, deadline.to, cause), ...over };
    const record = modeChanged(wanted, next, "stop", input.why);
    return { ...order(next, [record, ...stillSo(state, next)]), answers };
  }
  const next: State = { ...tightened(state, wanted, state.cause), ...over };
  if (state.keep !== null) {
    const record = modeChanged(wanted, next, "stop", input.why);
    return { ...order(next, [record, ...stillSo(state, next)]), answers };
  }
  const record: Entry = { kind: "mode.lapsed", data: { wanted, epoch: next.epoch, why: input.why } };
  return { ...quiet(next), records: loosening ? [record, ...stillSo(state, next)] : [], answers };
}

/** A tightening that is set for later. Only a loosening, logged first, may call it off. */
function tightensLater(state: State): boolean {
  return state.deadline !== null && isStricter(state.deadline.to, state.wanted);
}

/** What is left of the deadline when the mode becomes `to`: it stays when it will still tighten. */
function keptDeadline(state: State, to: Mode): State["deadline"] {
  if (state.deadline === null) return null;
  const kept: Deadline = { ...state.deadline, keep: null };
  if (isStricter(state.deadline.to, to)) return kept;
  return to === state.wanted && !loosensLater(state) ? kept : null;
}

/** A deadline that would loosen, if only by one flow that was kept: a trip takes it away. */
function loosensLater({ deadline, wanted, keep }: State): boolean {
  if (deadline === null) return false;
  if (isLooser(deadline.to, wanted)) return true;
  return deadline.to === wanted && deadline.keep !== null && !sameFlow(deadline.keep, keep);
}
