import fc from "fast-check";
import { expect, test } from "vitest";
import type { Answer } from "../../client/answer.ts";
import type { Client as Control, Outcome } from "../../client/control.ts";
import type { LinkState } from "../../client/link.ts";
import { createQuestions } from "../../client/questions.ts";
import { BoundaryError } from "../../daemon/core/errors.ts";

/** What may happen, in any order. Numbers choose among what there is. */
type Step =
  | { readonly kind: "ask"; readonly about: number }
  | { readonly kind: "abort" | "reply-garbage" | "reply-deny" | "reply-allow"; readonly which: number }
  | { readonly kind: "lose" }
  | { readonly kind: "connect" };

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 5, arbitrary: fc.record({ kind: fc.constant("ask" as const), about: fc.nat({ max: 3 }) }) },
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constantFrom("abort", "reply-garbage", "reply-deny", "reply-allow"),
      which: fc.nat(),
    }),
  },
  { weight: 1, arbitrary: fc.constantFrom({ kind: "lose" as const }, { kind: "connect" as const }) },
);

const MAX_IN_FLIGHT = 2;
const EVALUATION = { reason: [], mode: "OPEN", assurance: "enforced", correlationId: "1" };

/** One caller's question, and what was sent, as the test sees them. */
type Caller = { readonly abort: AbortController; readonly answer: Promise<Answer> };
type Sent = { done(outcome: Outcome<object>): void; fail(error: unknown): void };

async function run(steps: readonly Step[]): Promise<void> {
  let state = { kind: "trying" } as LinkState;
  const open = new Set<Sent>();
  const callers: Caller[] = [];
  let asked = 0;
  let sentInAll = 0;
  let allowsGiven = 0;

  const control: Pick<Control, "send"> = {
    send() {
      const { promise: reply, resolve: done, reject: fail } = Promise.withResolvers<Outcome<object>>();
      const sent: Sent = { done, fail };
      open.add(sent);
      sentInAll += 1;
      expect(open.size).toBeLessThanOrEqual(MAX_IN_FLIGHT);
      return { reply, forget: () => void open.delete(sent) };
    },
  };
  const questions = createQuestions(() => ({ state: () => state, close: () => undefined }), MAX_IN_FLIGHT);

  function move(next: LinkState): void {
    state = next;
    questions.linkChanged(next);
  }
  function lose(): void {
    for (const sent of open) sent.fail(new BoundaryError("no-daemon", "lost"));
    open.clear();
    move({ kind: "down", why: new BoundaryError("no-daemon", "lost") });
  }
  function reply(which: number, data: object): void {
    const sent = [...open][which % Math.max(1, open.size)];
    if (sent === undefined) return;
    open.delete(sent);
    sent.done({ ok: true, data });
  }

  for (const one of steps) {
    if (one.kind === "ask") {
      const abort = new AbortController();
      const resource = { type: "tool", id: String(one.about) };
      const question = { action: { name: "tool.run" }, resource };
      asked += 1;
      callers.push({
        abort,
        answer: questions.check(question, { deadlineMs: 60_000, signal: abort.signal }),
      });
    } else if (one.kind === "abort") {
      callers[one.which % Math.max(1, callers.length)]?.abort.abort();
    } else if (one.kind === "lose") {
      lose();
    } else if (one.kind === "connect") {
      if (state.kind !== "up") move({ kind: "up", control: control as Control });
    } else if (one.kind === "reply-garbage") {
      reply(one.which, { decision: true });
    } else {
      const decision = one.kind === "reply-allow";
      if (decision && open.size > 0) allowsGiven += 1;
      reply(one.which, { ...EVALUATION, decision });
    }
    await new Promise(setImmediate);
  }
  lose();
  const answers = await Promise.all(callers.map(({ answer }) => answer));
  // one answer each, an allow for one caller each, and nothing sent that was not asked for
  expect(answers).toHaveLength(asked);
  expect(answers.filter(({ decision }) => decision)).toHaveLength(allowsGiven);
  expect(sentInAll).toBeLessThanOrEqual(asked);
}

test("whatever happens, each question is answered once, and each allow of the daemon's is one caller's", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 60 }), (steps) => run(steps)),
    { numRuns: 1_000 },
  );
});
