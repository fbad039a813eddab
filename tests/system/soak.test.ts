import { describe, expect, test } from "vitest";
import { faultOf, type Heard, soak, thirdsOf } from "../support/soak.ts";

/** A short one; `npm run bench -- soak` is the long one, and holds memory against its beginning too. */
const LOAD = { clients: 4, askEveryMs: 60, modeEveryMs: 500, reloadEveryMs: 3_000, sampleEveryMs: 500 };

test("under load, with modes changing and policies read anew: no answer is lost, none is wrong", async () => {
  const report = await soak({ ...LOAD, seconds: 15 });
  expect(report).toMatchObject({ lost: [], wrong: [], log: [] });
  expect(report.asked).toBeGreaterThan(200);
  expect(report.allowed).toBeGreaterThan(50);
  expect(report.modeChanges).toBeGreaterThan(5);
  expect(report.reloads + report.refusedReloads).toBeGreaterThan(0);
  expect(report.memory.every(({ own, tree }) => own > 20 && tree >= own)).toBe(true);
}, 120_000);

describe("what the soak calls wrong", () => {
  const ask = { modes: ["OPEN", "RESTRICTED"] as const, unless: "site.closed" };
  const heard = (over: Partial<Heard>): Heard => ({
    decision: true,
    code: "allowed",
    reason: ["files.use"],
    mode: "OPEN",
    assurance: "observed",
    correlationId: "1",
    ...over,
  });
  const denied = (over: Partial<Heard>): Heard => heard({ decision: false, code: "policy-denied", ...over });

  test.each<[string, Heard, boolean]>([
    ["an allow where it must be one", heard({}), true],
    ["an allow in another mode", heard({ mode: "TRUSTED" }), false],
    ["an allow in LOCKDOWN", heard({ mode: "LOCKDOWN" }), false],
    ["an allow by what denies", heard({ reason: ["site.closed"] }), false],
    ["an allow with the code of a denial", heard({ code: "policy-denied" }), false],
    ["another assurance", heard({ assurance: "enforced" }), false],
    ["a denial in another mode", denied({ mode: "TRUSTED" }), true],
    ["a ceiling in another mode", denied({ mode: "TRUSTED", code: "mode-ceiling" }), true],
    ["a denial where it must be an allow", denied({}), false],
    ["a denial for the site's reason", denied({ reason: ["site.closed"] }), true],
    ["an allow that lapsed", denied({ code: "answer-lapsed" }), true],
    ["no policies", denied({ code: "policy-unavailable" }), false],
    ["no policies, in another mode", denied({ code: "policy-unavailable", mode: "TRUSTED" }), false],
    ["a limit, in another mode", denied({ code: "rate-limited", mode: "TRUSTED" }), false],
  ])("%s: %o", (_, answer, isRight) => {
    expect(faultOf(ask, answer) === "").toBe(isRight);
  });

  test("memory is the medians of the first and the last third", () => {
    expect(thirdsOf([1, 2, 3, 50, 50, 50, 7, 900, 8])).toEqual({ first: 2, last: 8 });
    expect(thirdsOf([4])).toEqual({ first: 4, last: 4 });
  });
});
