import { setTimeout as sleep } from "node:timers/promises";
import { BoundaryError } from "../../daemon/core/errors.ts";
import { createFollower, type KnownKey, type Position, type ProvenBatch, startOf } from "./follow.ts";
import { listLog, openTail, readTombstone } from "./tail.ts";
import { passTombstone } from "./tombstone.ts";

/** "end": all that is there now has been read. Asking on looks again. */
export type Step = { readonly kind: "batch"; readonly batch: ProvenBatch } | { readonly kind: "end" };

/**
 * A fault may be a write or a recovery under way: a daemon that starts cuts off what no seal covers, and goes on from
 * the last seal. So we look again from the last seal that we saw; a fault that stays is one.
 */
const LOOKS = 5;
const BETWEEN_LOOKS_MS = 200;

/**
 * The proven part of a log from a position on, as long as one asks. Throws BoundaryError("log-broken") at the first
 * place where the log does not follow, after everything that is proven before it; "log-unsafe" when it cannot be read.
 */
export async function* walkLog(
  directory: string,
  start: Position,
  cutAt: number | null = null,
): AsyncGenerator<Step, never> {
  let from = start;
  for (let looks = 1; ; looks++) {
    const tail = openTail(directory, from);
    const follower = createFollower(from, cutAt);
    let fault = "a file was cut, replaced or taken away";
    try {
      for (;;) {
        const chunk = await tail.next();
        if (chunk === "changed") break;
        if (chunk === "end") {
          yield { kind: "end" };
          continue;
        }
        const followed = follower.push(chunk);
        for (const batch of followed.batches) {
          [from, looks] = [batch.after, 0];
          yield { kind: "batch", batch };
        }
        if (followed.fault === null) continue;
        fault = followed.fault;
        break;
      }
    } finally {
      await tail.close();
    }
    if (looks >= LOOKS) throw new BoundaryError("log-broken", `reading the log ${directory}: ${fault}`);
    await sleep(BETWEEN_LOOKS_MS);
  }
}

/** Where what is kept of a log begins: after its tombstones. Throws BoundaryError("log-broken") for a bad one. */
export async function firstKept(directory: string, genesis: KnownKey): Promise<Position> {
  let position = startOf(genesis);
  for (const name of (await listLog(directory)).tombstones) {
    const after = passTombstone(position, await readTombstone(directory, name));
    if (typeof after === "string") throw new BoundaryError("log-broken", `reading ${name}: ${after}`);
    position = after;
  }
  return position;
}
