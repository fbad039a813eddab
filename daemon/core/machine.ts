import type { Data, Entry } from "../audit/record.ts";
import type { ErrorCode } from "./errors.ts";
import { isLooser, isStricter, type Mode } from "./mode.ts";

/**
 * The mode machine. `step` decides and changes nothing outside its return value; daemon.ts does what it says.
 *
 * Two rules carry the rest. A tightening takes effect at once (`now`), beside its record. A loosening is only a
 * promise (`state.loosening`) until its record is durable, and lapses if anything tightened or tripped meanwhile:
 * every trip and every tightening bumps `epoch`, also a trip that asks for no more than the present mode.
 */
export type State = {
  readonly wanted: Mode;
  /** What the kernel confirmed by read-back; null while nothing is confirmed. */
  readonly applied: Mode | null;
  readonly epoch: number;
  readonly cause: Cause;
  /** Set while loosening is frozen because the clock moved. */
  readonly frozen: { readonly why: string; readonly sinceMs: number } | null;
  /** The number of the newest order given to the kernel; an answer to an older one says nothing. */
  readonly attempt: number;
  readonly failure: Failure | null;
  readonly loosening: Loosening | null;
  readonly ceremony: Ceremony | null;
  /** A timed entry ends here: by tightening at once, or by loosening like any other (logged first, never while frozen). */
  readonly deadline: { readonly atMs: number; readonly to: Mode } | null;
};

export type Cause = {
  readonly kind:
    | "initial"
    | "resumed"
    | "crash"
    | "tampered"
    | "unreadable"
    | "person"
    | "tripwire"
    | "ceremony"
    | "deadline";
  readonly why: string;
};

export type Failure = { readonly why: string; readonly count: number; readonly retryAtMs: number };

/** A loosening on its way to the log. `epoch` is the one it was decided in. */
export type Loosening = {
  readonly request: number;
  readonly epoch: number;
  readonly change:
    | {
        readonly kind: "mode";
        readonly to: Mode;
        readonly cause: Cause;
        readonly deadline: State["deadline"];
      }
    | { readonly kind: "unfreeze"; readonly frozenSinceMs: number };
};

export type Ceremony = {
  readonly id: string;
  readonly by: Person;
  readonly epoch: number;
  /** SHA-256 of the one-time code, hex. */
  readonly codeDigest: string;
  readonly readyAtMs: number;
  readonly expiresAtMs: number;
  readonly wrongCodes: number;
};

/** Who asks, as the kernel says. */
export type Person = { readonly uid: number; readonly name: string; readonly terminal: string };

export type Settings = {
  readonly coolDownMs: number;
  readonly ceremonyLifeMs: number;
  readonly people: 1 | 2;
  readonly requireTerminal: boolean;
};

export type Input =
  | {
      readonly kind: "trip";
      readonly tripwire: string;
      readonly to: Mode;
      readonly why: string;
      readonly facts: Data;
    }
  | {
      readonly kind: "set-mode";
      readonly request: number;
      readonly to: Mode;
      readonly by: Person;
      readonly reason: string;
      readonly forMs: number | null;
    }
  | {
      readonly kind: "ceremony-begin";
      readonly request: number;
      readonly id: string;
      readonly codeDigest: string;
      readonly by: Person;
      readonly reason: string;
    }
  | {
      readonly kind: "ceremony-confirm";
      readonly request: number;
      readonly codeDigest: string;
      readonly by: Person;
    }
  | { readonly kind: "ceremony-cancel"; readonly request: number; readonly by: Person }
  | { readonly kind: "freeze"; readonly why: string }
  | { readonly kind: "unfreeze"; readonly request: number; readonly by: Person; readonly reason: string }
  | { readonly kind: "logged"; readonly request: number }
  | { readonly kind: "log-failed"; readonly request: number }
  /** how: "kernel" when read back from it, "observed" in log-only form. */
  | {
      readonly kind: "enforced";
      readonly attempt: number;
      readonly mode: Mode;
      readonly how: "kernel" | "observed";
    }
  | { readonly kind: "enforce-failed"; readonly attempt: number; readonly why: string }
  /** The kernel no longer holds what it confirmed (somebody changed our table). */
  | { readonly kind: "unconfirmed"; readonly why: string }
  | { readonly kind: "tick" }
  /** A clean stop: what was on its way lapses, a timed loosening ends now. */
  | { readonly kind: "stop"; readonly why: string };

export type Answer =
  | { readonly kind: "done"; readonly changed: boolean }
  | { readonly kind: "begun"; readonly ceremony: Ceremony }
  | { readonly kind: "refused"; readonly code: ErrorCode; readonly why: string };

export type Step = {
  readonly state: State;
  /** To append, in this order. */
  readonly records: readonly Entry[];
  /** The order to give to the kernel at once, beside the records. */
  readonly enforce: { readonly mode: Mode; readonly attempt: number } | null;
  /** When set: feed `logged` with this request once the records are durable, `log-failed` if they are not. */
  readonly awaits: number | null;
  readonly answers: readonly { readonly request: number; readonly answer: Answer }[];
  /** True when a trip changed nothing that a record has to tell: its repeats may be counted instead. */
  readonly repeat: boolean;
};

export const MAX_WRONG_CODES = 3;
const RETRY_FIRST_MS = 100;
const RETRY_MOST_MS = 10_000;
/** Requests made by the machine itself (a deadline that ends in a loosening) count down from here; nobody waits for them. */
export const OWN_REQUEST = -1;

/** The state a daemon starts in. Nothing is applied before the kernel has confirmed it. */
export function initialState(wanted: Mode, epoch: number, cause: Cause): State {
  return {
    wanted,
    applied: null,
    epoch,
    cause,
    frozen: null,
    attempt: 0,
    failure: null,
    loosening: null,
    ceremony: null,
    deadline: null,
  };
}

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
    case "logged":
      return logged(state, input.request);
    case "log-failed":
      return logFailed(state, input.request);
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
    deadline: tightens || loosensLater(state) ? null : state.deadline,
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
  if (tightens) return { ...order(next, [record]), answers };
  return { ...quiet(next), records: [record], repeat: !cancels, answers };
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
  const same = input.to === state.wanted;
  const deadline = input.forMs === null || same ? null : { atMs: nowMs + input.forMs, to: state.wanted };
  if (isLooser(input.to, state.wanted)) return loosenByPerson(state, input, deadline);
  if (same && state.loosening === null && state.deadline === null) {
    return { ...quiet(state), answers: [done(input.request, false)] };
  }
  const cause: Cause = { kind: "person", why: input.reason };
  const next = { ...tightened(state, input.to, cause), deadline };
  const record = modeChanged(state.wanted, next, input.by.name, input.reason);
  const answers = [
    ...lapsed(state, `${input.by.name} tightened the mode meanwhile`),
    done(input.request, !same),
  ];
  return { ...order(next, [record]), answers };
}

function loosenByPerson(
  state: State,
  input: Extract<Input, { kind: "set-mode" }>,
  deadline: State["deadline"],
): Step {
  if (state.wanted === "LOCKDOWN") {
    return refuse(state, input.request, "ceremony-required", "LOCKDOWN is left only by ceremony");
  }
  const obstacle = loosenObstacle(state);
  if (obstacle) return refuse(state, input.request, obstacle.code, obstacle.why);
  const change = {
    kind: "mode",
    to: input.to,
    cause: { kind: "person", why: input.reason },
    deadline,
  } as const;
  return promise(state, { request: input.request, epoch: state.epoch, change }, input.by.name, input.reason);
}

/** Why nothing may be loosened at this moment, or null. */
function loosenObstacle(state: State): { code: ErrorCode; why: string } | null {
  if (state.frozen) return { code: "clock-frozen", why: `loosening is frozen: ${state.frozen.why}` };
  if (state.loosening) return { code: "loosening-pending", why: "another loosening is under way" };
  return null;
}

/** Writes a loosening's record; the world changes when it is durable. */
function promise(state: State, loosening: Loosening, by: string, reason: string): Step {
  const record: Entry =
    loosening.change.kind === "mode"
      ? modeChanged(state.wanted, { ...state, wanted: loosening.change.to }, by, reason)
      : { kind: "clock.cleared", data: { by, reason, wanted: state.wanted, epoch: state.epoch } };
  return { ...quiet({ ...state, loosening }), records: [record], awaits: loosening.request };
}

function logged(state: State, request: number): Step {
  const loosening = state.loosening;
  if (loosening?.request !== request) return quiet(state); // lapsed, and answered when it lapsed
  const settled: State = { ...state, loosening: null };
  if (loosening.epoch !== state.epoch) return quiet(settled); // unreachable while every bump clears it; stays closed if not
  const { change } = loosening;
  if (change.kind === "unfreeze") {
    const frozen = state.frozen?.sinceMs === change.frozenSinceMs ? null : state.frozen;
    return { ...quiet({ ...settled, frozen }), answers: [done(request, frozen === null)] };
  }
  if (state.frozen) {
    const record: Entry = {
      kind: "mode.lapsed",
      data: { wanted: state.wanted, epoch: state.epoch, why: state.frozen.why },
    };
    return { ...refuse(settled, request, "clock-frozen", state.frozen.why), records: [record] };
  }
  const next: State = {
    ...settled,
    wanted: change.to,
    cause: change.cause,
    ceremony: null,
    deadline: change.deadline,
  };
  return { ...order(next, []), answers: [done(request, true)] };
}

function logFailed(state: State, request: number): Step {
  if (state.loosening?.request !== request) return quiet(state);
  return refuse(
    { ...state, loosening: null },
    request,
    "log-unavailable",
    "the record of the loosening could not be written",
  );
}

function ceremonyBegin(
  state: State,
  input: Extract<Input, { kind: "ceremony-begin" }>,
  settings: Settings,
  nowMs: number,
): Step {
  if (state.wanted !== "LOCKDOWN") {
    return refuse(
      state,
      input.request,
      "ceremony-none",
      `the mode is ${state.wanted}: no ceremony is needed`,
    );
  }
  const obstacle = loosenObstacle(state);
  if (obstacle) return refuse(state, input.request, obstacle.code, obstacle.why);
  if (settings.requireTerminal && input.by.terminal === "") {
    return refuse(state, input.request, "ceremony-no-terminal", "the caller has no controlling terminal", [
      ceremonyRefused(input.by, "no controlling terminal"),
    ]);
  }
  const ceremony: Ceremony = {
    id: input.id,
    by: input.by,
    epoch: state.epoch,
    codeDigest: input.codeDigest,
    readyAtMs: nowMs + settings.coolDownMs,
    expiresAtMs: nowMs + settings.coolDownMs + settings.ceremonyLifeMs,
    wrongCodes: 0,
  };
  const record: Entry = {
    kind: "ceremony.begun",
    data: {
      ceremony: input.id,
      by: input.by.name,
      uid: input.by.uid,
      terminal: input.by.terminal,
      reason: input.reason,
      coolDownMs: settings.coolDownMs,
    },
  };
  return {
    ...quiet({ ...state, ceremony }),
    records: [record],
    answers: [{ request: input.request, answer: { kind: "begun", ceremony } }],
  };
}

function ceremonyConfirm(
  state: State,
  input: Extract<Input, { kind: "ceremony-confirm" }>,
  settings: Settings,
  nowMs: number,
): Step {
  const ceremony = state.ceremony;
  if (!ceremony || state.wanted !== "LOCKDOWN" || ceremony.epoch !== state.epoch) {
    return refuse(state, input.request, "ceremony-none", "no ceremony is under way");
  }
  const obstacle = loosenObstacle(state);
  if (obstacle) return refuse(state, input.request, obstacle.code, obstacle.why);
  if (nowMs >= ceremony.expiresAtMs) {
    return refuse(
      { ...state, ceremony: null },
      input.request,
      "ceremony-expired",
      "the ceremony has expired",
      [{ kind: "ceremony.cancelled", data: { ceremony: ceremony.id, why: "expired" } }],
    );
  }
  if (nowMs < ceremony.readyAtMs) {
    const waitS = Math.ceil((ceremony.readyAtMs - nowMs) / 1000);
    return refuse(state, input.request, "ceremony-too-early", `the cool-down ends in ${waitS} s`, [
      ceremonyRefused(input.by, "too early"),
    ]);
  }
  if (settings.requireTerminal && input.by.terminal === "") {
    return refuse(state, input.request, "ceremony-no-terminal", "the caller has no controlling terminal", [
      ceremonyRefused(input.by, "no controlling terminal"),
    ]);
  }
  if (settings.people === 2 && input.by.uid === ceremony.by.uid) {
    return refuse(
      state,
      input.request,
      "ceremony-other-person",
      `${ceremony.by.name} began it: somebody else has to confirm`,
      [ceremonyRefused(input.by, "same person")],
    );
  }
  if (input.codeDigest !== ceremony.codeDigest) return wrongCode(state, ceremony, input);
  const why = `ceremony ${ceremony.id}, begun by ${ceremony.by.name}, confirmed by ${input.by.name}`;
  const change = {
    kind: "mode",
    to: "RESTRICTED",
    cause: { kind: "ceremony", why },
    deadline: null,
  } as const;
  return promise(state, { request: input.request, epoch: state.epoch, change }, input.by.name, why);
}

function wrongCode(
  state: State,
  ceremony: Ceremony,
  input: Extract<Input, { kind: "ceremony-confirm" }>,
): Step {
  const wrongCodes = ceremony.wrongCodes + 1;
  const over = wrongCodes >= MAX_WRONG_CODES;
  const next: State = { ...state, ceremony: over ? null : { ...ceremony, wrongCodes } };
  const left = MAX_WRONG_CODES - wrongCodes;
  const why = over ? "wrong code; the ceremony is over" : `wrong code, ${left} tries left`;
  return refuse(next, input.request, "ceremony-wrong-code", why, [ceremonyRefused(input.by, why)]);
}

function ceremonyCancel(state: State, input: Extract<Input, { kind: "ceremony-cancel" }>): Step {
  if (!state.ceremony) return refuse(state, input.request, "ceremony-none", "no ceremony is under way");
  const record: Entry = {
    kind: "ceremony.cancelled",
    data: { ceremony: state.ceremony.id, why: `by ${input.by.name}` },
  };
  return { ...quiet({ ...state, ceremony: null }), records: [record], answers: [done(input.request, true)] };
}

function freeze(state: State, input: Extract<Input, { kind: "freeze" }>, nowMs: number): Step {
  // A second jump while frozen is recorded again: whoever clears has to have seen this one too.
  const record: Entry = {
    kind: "clock.frozen",
    data: { why: input.why, wanted: state.wanted, epoch: state.epoch },
  };
  return { ...quiet({ ...state, frozen: { why: input.why, sinceMs: nowMs } }), records: [record] };
}

function unfreeze(state: State, input: Extract<Input, { kind: "unfreeze" }>): Step {
  if (!state.frozen) return refuse(state, input.request, "clock-not-frozen", "loosening is not frozen");
  if (state.loosening)
    return refuse(state, input.request, "loosening-pending", "another loosening is under way");
  const change = { kind: "unfreeze", frozenSinceMs: state.frozen.sinceMs } as const;
  return promise(state, { request: input.request, epoch: state.epoch, change }, input.by.name, input.reason);
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
  const retryAtMs = nowMs + Math.min(RETRY_FIRST_MS * 2 ** (count - 1), RETRY_MOST_MS);
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
    return order(next, [modeChanged(state.wanted, next, "deadline", cause.why)]);
  }
  if (loosenObstacle(state)) return quiet(state); // asked again at the next tick
  const change = { kind: "mode", to, cause, deadline: null } as const;
  return promise(
    { ...state, deadline: null },
    { request: OWN_REQUEST, epoch: state.epoch, change },
    "deadline",
    cause.why,
  );
}

function stop(state: State, input: Extract<Input, { kind: "stop" }>): Step {
  const to = state.deadline && isStricter(state.deadline.to, state.wanted) ? state.deadline.to : state.wanted;
  const next: State = { ...tightened(state, to, state.cause), deadline: null };
  const record: Entry = {
    kind: "daemon.stopped",
    data: { wanted: to, epoch: next.epoch, why: input.why, frozen: state.frozen?.why ?? "" },
  };
  return { ...order(next, [record]), answers: lapsed(state, "the daemon is stopping") };
}

function tightened(state: State, to: Mode, cause: Cause): State {
  return { ...state, wanted: to, epoch: state.epoch + 1, cause, loosening: null, ceremony: null };
}

/** A deadline that would loosen: a trip takes it away. */
function loosensLater(state: State): boolean {
  return state.deadline !== null && isLooser(state.deadline.to, state.wanted);
}

/** The answer owed to whoever asked for the loosening that lapses now. */
function lapsed(state: State, why: string): Step["answers"] {
  if (!state.loosening) return [];
  return [{ request: state.loosening.request, answer: { kind: "refused", code: "loosening-lapsed", why } }];
}

function order(state: State, records: readonly Entry[]): Step {
  const attempt = state.attempt + 1;
  return { ...quiet({ ...state, attempt }), records, enforce: { mode: state.wanted, attempt } };
}

function quiet(state: State): Step {
  return { state, records: [], enforce: null, awaits: null, answers: [], repeat: false };
}

function refuse(
  state: State,
  request: number,
  code: ErrorCode,
  why: string,
  records: readonly Entry[] = [],
): Step {
  return { ...quiet(state), records, answers: [{ request, answer: { kind: "refused", code, why } }] };
}

function done(request: number, changed: boolean): Step["answers"][number] {
  return { request, answer: { kind: "done", changed } };
}

function modeChanged(from: Mode, next: State, by: string, reason: string): Entry {
  return { kind: "mode.changed", data: { from, wanted: next.wanted, epoch: next.epoch, by, reason } };
}

function ceremonyRefused(by: Person, why: string): Entry {
  return { kind: "ceremony.refused", data: { by: by.name, uid: by.uid, why } };
}
