import { setTimeout as sleep } from "node:timers/promises";
import type { Verdict } from "../daemon/audit/verdict.ts";

/** A daemon may be between a record and its seal: a torn end counts when it is still there after these looks. */
const LOOKS = 4;
const BETWEEN_LOOKS_MS = 100;

/** A verdict that does not say "torn" only because a daemon was writing. */
export async function settled(look: () => Promise<Verdict>): Promise<Verdict> {
  for (let times = 1; ; times++) {
    const verdict = await look();
    if (verdict.verdict !== "torn" || times === LOOKS) return verdict;
    await sleep(BETWEEN_LOOKS_MS);
  }
}
