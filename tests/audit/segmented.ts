import * as fs from "node:fs";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import { createSegment } from "../../daemon/adapters/log-file.ts";
import type { Fold } from "../../daemon/audit/fold.ts";
import { emptyTail, openLog } from "../../daemon/audit/log.ts";
import type { Entry } from "../../daemon/audit/record.ts";
import type { LogStore, Signer } from "../../daemon/ports.ts";
import { bytesOf, decision, fakeHead, nameOf, tempDirectory, testClock, testSigner } from "./fixture.ts";

/** Keys of one log: the same name, another key each. */
export const genesis = testSigner("genesis");
export const ORIGIN = nameOf(genesis);
export const keys = [genesis, ...["one", "two", "three", "four"].map((seed) => testSigner(seed, ORIGIN))];
export const { vkey } = genesis;

/** What has to pass before a pruning is one. */
const RETENTION_MS = 91 * 86_400_000;

export type Written = {
  readonly taken: readonly number[];
  readonly ended: Fold;
  readonly directory: string;
  readonly notes: readonly string[];
  readonly files: readonly string[];
};

/** A log of several segments, by the real appender on real files: so many batches in each, a record in a batch. */
export async function writeSegments(
  segments = 3,
  entries: (n: number) => Entry = (n) => decision(`record ${n}`),
  batches = 2,
): Promise<Written> {
  const temp = tempDirectory();
  onTestFinished(() => temp[Symbol.dispose]());
  const directory = temp.path;
  const head = fakeHead();
  const taken: number[] = [];
  let made = 0;
  const clock = testClock();
  const log = openLog({
    store: createSegment(directory, 0),
    head,
    signer: keys[0] as Signer,
    clock,
    tail: emptyTail(),
    origin: ORIGIN,
    successor: {
      key: () => keys[++made] as Signer,
      store: (firstSeq): LogStore => createSegment(directory, firstSeq),
      took: () => taken.push(made),
    },
    onFailed: (cause) => {
      throw cause;
    },
  });
  let n = 0;
  for (let segment = 0; segment < segments; segment++) {
    if (segment > 0) await log.rotate();
    for (let batch = 0; batch < batches; batch++) {
      const entry = entries(n++);
      if (entry.kind === "log.pruned") clock.moveMs(RETENTION_MS);
      log.append(entry);
      await log.drain();
    }
  }
  const ended = log.fold();
  await log.close();
  const files = fs.readdirSync(directory).sort();
  return { directory, notes: head.notes, files, taken, ended };
}

export const linesIn = (written: Written, n: number) =>
  fs
    .readFileSync(join(written.directory, written.files[n] ?? ""), "utf8")
    .split("\n")
    .slice(0, -1);
export const put = (written: Written, n: number, lines: readonly string[]) =>
  fs.writeFileSync(join(written.directory, written.files[n] ?? ""), bytesOf(lines));
