import { type DestinationStream, pino } from "pino";
import { renderErrorChain } from "../core/errors.ts";
import { redactValue } from "../core/redact.ts";
import { createRepeats } from "../core/repeats.ts";
import { mayHoldSecret } from "../core/secret-hint.ts";
import type { OpLog } from "../ports.ts";

type Settings = {
  readonly level: string;
  /** Takes one line, with its "\n". Without one: stderr, written at once. */
  readonly write?: (line: string) => void;
  /** Monotonic milliseconds. */
  readonly nowMs?: () => number;
  /** Calls back when the process ends. */
  readonly atExit?: (then: () => void) => void;
};

/** What is said again within this time is counted, and the count told when it is over. */
const WINDOW_MS = 10_000;

/**
 * Diagnostics as JSON lines on stderr, written at once: the last words before a crash are the ones that matter. Secrets
 * are replaced, and nothing said over and over can flood the journal: one line, then a count for each window. What is
 * still being counted when the process ends is told as it exits.
 */
export function createOpLog(settings: Settings): OpLog {
  const { level, write = toStderr(), nowMs = () => performance.now(), atExit = onExit } = settings;
  const known = level in pino.levels.values ? level : "info";
  const log = pino({ base: null, level: known }, { write: (line: string) => write(withoutSecrets(line)) });
  const repeats = createRepeats(WINDOW_MS);

  function tell(how: "info" | "warn" | "error", fields: object, message: string): void {
    if (!log.isLevelEnabled(how)) return;
    drain();
    // a message is a constant of this program; what outsiders can vary is in the fields
    if (repeats.first(message, keyOf(fields), nowMs())) log[how](fields, message);
  }

  function drain(): void {
    for (const { group, count } of repeats.drain(nowMs())) again(group, count);
  }

  function again(message: string, count: number): void {
    log.warn({ again: count, withinMs: WINDOW_MS }, message);
  }

  setInterval(drain, WINDOW_MS).unref();
  atExit(() => {
    for (const { group, count } of repeats.drainAll()) again(group, count);
  });
  return {
    info: (fields, message) => tell("info", fields, message),
    warn: (fields, message) => tell("warn", fields, message),
    error: (fields, message) => tell("error", fields, message),
  };
}

function onExit(then: () => void): void {
  process.once("exit", then);
}

function toStderr(): (line: string) => void {
  const stderr = pino.destination({ dest: 2, sync: true }) as DestinationStream;
  return (line) => stderr.write(line);
}

/** pino has made it text: so the stack of an error, and what a serializer gives, are looked at as well. */
function withoutSecrets(line: string): string {
  if (!mayHoldSecret(line.trimEnd())) return line;
  return `${JSON.stringify(redactValue(JSON.parse(line) as unknown))}\n`;
}

function keyOf(fields: object): string {
  try {
    return JSON.stringify(fields, (_, value: unknown) => {
      if (value instanceof Error) return renderErrorChain(value);
      return typeof value === "bigint" ? String(value) : value;
    });
  } catch {
    return ""; // a circle: one of this message is told, the rest are counted with it
  }
}
