import { escapeControls } from "../daemon/core/shown-text.ts";
import type { Problem } from "../daemon/protocol/messages.ts";

/**
 * Text from outside as one line that cannot steer a terminal: control and format characters are shown escaped.
 * Everything that came from the daemon, the log or a file name goes through here.
 */
export function plain(text: string | number): string {
  // a number, says the type; a false daemon may have sent anything
  return escapeControls(String(text));
}

/** Whether text can be shown as it is; "\n" is no danger. */
export function isPlain(text: string): boolean {
  return plain(text.replaceAll("\n", "")) === text.replaceAll("\n", "");
}

/** JSON text of a value, on one line, with the same characters escaped (JSON itself escapes only C0). */
export function renderJson(value: unknown): string {
  return escapeControls(JSON.stringify(value) ?? "null");
}

/** One JSON document, or one line of it, to stdout. */
export function printJson(value: unknown): void {
  process.stdout.write(`${renderJson(value)}\n`);
}

export function printLines(lines: readonly string[]): void {
  if (lines.length > 0) process.stdout.write(`${lines.join("\n")}\n`);
}

/** What went wrong, its code and what to do, to stderr; with --json the problem is the document on stdout as well. */
export function printProblem(told: Problem, form: "text" | "json"): void {
  if (form === "json") printJson({ problem: told });
  const { paint } = painter(process.stderr);
  const { retryAfterMs = 0 } = told;
  const again = retryAfterMs > 0 ? `  again: in ${Math.ceil(retryAfterMs / 1_000)} s\n` : "";
  process.stderr.write(
    `boundaryctl: ${paint("red", plain(told.detail || told.title))}\n  code: ${plain(told.code)}\n  hint: ${plain(told.hint)}\n${again}`,
  );
}

export type Colour = "red" | "yellow" | "green" | "dim" | "bold";
export type Paint = (colour: Colour, text: string) => string;

const SGR: Readonly<Record<Colour, number>> = { bold: 1, dim: 2, red: 31, green: 32, yellow: 33 };

/** Colour on a terminal only, and never with NO_COLOR (no-color.org) or a dumb terminal. */
export function painter(stream: { readonly isTTY?: boolean }): { readonly paint: Paint } {
  const on = stream.isTTY === true && !process.env["NO_COLOR"] && process.env["TERM"] !== "dumb";
  return { paint: (colour, text) => (on ? `\u001b[${SGR[colour]}m${text}\u001b[0m` : text) };
}

/** Rows as columns, two blanks between; the last column is not padded. Cells have to be plain already. */
export function renderTable(rows: readonly (readonly string[])[]): readonly string[] {
  const widths: number[] = [];
  for (const row of rows) {
    row.forEach((cell, column) => {
      widths[column] = Math.max(widths[column] ?? 0, cell.length);
    });
  }
  return rows.map((row) =>
    row
      .map((cell, column) => (column === row.length - 1 ? cell : cell.padEnd(widths[column] ?? 0)))
      .join("  "),
  );
}
