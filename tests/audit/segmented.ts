import * as fs from "node:fs";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import { createSegment } from "../../daemon/adapters/log-file.ts";
import type { Fold } from "../../daemon/audit/fold.ts";
import type { Entry } from "../../daemon/audit/record.ts";
import { makeLog } from "../support/real-log.ts";
import { bytesOf, decision, nameOf, tempDirectory, testSigner } from "./fixture.ts";

/** Keys of one log: the same name, another key each. */
export const genesis = testSigner("genesis");
export const ORIGIN = nameOf(genesis);
export const keys = [genesis, ...["one", "two", "three", "four"].map((seed) => testSigner(seed, ORIGIN))];
export const { vkey } = genesis;

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
  const taken: number[] = [];
  let n = 0;
  const { notes, ended } = await makeLog({
    shape: Array.from({ length: segments }, () => Array.from({ length: batches }, () => 1)),
    signer: (segment) => keys[segment] ?? genesis,
    store: (firstSeq) => createSegment(directory, firstSeq),
    entry: () => entries(n++),
    took: (segment) => taken.push(segment),
  });
  const files = fs.readdirSync(directory).sort();
  return { directory, notes, files, taken, ended };
}

export const linesIn = (written: Written, n: number) =>
  fs
    .readFileSync(join(written.directory, written.files[n] ?? ""), "utf8")
    .split("\n")
    .slice(0, -1);
export const put = (written: Written, n: number, lines: readonly string[]) =>
  fs.writeFileSync(join(written.directory, written.files[n] ?? ""), bytesOf(lines));
