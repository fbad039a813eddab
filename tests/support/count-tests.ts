import { readFileSync, realpathSync } from "node:fs";

/**
 * `node count-tests.ts REPORT EXITCODE`: reads vitest's JSON report and prints "passed failed skipped". What vitest
 * counts as nothing counts as a failure here: a report that is missing, no tests at all, a file that could not be
 * loaded, and an exit code that says more than the report does.
 */
type Report = {
  readonly testResults: readonly {
    readonly name: string;
    readonly status: string;
    readonly assertionResults: readonly { readonly status: string }[];
  }[];
};
export type Counts = { readonly passed: number; readonly failed: number; readonly skipped: number };

export function countTests(report: unknown, exitCode: number): Counts {
  const files = isReport(report) ? report.testResults : [];
  const statuses = files.flatMap((file) => file.assertionResults.map((one) => one.status));
  const passed = statuses.filter((status) => status === "passed").length;
  const skipped = statuses.filter((status) =>
    ["skipped", "pending", "todo", "disabled"].includes(status),
  ).length;
  const unloaded = files.filter(
    (file) => file.status === "failed" && !file.assertionResults.some((one) => one.status === "failed"),
  ).length;
  const failed = statuses.length - passed - skipped + unloaded;
  const silent = failed === 0 && (exitCode !== 0 || passed === 0);
  return { passed, failed: silent ? 1 : failed, skipped };
}

function isReport(report: unknown): report is Report {
  return (
    typeof report === "object" &&
    report !== null &&
    Array.isArray((report as Record<string, unknown>)["testResults"])
  );
}

function readReport(path: string): unknown {
  try {
    return JSON.parse(readFileSync(path, "utf8"));
  } catch {
    return null; // counted as a failure: there is no report
  }
}

if (process.argv[1] !== undefined && realpathSync(process.argv[1]) === import.meta.filename) {
  const counts = countTests(readReport(process.argv[2] ?? ""), Number(process.argv[3] ?? 1));
  console.log(`${counts.passed} ${counts.failed} ${counts.skipped}`);
}
