import { createInterface } from "node:readline";

/** Whether a person sits at both ends. */
export function isInteractive(): boolean {
  return process.stdin.isTTY && process.stdout.isTTY;
}

/** Asks for one line; null when the input ends or Ctrl-C is pressed. */
export function askLine(question: string): Promise<string | null> {
  return askLineWithin(question, null);
}

/** The same, and null also when the time is up. `ms`: null for as long as it takes. */
export function askLineWithin(question: string, ms: number | null): Promise<string | null> {
  const lines = createInterface({ input: process.stdin, output: process.stdout });
  const alarm = ms === null ? undefined : setTimeout(() => lines.close(), ms);
  return new Promise((resolve) => {
    lines.once("close", () => {
      clearTimeout(alarm);
      resolve(null);
    });
    lines.once("SIGINT", () => lines.close());
    lines.question(question, (line) => {
      resolve(line.trim());
      lines.close();
    });
  });
}
