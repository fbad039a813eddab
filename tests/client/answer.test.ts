import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { answerOf, denial, readAnswer } from "../../client/answer.ts";
import type { Evaluation } from "../../daemon/core/access.ts";
import { problem } from "../../daemon/protocol/problem.ts";

const ALLOW: Evaluation = {
  decision: true,
  code: "allowed",
  reason: ["mode.tools"],
  mode: "RESTRICTED",
  assurance: "enforced",
  correlationId: "17",
  wouldAllow: "",
  askPerson: false,
  approval: "",
  retryable: false,
  retryAfterMs: 0,
};
const OLD = {
  decision: false,
  reason: ["mode.lockdown"],
  mode: "LOCKDOWN",
  assurance: "enforced",
  correlationId: "18",
  wouldAllow: "nothing",
  askPerson: true,
};

describe("readAnswer", () => {
  test("reads an Evaluation, and one of before the fields that came with step 4", () => {
    expect(readAnswer(ALLOW)).toEqual({ ...ALLOW, detail: "" });
    expect(readAnswer(OLD)).toEqual({
      ...OLD,
      code: "denied",
      approval: "",
      retryable: false,
      retryAfterMs: 0,
      detail: "",
    });
  });

  test("takes a code that is newer than this client", () => {
    const newer = { ...ALLOW, decision: false, code: "quantum-entangled" };
    expect(readAnswer(newer)).toMatchObject({ decision: false, code: "quantum-entangled" });
  });

  test.each([
    ["an allow with the code of a denial", { code: "rate-limited" }],
    ["a denial that says allowed", { decision: false }],
    ["no decision", { decision: undefined }],
    ["a decision in words", { decision: "true" }],
    ["a decision as a number", { decision: 1 }],
    ["an unknown mode", { mode: "OPENISH" }],
    ["an unknown assurance", { assurance: "sure" }],
    ["reasons that are no list", { reason: "mode.tools" }],
    ["a reason that is no text", { reason: [7] }],
    ["a time that is none", { retryAfterMs: Number.NaN }],
    ["a negative time", { retryAfterMs: -1 }],
    ["askPerson in words", { askPerson: "no" }],
    ["a code with blanks", { code: "al lowed" }],
    ["a correlationId that is a number", { correlationId: 17 }],
    ["endless text", { wouldAllow: "x".repeat(5_000) }],
  ])("%s is no answer, so it is a denial", (_what, change) => {
    expect(readAnswer({ ...ALLOW, ...change })).toBeNull();
    expect(answerOf({ ok: true, data: { ...ALLOW, ...change } })).toMatchObject({
      decision: false,
      code: "reply-invalid",
    });
  });

  test("what is inherited does not count", () => {
    expect(readAnswer(Object.create(ALLOW) as object)).toBeNull();
  });

  test("no object is an allow but one that says so in full", () => {
    const field = fc.oneof(fc.anything(), fc.constantFrom(true, "allowed", "OPEN", "enforced", [], ""));
    const names = Object.keys(ALLOW) as (keyof Evaluation)[];
    fc.assert(
      fc.property(fc.dictionary(fc.constantFrom(...names), field), (data) => {
        const answer = answerOf({ ok: true, data });
        const said = data["decision"] === true && ["allowed", undefined].includes(data["code"] as string);
        expect(!answer.decision || said).toBe(true);
        expect(typeof answer.code).toBe("string");
      }),
      { numRuns: 1_000 },
    );
  });
});

describe("a refusal", () => {
  test("is a denial with its code, its words and when to come again", () => {
    const told = { ...problem("too-many-requests", "64 wait"), retryAfterMs: 250 };
    const answer = answerOf({ ok: false, problem: told });
    expect(answer).toMatchObject({ decision: false, code: "too-many-requests", mode: null });
    expect(answer).toMatchObject({ retryable: true, retryAfterMs: 250 });
    expect(answer.detail).toContain("64 wait");
  });

  test("with a code that is newer than this client keeps it", () => {
    const told = { ...problem("internal", "x"), code: "brand-new" as "internal" };
    expect(answerOf({ ok: false, problem: told })).toMatchObject({ decision: false, code: "brand-new" });
  });

  test.each(["allowed", "ALLOW", "", "a b"])("that calls itself %j is a denial all the same", (code) => {
    const told = { ...problem("internal", "x"), code: code as "internal" };
    expect(answerOf({ ok: false, problem: told })).toMatchObject({ decision: false, code: "reply-invalid" });
  });
});

test("a denial of our own claims nothing", () => {
  expect(denial("daemon-unreachable", "gone")).toEqual({
    decision: false,
    code: "daemon-unreachable",
    reason: [],
    mode: null,
    assurance: "failed",
    correlationId: "",
    wouldAllow: "",
    askPerson: false,
    approval: "",
    retryable: true,
    retryAfterMs: 0,
    detail: "gone",
  });
});
