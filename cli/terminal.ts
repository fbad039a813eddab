import { createInterface } from "node:readline";

/** Whether a person sits at both ends. */
export function isInteractive(): boolean {
  return process.stdin.isTTY && process.stdout.isTTY;
}

/** Asks for one line; null when the input ends or Ctrl-C is pressed. */
export function askLine(question: string): Promise<string | null> {
  const lines = createInterface({ input: process.stdin, output: process.stdout });
  return new Promise((resolve) => {
    lines.once("close", () => resolve(null));
    lines.once("SIGINT", () => lines.close());
    lines.question(question, (line) => {
      resolve(line.trim());
      lines.close();
    });
  });
}
