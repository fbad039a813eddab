import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { segmentName } from "../../daemon/adapters/log-file.ts";
import { renderCertificate } from "../../daemon/audit/certificate.ts";
import type { Fold } from "../../daemon/audit/fold.ts";
import { emptyTail, openLog } from "../../daemon/audit/log.ts";
import { append, copyFrontier, emptyFrontier, leafHash } from "../../daemon/audit/merkle.ts";
import type { Data, Entry } from "../../daemon/audit/record.ts";
import type { LogStore, Signer } from "../../daemon/ports.ts";
import { fakeHead, fakeStore, nameOf, testClock, testSigner } from "../audit/fixture.ts";
import { directoryOfFile } from "./directory-of-file.ts";

/** A log of several segments, each under its own key, in memory, as the daemon's own appender writes it. */
export type RealLog = {
  /** The genesis key, and every segment's, in order. */
  readonly vkey: string;
  readonly vkeys: readonly string[];
  readonly segments: readonly Segment[];
  /** All lines in order, seals included, without "\n"; and the notes of all seals. */
  readonly lines: readonly string[];
  readonly notes: readonly string[];
  /** File name to bytes. */
  readonly files: Readonly<Record<string, Buffer>>;
};

export type Segment = {
  readonly name: string;
  readonly lines: readonly string[];
  /** What is left of it when it is pruned; "" for the last one. */
  readonly tombstone: string;
};

/**
 * For each segment how many batches of how many records: [[1, 3], [2]] is two batches in the first, of 1 and 3. Its first
 * line stands in the first batch (0: alone); in all others it has a seal of its own.
 */
export type Shape = readonly (readonly number[])[];

export type Making = {
  readonly shape: Shape;
  /** A segment's key, all of one name. */
  readonly signer: (segment: number) => Signer;
  readonly store: (firstSeq: number) => LogStore;
  /** What the next record holds; `seq` is its number, as long as the log has no snapshots. */
  readonly entry: (seq: number) => Entry;
  /** A segment's new key is in force. */
  readonly took?: (segment: number) => void;
};

/** What has to pass before a pruning is one. */
const RETENTION_MS = 91 * 86_400_000;

/** Runs the real appender, batch by batch. */
export async function makeLog(
  making: Making,
): Promise<{ readonly notes: readonly string[]; readonly ended: Fold }> {
  const head = fakeHead();
  const genesis = making.signer(0);
  const clock = testClock();
  let segment = 0;
  const log = openLog({
    store: making.store(0),
    head,
    signer: genesis,
    clock,
    tail: emptyTail(),
    origin: nameOf(genesis),
    successor: {
      key: () => making.signer(++segment),
      store: making.store,
      took: () => making.took?.(segment),
    },
    onFailed: (cause) => {
      throw cause;
    },
  });
  let seq = 1;
  for (const [at, batches] of making.shape.entries()) {
    if (at > 0) {
      await log.rotate();
      seq += 4; // log.rotated, log.segment, and a seal after each
    }
    for (const count of batches) {
      for (let n = 0; n < count; n++) {
        const entry = making.entry(seq++);
        if (entry.kind === "log.pruned") clock.moveMs(RETENTION_MS);
        log.append(entry);
      }
      await log.drain();
      seq++;
    }
  }
  const ended = log.fold();
  await log.close();
  return { notes: head.notes, ended };
}

const decision = (data: Data): Entry => ({ kind: "decision", data });
const numbered = (seq: number): Data => ({ about: "ä, and \u0001 more", n: seq });

/** In memory. `word`: other keys, and so another log. `data`: what a record holds, by its number. */
export async function realLog(
  shape: Shape,
  { word = "rotated", data = numbered }: { word?: string; data?: (seq: number) => Data } = {},
): Promise<RealLog> {
  const stores: { name: string; store: ReturnType<typeof fakeStore> }[] = [];
  const signers = shape.map((_, at) => testSigner(`${word} ${at}`));
  const { notes } = await makeLog({
    shape,
    signer: (segment) => signers[segment] ?? testSigner(),
    store: (firstSeq) => {
      const store = fakeStore();
      stores.push({ name: segmentName(firstSeq), store });
      return store;
    },
    entry: (seq) => decision(data(seq)),
  });
  const segments = withTombstones(
    stores.map(({ name, store }) => ({ name, lines: store.text().split("\n").slice(0, -1) })),
  );
  return {
    vkey: signers[0]?.vkey ?? "",
    vkeys: signers.map(({ vkey }) => vkey),
    segments,
    lines: segments.flatMap(({ lines }) => lines),
    notes,
    files: Object.fromEntries(segments.map(({ name, lines }) => [name, Buffer.from(textOf(lines))])),
  };
}

/** Segments of the same shape: `batches` of `perBatch` records, and the first line alone. */
export function evenLog(even: {
  readonly segments: number;
  readonly batches: number;
  readonly perBatch: number;
  readonly data?: (seq: number) => Data;
}): Promise<RealLog> {
  const batches = Array.from({ length: even.batches }, () => even.perBatch);
  const shape = Array.from({ length: even.segments }, (_, at) => (at === 0 ? [0, ...batches] : batches));
  return realLog(shape, even.data && { data: even.data });
}

function withTombstones(segments: readonly Omit<Segment, "tombstone">[]): readonly Segment[] {
  const frontier = emptyFrontier();
  return segments.map(({ name, lines }, segment) => {
    const first = frontier.size;
    let tree = copyFrontier(frontier);
    for (const [at, line] of lines.entries()) {
      if (at === lines.length - 2) tree = copyFrontier(frontier);
      append(frontier, leafHash(Buffer.from(line)));
    }
    const [rotated = "", seal = ""] = lines.slice(-2);
    const isLast = segment === segments.length - 1;
    const tombstone = isLast ? "" : renderCertificate({ segment, first, tree, rotated, seal });
    return { name, lines, tombstone };
  });
}

/** Writes a log's files into a directory; of the first `pruned` segments only their tombstones. */
export function putLog(directory: string, { segments }: RealLog, pruned = 0): void {
  mkdirSync(directory, { recursive: true });
  for (const [at, { name, lines, tombstone }] of segments.entries()) {
    if (at < pruned) writeFileSync(join(directory, name.replace("jsonl", "tombstone")), tombstone);
    else writeFileSync(join(directory, name), textOf(lines));
  }
}

export function textOf(lines: readonly string[]): string {
  return lines.map((line) => `${line}\n`).join("");
}

/** A directory for a test; gone with `remove`, or with the process. */
export function shipDirectory(): { readonly path: string; remove(): void } {
  const path = directoryOfFile("ship");
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) };
}
