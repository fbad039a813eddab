import { keysDown, meaningOf, newlyDown } from "./boot-report.ts";
import { type Injection, type Keystrokes, keyDown, NO_KEYSTROKES } from "./keystrokes.ts";

/**
 * A challenge of a new keyboard: a person types on it the code that is shown elsewhere. A value; each report leads to
 * the next one. It holds the digits of the try under way and the keys that are down, and nothing else of what was typed.
 */
export type Challenge = {
  readonly code: string;
  readonly deadlineUs: number;
  readonly maxPerSecond: number;
  readonly typed: string;
  readonly down: readonly number[];
  readonly wrongTries: number;
  readonly presses: number;
  /** The code was right; the keyboard is let go once nothing is down, or the last digit would be typed into the host. */
  readonly right: boolean;
  readonly strokes: Keystrokes;
};

export type ChallengeEnd =
  | { readonly kind: "passed" }
  | { readonly kind: "wrong" }
  | { readonly kind: "timeout" }
  | { readonly kind: "injected"; readonly injection: Injection };

export type ChallengeStep =
  | { readonly kind: "going"; readonly challenge: Challenge }
  | { readonly kind: "ended"; readonly end: ChallengeEnd };

export const CODE_DIGITS = 6;
const MAX_WRONG_TRIES = 3;
/** A person needs six and some mistakes. */
const MAX_PRESSES = 64;
/** Fewer than elsewhere: a code is short, and nobody leans on a keyboard that he is to type a code on. */
const KEYS_JUDGED = 8;

/** `code`: six digits, of the caller's randomness. Times are microseconds of one monotonic clock. */
export function beginChallenge(parts: {
  readonly code: string;
  readonly deadlineUs: number;
  readonly maxPerSecond: number;
}): Challenge {
  const none = { typed: "", down: [], wrongTries: 0, presses: 0, right: false, strokes: NO_KEYSTROKES };
  return { ...parts, ...none };
}

/** Time has passed, without a report. */
export function awaitReport(challenge: Challenge, nowUs: number): ChallengeStep {
  return nowUs >= challenge.deadlineUs ? ended({ kind: "timeout" }) : { kind: "going", challenge };
}

/** Takes in a report (core/boot-report.ts); one that says nothing about keys changes nothing. */
export function takeReport(challenge: Challenge, report: Buffer, nowUs: number): ChallengeStep {
  const down = keysDown(report);
  const fresh = down === null ? [] : newlyDown(challenge.down, down);
  let step = awaitReport(challenge, nowUs);
  for (const usage of fresh) if (step.kind === "going") step = press(step.challenge, usage, nowUs);
  if (step.kind === "ended" || down === null) return step;
  if (step.challenge.right && down.length === 0) return ended({ kind: "passed" });
  return { kind: "going", challenge: { ...step.challenge, down } };
}

function press(before: Challenge, usage: number, nowUs: number): ChallengeStep {
  const limits = { maxPerSecond: before.maxPerSecond, keys: KEYS_JUDGED };
  const { after, injection } = keyDown(before.strokes, nowUs, limits);
  if (injection !== null) return ended({ kind: "injected", injection });
  const challenge = { ...before, strokes: after, presses: before.presses + 1 };
  if (challenge.presses > MAX_PRESSES) return ended({ kind: "wrong" });
  if (challenge.right) return { kind: "going", challenge };
  return type(challenge, meaningOf(usage));
}

function type(challenge: Challenge, key: ReturnType<typeof meaningOf>): ChallengeStep {
  if (key === "erase") return going(challenge, challenge.typed.slice(0, -1));
  if (key === "enter") return challenge.typed === "" ? going(challenge, "") : judge(challenge);
  if (key === "other") return going(challenge, ""); // digits within other text are no code
  const now = { ...challenge, typed: challenge.typed + key.digit };
  return now.typed.length < CODE_DIGITS ? going(now, now.typed) : judge(now);
}

function judge(challenge: Challenge): ChallengeStep {
  if (challenge.typed === challenge.code) return going({ ...challenge, right: true }, "");
  const wrongTries = challenge.wrongTries + 1;
  return wrongTries >= MAX_WRONG_TRIES ? ended({ kind: "wrong" }) : going({ ...challenge, wrongTries }, "");
}

function going(challenge: Challenge, typed: string): ChallengeStep {
  return { kind: "going", challenge: { ...challenge, typed } };
}

function ended(end: ChallengeEnd): ChallengeStep {
  return { kind: "ended", end };
}
