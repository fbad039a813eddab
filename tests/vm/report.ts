/** What was checked, and what came of it, as it happens. */
export type Report = {
  /** Counts one check under a name that says what was to be seen; `seen` is shown when it was not. */
  check(name: string, held: boolean, seen?: unknown): void;
  /** A line for the reader that counts for nothing. */
  note(line: string): void;
  readonly tally: { readonly passed: number; readonly failed: number };
};

const MAX_SEEN = 1_500;

/** A report whose lines begin with a label: two guests speak at the same time. */
export function createReport(label: string, begunMs: number): Report {
  const tally = { passed: 0, failed: 0 };
  const say = (text: string) => {
    const seconds = ((performance.now() - begunMs) / 1_000).toFixed(0).padStart(4);
    console.log(`${seconds} s  ${label.padEnd(9)} ${text}`);
  };
  return {
    tally,
    note: (line) => say(`          ${line}`),
    check: (name, held, seen = "") => {
      tally[held ? "passed" : "failed"] += 1;
      const what = held || seen === "" ? "" : `\n${typeof seen === "string" ? seen : JSON.stringify(seen)}`;
      say(`${held ? "passed" : "FAILED"}    ${name}${what.slice(0, MAX_SEEN)}`);
    },
  };
}
