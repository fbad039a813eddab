import type { Client } from "../client/control.ts";
import type { ModeReply } from "../daemon/protocol/messages.ts";
import { dataOr } from "./ask.ts";
import type { Common } from "./command.ts";
import { parseDuration } from "./duration.ts";
import { type ExitCode, usageError } from "./exit.ts";
import { describeChange } from "./mode-text.ts";
import { plain, printLines } from "./output.ts";
import { askLineWithin, isInteractive } from "./terminal.ts";

const LEAST_MS = 5_000;
const MOST_MS = 3_600_000;

/** "60" (seconds), "90s", "10m" in milliseconds, 5 s to 1 h. Throws a usage error for anything else. */
export function parseConfirm(text: string): number {
  const ms = parseDuration(/^[0-9]+$/.test(text) ? `${text}s` : text);
  if (ms >= LEAST_MS && ms <= MOST_MS) return ms;
  throw usageError(`--confirm ${JSON.stringify(text)}: 5 seconds to one hour`);
}

/** What a change that goes back by itself prints, with what to type to keep it. */
export function renderTrial(reply: ModeReply, confirmMs: number): readonly string[] {
  const within = `${Math.round(confirmMs / 1_000)} s`;
  return reply.changed ? [`to keep it, within ${within}: boundaryctl mode confirm`] : [];
}

/**
 * Asks the person at the terminal whether it is to stay, until the time runs out. Going back is the daemon's doing: no
 * answer, Ctrl-C and a terminal that is cut off all come to the same.
 */
export async function askToKeep(common: Common, client: Client, confirmMs: number): Promise<ExitCode> {
  if (common.json || !isInteractive()) return 0;
  const answer = await askLineWithin("keep it? [y/N] ", confirmMs);
  if (answer === null || !/^y(es)?$/i.test(answer)) {
    printLines(["not confirmed: it goes back by itself when the time is up"]);
    return 1;
  }
  const outcome = dataOr(common, await client.call("mode.confirm", {}));
  if ("code" in outcome) return outcome.code;
  printLines(["confirmed: it stays", ...describeChange(outcome.data), ...renderNotes(outcome.data)]);
  return outcome.data.assurance === "failed" ? 1 : 0;
}

/** What the daemon has to say beside the mode. */
export function renderNotes(reply: ModeReply): readonly string[] {
  return (reply.notes ?? []).map((note) => `note       ${plain(note)}`);
}
