import type { Entry } from "../audit/record.ts";
import { lasting, sameHeld } from "./held.ts";
import type { Ceremony, CeremonyPurpose, Input, Loosening, Person, Settings, State, Step } from "./state.ts";
import { done, loosenObstacle, promise, quiet, refuse } from "./steps.ts";

export const MAX_WRONG_CODES = 3;

export function ceremonyBegin(
  state: State,
  input: Extract<Input, { kind: "ceremony-begin" }>,
  settings: Settings,
  nowMs: number,
): Step {
  const needless = needlessBecause(state, input.purpose);
  if (needless !== null) {
    return refuse(state, input.request, "ceremony-none", `${needless}: no ceremony is needed`);
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
    purpose: input.purpose,
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
      purpose: input.purpose,
      by: input.by.name,
      uid: input.by.uid,
      terminal: input.by.terminal,
      reason: input.reason,
      coolDownMs: settings.coolDownMs,
    },
  };
  return {
    ...quiet({ ...state, ceremony }),
    records: [...replaced(state), record],
    answers: [{ request: input.request, answer: { kind: "begun", ceremony } }],
  };
}

/** What a ceremony would lead to is so already, or null. */
function needlessBecause(state: State, purpose: CeremonyPurpose): string | null {
  if (purpose === "leave-lockdown") return state.wanted === "LOCKDOWN" ? null : `the mode is ${state.wanted}`;
  return sameHeld(state.held, RELEASED) ? "the host is released" : null;
}

const RELEASED = { hold: "released", lasts: "always" } as const;

function replaced(state: State): readonly Entry[] {
  if (!state.ceremony) return [];
  return [
    { kind: "ceremony.cancelled", data: { ceremony: state.ceremony.id, why: "another one was begun" } },
  ];
}

export function ceremonyConfirm(
  state: State,
  input: Extract<Input, { kind: "ceremony-confirm" }>,
  settings: Settings,
  nowMs: number,
): Step {
  const ceremony = state.ceremony;
  if (!ceremony || needlessBecause(state, ceremony.purpose) !== null || ceremony.epoch !== state.epoch) {
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
  return promise(state, input.request, endOf(ceremony.purpose, why), input.by.name, why);
}

function endOf(purpose: CeremonyPurpose, why: string): Loosening["change"] {
  if (purpose === "release") return { kind: "hold", to: lasting(RELEASED) };
  return { kind: "mode", to: "RESTRICTED", cause: { kind: "ceremony", why }, deadline: null, keep: null };
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

export function ceremonyCancel(state: State, input: Extract<Input, { kind: "ceremony-cancel" }>): Step {
  if (!state.ceremony) return refuse(state, input.request, "ceremony-none", "no ceremony is under way");
  const record: Entry = {
    kind: "ceremony.cancelled",
    data: { ceremony: state.ceremony.id, why: `by ${input.by.name}` },
  };
  return { ...quiet({ ...state, ceremony: null }), records: [record], answers: [done(input.request, true)] };
}

function ceremonyRefused(by: Person, why: string): Entry {
  return { kind: "ceremony.refused", data: { by: by.name, uid: by.uid, why } };
}
