import type { AccessRequest, Properties } from "../daemon/core/access.ts";
import { codeOf } from "../daemon/core/errno.ts";
import { renderErrorChain } from "../daemon/core/errors.ts";
import { type Answer, answerOf, denial } from "./answer.ts";
import type { Client as Control, Exchange } from "./control.ts";
import type { Link, LinkState } from "./link.ts";

/** A question, in the words of daemon/core/access.ts. Without a subject it is about whoever asks. */
export type Question = {
  readonly subject?: AccessRequest["subject"] | { readonly type: string; readonly id: string };
  readonly action: { readonly name: string; readonly properties?: Properties };
  readonly resource: { readonly type: string; readonly id: string; readonly properties?: Properties };
  readonly context?: Properties;
};

export type CheckOptions = {
  /** Milliseconds until the answer is a denial, "deadline". */
  readonly deadlineMs?: number | undefined;
  /** Aborted: the answer is a denial, "cancelled". */
  readonly signal?: AbortSignal | undefined;
};

export type Questions = {
  check(
    question: Question,
    options: { deadlineMs: number; signal?: AbortSignal | undefined },
  ): Promise<Answer>;
  linkChanged(state: LinkState): void;
};

type Waiter = {
  /** Where it waits: it moves when an allow went to another. */
  at: Asked;
  settle(answer: Answer): void;
};

/** One question on its way, or waiting for a place; identical ones that come meanwhile join its waiters. */
type Asked = {
  readonly key: string;
  readonly params: object;
  readonly waiters: Set<Waiter>;
  exchange: Exchange | null;
};

const MAX_WAITING = 10_000;
const MAX_DEADLINE_MS = 3_600_000;

/**
 * Asks over a link, many at a time on the one connection, at most `maxInFlight` unanswered. An identical question that
 * comes while one is under way waits for that answer: a denial is everybody's, an allow is only the first one's, and
 * the others are asked for themselves (so that what is good for one use is not used twice, and every allow has a record
 * of its own). Nothing that was sent is ever sent again.
 */
export function createQuestions(link: () => Link, maxInFlight: number): Questions {
  const underWay = new Map<string, Asked>();
  const queue = new Set<Asked>();
  const inFlight = new Set<Asked>();
  let waiting = 0;

  function check(
    question: Question,
    { deadlineMs, signal }: { deadlineMs: number; signal?: AbortSignal | undefined },
  ): Promise<Answer> {
    const key = textOf(question);
    if (key === null) return Promise.resolve(denial("request-invalid", "the question is no JSON object"));
    if (!(deadlineMs >= 1 && deadlineMs <= MAX_DEADLINE_MS))
      return Promise.resolve(denial("argument-invalid", "deadlineMs is 1 to 3,600,000"));
    if (signal?.aborted === true) return Promise.resolve(denial("cancelled", "it was aborted"));
    const state = link().state();
    if (state.kind === "down") return Promise.resolve(unreachable(state));
    if (waiting >= MAX_WAITING)
      return Promise.resolve(denial("too-many-requests", `${waiting} questions wait for their answers`));
    return new Promise((resolve) => {
      const asked = underWay.get(key) ?? enqueue(key);
      const leave = (answer: Answer): void => {
        waiter.settle(answer);
        drop(waiter);
      };
      const timer = setTimeout(() => leave(late(link().state(), deadlineMs)), deadlineMs);
      const abort = (): void => leave(denial("cancelled", "it was aborted; it may still be recorded"));
      const waiter: Waiter = {
        at: asked,
        settle: (answer) => {
          waiting -= 1;
          clearTimeout(timer);
          signal?.removeEventListener("abort", abort);
          resolve(answer);
        },
      };
      waiting += 1;
      signal?.addEventListener("abort", abort, { once: true });
      asked.waiters.add(waiter);
      pump();
    });
  }

  function enqueue(key: string): Asked {
    // what is asked is what was given at the call, whatever is done to the object later
    const asked: Asked = { key, params: JSON.parse(key) as object, waiters: new Set(), exchange: null };
    underWay.set(key, asked);
    queue.add(asked);
    return asked;
  }

  function pump(): void {
    const state = link().state();
    if (state.kind !== "up") return;
    for (const asked of queue) {
      if (inFlight.size >= maxInFlight) return;
      queue.delete(asked);
      send(state.control, asked);
    }
  }

  function send(control: Control, asked: Asked): void {
    const exchange = control.send("check", asked.params);
    asked.exchange = exchange;
    inFlight.add(asked);
    exchange.reply.then(
      (outcome) => finish(asked, answerOf(outcome)),
      (error: unknown) => finish(asked, brokenOff(error)),
    );
  }

  function finish(asked: Asked, answer: Answer): void {
    remove(asked);
    const [first, ...others] = asked.waiters;
    asked.waiters.clear();
    first?.settle(answer);
    for (const waiter of others) {
      if (answer.decision) askAlone(asked, waiter);
      else waiter.settle(answer);
    }
    pump();
  }

  // not in `underWay`: nobody joins it
  function askAlone({ key, params }: Asked, waiter: Waiter): void {
    const alone: Asked = { key, params, waiters: new Set([waiter]), exchange: null };
    waiter.at = alone;
    queue.add(alone);
  }

  function drop(waiter: Waiter): void {
    const asked = waiter.at;
    asked.waiters.delete(waiter);
    if (asked.waiters.size > 0) return;
    asked.exchange?.forget();
    remove(asked);
    pump();
  }

  function remove(asked: Asked): void {
    queue.delete(asked);
    inFlight.delete(asked);
    if (underWay.get(asked.key) === asked) underWay.delete(asked.key);
  }

  function linkChanged(state: LinkState): void {
    if (state.kind === "up") pump();
    if (state.kind !== "down") return;
    // what was sent hears of it through its exchange
    for (const asked of queue) {
      remove(asked);
      for (const waiter of asked.waiters) waiter.settle(unreachable(state));
      asked.waiters.clear();
    }
  }

  return { check, linkChanged };
}

function unreachable(state: LinkState & { kind: "down" }): Answer {
  if (state.why.code === "cancelled") return denial("cancelled", state.why.message);
  return denial("daemon-unreachable", renderErrorChain(state.why));
}

function late(state: LinkState, deadlineMs: number): Answer {
  if (state.kind !== "up") return denial("daemon-unreachable", `no connection in ${deadlineMs} ms`);
  return denial("deadline", `no answer in ${deadlineMs} ms; it may still be recorded`);
}

function brokenOff(error: unknown): Answer {
  const code = codeOf(error);
  if (code === "no-daemon")
    return denial("daemon-unreachable", `${renderErrorChain(error)}; the question may have been recorded`);
  return denial(code, renderErrorChain(error));
}

/** The parameters of `check` as JSON text, with nothing in them that the caller did not give; null for what JSON cannot say. */
function textOf(question: Question): string | null {
  try {
    const { subject, action, resource, context } = question;
    return JSON.stringify({ subject, action, resource, context });
  } catch {
    return null;
  }
}
