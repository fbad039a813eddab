import { readdirSync } from "node:fs";
import { BoundaryError } from "../core/errors.ts";

/** What only a start leaves. The key, the head and a key that was never finished are judged apart from these. */
const IN_STATE = /^(log\..+|baseline\.json.*|enforced.*|audit)$/;
const JUDGED_APART = new Set(["log.key", "log.key.new", "log.head"]);
/**
 * Cut tails and logs that were moved aside: evidence. What was pruned had been written. The audit stream only follows a
 * log.
 */
const IN_LOG = /^(broken|torn)-|^\d{20}\.tombstone|^audit$/;

/**
 * Names of what an earlier daemon left beside log, key and head: with one of them there is no first start. Empty where
 * there are no directories. Throws BoundaryError("key-unreadable") when one cannot be listed.
 */
export function tracesIn(stateDirectory: string, logDirectory: string): readonly string[] {
  const inState = namesIn(stateDirectory).filter((name) => IN_STATE.test(name) && !JUDGED_APART.has(name));
  return [...inState, ...namesIn(logDirectory).filter((name) => IN_LOG.test(name))].sort();
}

function namesIn(directory: string): readonly string[] {
  try {
    return readdirSync(directory);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw new BoundaryError("key-unreadable", `listing ${directory}`, { cause });
  }
}
