import type { AuditLog } from "./audit/log.ts";
import { renderErrorChain } from "./core/errors.ts";
import type { Hold } from "./core/hold.ts";
import type { Mode } from "./core/mode.ts";
import { type History, heldSoFar, holdIn, startIn, takenUp, WHY_HELD } from "./core/start.ts";
import { holdChanged } from "./core/steps.ts";
import type { Opened } from "./open-log.ts";
import type { OpLog } from "./ports.ts";

export type LastKnown = {
  readonly mode: Mode;
  readonly hold: Hold;
  /** For a person: why the hold is not what is usual; "" when it is. */
  readonly why: string;
};

type Parts = {
  readonly history: () => Promise<History>;
  /** Opens the log to go on with it. The caller has its lock. */
  readonly reopen: () => Promise<{ readonly opened: Opened; readonly log: AuditLog }>;
  readonly initialMode: Mode;
  readonly hold: Parameters<typeof holdIn>[1];
  readonly opLog: OpLog;
};

/** Nothing is known for certain: closed. */
export const UNKNOWN: LastKnown = { mode: "LOCKDOWN", hold: "enforcing", why: "" };

/**
 * What to hold without a daemon, from the log alone. A boot parameter that nobody has recorded yet is recorded here, and
 * opens only when that record is on disk; where there is no log yet, its first start records it. Never rejects.
 */
export async function lastKnown(parts: Parts): Promise<LastKnown> {
  const { opLog } = parts;
  const history = await parts.history().catch((error: unknown): History => {
    opLog.error({ err: renderErrorChain(error) }, "the last mode cannot be read");
    return { kind: "unreadable", why: renderErrorChain(error) };
  });
  const { mode, epoch } = startIn(history, null, parts.initialMode);
  const start = holdIn(history, parts.hold);
  const { held, change } = start;
  if (change === null || history.kind === "none")
    return { mode, hold: held.hold, why: change === null ? "" : WHY_HELD[change.by] };
  const why = WHY_HELD[change.by];
  const before = { wanted: mode, epoch, ...heldSoFar(start) };
  try {
    const { opened, log } = await parts.reopen();
    for (const finding of opened.findings) log.append(finding);
    await log.append(holdChanged(before, takenUp(start), change.by, why)).durable;
    await log.close();
    return { mode, hold: held.hold, why };
  } catch (error) {
    opLog.error({ err: renderErrorChain(error), why }, "what would open the host cannot be recorded");
    return { mode, hold: "enforcing", why: "" };
  }
}
