import { expect, test } from "vitest";
import { countTests } from "./support/count-tests.ts";

const file = (status: string, ...tests: string[]) => ({
  name: "a.test.ts",
  status,
  assertionResults: tests.map((one) => ({ status: one })),
});

test.each([
  ["all pass", [file("passed", "passed", "passed")], 0, [2, 0, 0]],
  ["a skip is not a pass", [file("passed", "passed", "skipped", "pending", "todo")], 0, [1, 0, 3]],
  ["a failure", [file("failed", "passed", "failed")], 1, [1, 1, 0]],
  ["a status nobody knows", [file("passed", "passed", "strange")], 0, [1, 1, 0]],
  ["a file that could not be loaded", [file("passed", "passed"), file("failed")], 1, [1, 1, 0]],
  ["a file that failed in a hook, its tests skipped", [file("failed", "skipped")], 1, [0, 1, 1]],
  ["an exit code that says more", [file("passed", "passed")], 1, [1, 1, 0]],
  ["nothing ran", [], 0, [0, 1, 0]],
  ["everything was skipped", [file("passed", "skipped")], 0, [0, 1, 1]],
])("%s", (_what, testResults, exitCode, [passed, failed, skipped]) => {
  expect(countTests({ testResults }, exitCode)).toEqual({ passed, failed, skipped });
});

test.each([null, "text", {}, { testResults: 5 }, []])("no report: %j", (report) => {
  expect(countTests(report, 0)).toEqual({ passed: 0, failed: 1, skipped: 0 });
});
