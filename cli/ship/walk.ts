import { setTimeout as sleep } from "node:timers/promises";
import type { Bad } from "../../daemon/audit/verdict.ts";
import { BoundaryError } from "../../daemon/core/errors.ts";
import { listLog, movedAside } from "../log-files.ts";
import { createFollower, type Position, type ProvenBatch } from "./follow.ts";
import { openTail } from "./tail.ts";

/** "end": all that is there now has been read; asking on looks again. "pruned": what comes next is gone, and so are we. */
export type Step =
  | { readonly kind: "batch"; readonly batch: ProvenBatch }
  | { readonly kind: "end" | "pruned" };

/**
 * A fault may be a write or a recovery under way: a daemon that starts cuts off what no seal covers, and goes on from
 * the last seal. So we look again from the last seal that we saw; a fault that stays is one.
 */
const LOOKS = 5;
const BETWEEN_LOOKS_MS = 200;

/** A log's directory and its genesis key. */
export type Walked = { readonly directory: string; readonly vkey: string };

/**
 * The proven part of a log from a position on, as long as one asks. Throws BoundaryError("log-broken") at the first
 * place where the log does not follow, after everything that is proven before it; "log-unsafe" when it cannot be read.
 */
export async function* walkLog(
  { directory, vkey }: Walked,
  start: Position,
  cutAt: number | null = null,
): AsyncGenerator<Step, void> {
  let from = start;
  for (let looks = 1; ; looks++) {
    const tail = openTail(directory, from);
    const follower = createFollower(vkey, from.begin, cutAt);
    let fault: Bad | null = null;
    try {
      while (fault === null) {
        const chunk = await tail.next();
        if (chunk === "changed") break;
        if (chunk === "end") {
          fault = follower.fault();
          if (fault === null) yield { kind: "end" };
          continue;
        }
        const followed = follower.push(chunk);
        for (const batch of followed.batches) {
          [from, looks] = [batch.after, 0];
          yield { kind: "batch", batch };
        }
        fault = followed.fault;
      }
    } finally {
      await tail.close();
    }
    if (await isPruned(directory, from.file)) return yield { kind: "pruned" };
    if (looks >= LOOKS) throw await broken(directory, fault);
    await sleep(BETWEEN_LOOKS_MS);
  }
}

async function isPruned(directory: string, file: string): Promise<boolean> {
  return (await listLog(directory)).files.includes(file.replace(/\.jsonl$/, ".tombstone"));
}

async function broken(directory: string, fault: Bad | null): Promise<BoundaryError> {
  const what =
    fault === null
      ? "a file was cut, replaced or taken away"
      : `record ${fault.seq}, ${fault.file}, byte ${fault.byte}: ${fault.what} (${fault.code})`;
  const why = fault === null || fault.code === "wrong-key" ? await asideNote(directory) : "";
  return new BoundaryError("log-broken", `reading the log ${directory}: ${what}${why}`);
}

/** What a person has to know where this log is not the one that it was; "" where there is nothing to know. */
export async function asideNote(directory: string): Promise<string> {
  const aside = await movedAside(directory);
  return aside === null ? "" : `; the daemon found a log broken and moved it to ${aside} in there`;
}
