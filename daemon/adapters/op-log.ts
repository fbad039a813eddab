import { type DestinationStream, pino } from "pino";
import type { OpLog } from "../ports.ts";

/** Diagnostics as JSON lines on stderr, written at once: the last words before a crash are the ones that matter. */
export function createOpLog(level: string): OpLog {
  const known = level in pino.levels.values ? level : "info";
  return pino({ base: null, level: known }, pino.destination({ dest: 2, sync: true }) as DestinationStream);
}
