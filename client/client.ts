import { BoundaryError } from "../daemon/core/errors.ts";
import type { Verb } from "../daemon/protocol/messages.ts";
import type { Answer } from "./answer.ts";
import {
  beforeDeadline,
  type Client as Control,
  connectControl,
  type Params,
  type Replies,
} from "./control.ts";
import { createLink, type LinkState } from "./link.ts";
import { followMode, type ModeNews } from "./mode-news.ts";
import { controlSocket } from "./places.ts";
import { type CheckOptions, createQuestions, type Question } from "./questions.ts";
import { refusalOf } from "./refusal.ts";

export { BoundaryError } from "../daemon/core/errors.ts";
export type { Answer } from "./answer.ts";
export type { ModeNews } from "./mode-news.ts";
export type { CheckOptions, Question } from "./questions.ts";

export type ConnectOptions = {
  /** The control socket; without it the system's, or the user's own. */
  readonly socket?: string | undefined;
  /** `bd_…`: goes with every request. */
  readonly token?: string | undefined;
  /** Milliseconds for each question and verb that names none of its own: 1 to 3,600,000. */
  readonly deadlineMs: number;
  /** At most so many questions unanswered at a time, 1 to 10,000; the others wait for a place. The daemon's own limit is 64 a connection. */
  readonly maxInFlight?: number | undefined;
  /** Told of the mode as it is, then of each change, over a connection of its own. */
  readonly onModeChange?: ((news: ModeNews) => void) | undefined;
};

export type BoundaryClient = {
  /**
   * Asks whether something is allowed. Never rejects: an answer that does not come in time, cannot be read, or was on
   * its way when the connection broke is a denial, and is not asked for again. Only `decision === true` is a yes.
   */
  check(question: Question, options?: CheckOptions): Promise<Answer>;
  /** Asks any other verb. Rejects with BoundaryError: the refusal's code, "no-daemon", "deadline", "reply-invalid". */
  call<V extends Verb>(verb: V, params: Params<V>, options?: { deadlineMs?: number }): Promise<Replies[V]>;
  /** The same for a verb that this version may not know; nothing of the reply is checked but that it is an object. */
  callUnchecked(verb: string, params: object, options?: { deadlineMs?: number }): Promise<object>;
  /** Ends the connections. What waits for an answer is denied. Until then they keep the process alive. */
  close(): void;
};

const DEFAULT_IN_FLIGHT = 32;
const MAX_MS = 3_600_000;

/**
 * A client that keeps its connection: it returns at once, connects in the background, and connects again with back-off
 * and jitter. While there is no connection a question is denied at once, "daemon-unreachable"; while one is being made
 * it waits for it until its deadline. Throws BoundaryError "argument-invalid".
 */
export function connect(options: ConnectOptions): BoundaryClient {
  const { deadlineMs, maxInFlight = DEFAULT_IN_FLIGHT, token, onModeChange } = options;
  if (!(deadlineMs >= 1 && deadlineMs <= MAX_MS)) throw invalid("deadlineMs is 1 to 3,600,000");
  if (!(maxInFlight >= 1 && maxInFlight <= 10_000)) throw invalid("maxInFlight is 1 to 10,000");
  const path = options.socket ?? controlSocket(undefined);
  const open = (): Promise<Control> => connectControl(path, token);

  const waiting = new Set<(state: LinkState) => void>();
  const questions = createQuestions(() => link, maxInFlight);
  const link = createLink({
    open,
    changed: (state) => {
      questions.linkChanged(state);
      for (const settle of waiting) settle(state);
    },
  });
  const unfollow = onModeChange === undefined ? null : followMode(open, onModeChange);

  /** The connection: that of now, or the one that is being made. */
  function connected(withinMs: number): Promise<Control> {
    return new Promise((done, fail) => {
      const settle = (state: LinkState): void => {
        if (state.kind === "trying") return;
        waiting.delete(settle);
        clearTimeout(timer);
        if (state.kind === "up") done(state.control);
        else fail(state.why);
      };
      const timer = setTimeout(() => {
        waiting.delete(settle);
        fail(new BoundaryError("deadline", `no connection to ${path} in ${withinMs} ms`));
      }, withinMs);
      waiting.add(settle);
      settle(link.state());
    });
  }

  async function call<V extends Verb>(
    verb: V,
    params: Params<V>,
    { deadlineMs: ms = deadlineMs }: { deadlineMs?: number } = {},
  ): Promise<Replies[V]> {
    const sinceMs = performance.now();
    const control = await connected(ms);
    const outcome = await control.call(verb, params, ms - (performance.now() - sinceMs));
    if (outcome.ok) return outcome.data;
    throw refusalOf(outcome.problem);
  }

  async function callUnchecked(
    verb: string,
    params: object,
    { deadlineMs: ms = deadlineMs }: { deadlineMs?: number } = {},
  ): Promise<object> {
    const sinceMs = performance.now();
    const control = await connected(ms);
    const left = ms - (performance.now() - sinceMs);
    const outcome = await beforeDeadline(control.send(verb, params), verb, left);
    if (outcome.ok) return outcome.data;
    throw refusalOf(outcome.problem);
  }

  return {
    check: (question, { deadlineMs: ms = deadlineMs, signal } = {}) =>
      questions.check(question, { deadlineMs: ms, signal }),
    call,
    callUnchecked,
    close: () => {
      unfollow?.();
      link.close();
    },
  };
}

function invalid(what: string): BoundaryError {
  return new BoundaryError("argument-invalid", what);
}
