import { expect, test } from "vitest";
import { ERRORS, type ErrorCode } from "../../daemon/core/errors.ts";
import { problem } from "../../daemon/protocol/problem.ts";

test("a problem carries its code, a title in words, what happened and what to do", () => {
  expect(problem("frame-too-large", "70000 bytes")).toEqual({
    type: "urn:boundary:error:frame-too-large",
    title: "frame too large",
    code: "frame-too-large",
    detail: "70000 bytes",
    hint: ERRORS["frame-too-large"].hint,
    category: "protocol",
    severity: "warning",
  });
});

test.each(Object.keys(ERRORS))("%s has a hint and a urn of plain characters", (code) => {
  const told = problem(code as ErrorCode, "");
  expect(told.hint).not.toBe("");
  expect(told.type).toMatch(/^urn:boundary:error:[a-z0-9-]+$/);
});
