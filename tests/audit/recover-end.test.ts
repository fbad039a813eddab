import * as fs from "node:fs";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import {
  createSegment,
  cutTail,
  firstLineOf,
  lastSnapshot,
  readLog,
  readLogFrom,
} from "../../daemon/adapters/log-file.ts";
import { type LogEnd, recoverLog } from "../../daemon/audit/recover.ts";
import { isSnapshotLine } from "../../daemon/audit/snapshot.ts";
import { decision, fakeHead, fakeLog, forge, recordOf, tempDirectory } from "./fixture.ts";
import { genesis, keys, linesIn, ORIGIN, put, vkey, type Written, writeSegments } from "./segmented.ts";

const readEnd = (directory: string): LogEnd | null => {
  const found = lastSnapshot(directory, isSnapshotLine);
  const first = found && firstLineOf(directory, found.file);
  return found && first ? { first, snapshot: found.line, chunks: () => readLogFrom(directory, found) } : null;
};

/** As a start does it; and how much of the log it read from the beginning. */
async function recover(log: Pick<Written, "directory">, head: string | null, current = keys[2]?.vkey ?? "") {
  const { directory } = log;
  let whole = 0;
  const found = await recoverLog({
    read: () => {
      whole++;
      return readLog(directory);
    },
    readEnd: () => readEnd(directory),
    cut: (place) => cutTail(directory, place, 0),
    vkey,
    current,
    head,
  });
  return { found, whole };
}

describe("a start from the newest snapshot", () => {
  test("reads the end alone, and comes to what reading everything does", async () => {
    const log = await writeSegments(3);
    const head = log.notes.at(-1) ?? null;
    const { found, whole } = await recover(log, head);
    const all = await recoverLog({ read: () => readLog(log.directory), cut: () => "", vkey, head });
    expect(whole).toBe(0);
    if (found.kind !== "sound" || all.kind !== "sound") throw new Error(found.kind);
    expect(found.tail).toEqual(all.tail);
    expect([found.file, found.endByte, found.key, found.fold]).toEqual([
      all.file,
      all.endByte,
      all.key,
      all.fold,
    ]);
  });

  test("also from a snapshot within a segment, which comes by itself after some thousands of records", async () => {
    const temp = tempDirectory();
    onTestFinished(() => temp[Symbol.dispose]());
    const store = createSegment(temp.path, 0);
    const head = fakeHead();
    const { log } = fakeLog({ store, signer: genesis, origin: ORIGIN, head });
    for (let n = 0; n < 9_000; n++) {
      log.append(decision(`record ${n}`));
      if (n % 500 === 0) await log.drain();
    }
    await log.close();
    const { found, whole } = await recover({ directory: temp.path }, head.notes.at(-1) ?? null, genesis.vkey);
    expect(whole).toBe(0);
    if (found.kind !== "sound") throw new Error(found.kind);
    expect(found.tail.segment).toMatchObject({ number: 0, firstSeq: 0 });
    expect(found.tail.snapshotSeq).toBeGreaterThan(4_000);
    expect(found.tail.size - found.tail.snapshotSeq).toBeLessThan(5_000);
  });

  test("a torn end is cut off, and the log goes on", async () => {
    const log = await writeSegments(3);
    fs.appendFileSync(join(log.directory, log.files[2] ?? ""), '{"at":');
    const { found, whole } = await recover(log, log.notes.at(-1) ?? null);
    expect(whole).toBe(0);
    expect(found.kind).toBe("recovered");
  });

  const doubtful: readonly (readonly [name: string, code: string, tamper: (log: Written) => void])[] = [
    [
      "its state changed",
      "snapshot-lies",
      (log) => edit(log, (line) => line.replace('"wanted":""', '"wanted":"OPEN"')),
    ],
    [
      "its tree changed",
      "snapshot-lies",
      (log) =>
        edit(log, (line) => line.replace(/"frontier":\["[0-9a-f]{64}"/, `"frontier":["${"0".repeat(64)}"`)),
    ],
    [
      "its state changed, and sealed anew by somebody without the key",
      "snapshot-lies",
      (log) => {
        edit(log, (line) => line.replace('"wanted":""', '"wanted":"OPEN"'));
        reseal(log, 0);
      },
    ],
    [
      "its tree changed, and sealed anew with the right key",
      "snapshot-lies",
      (log) => {
        edit(log, (line) => line.replace(/"frontier":\["[0-9a-f]{64}"/, `"frontier":["${"0".repeat(64)}"`));
        reseal(log, 2);
      },
    ],
  ];
  test.each(doubtful)("%s: everything is read, and it is broken", async (_name, code, tamper) => {
    const log = await writeSegments(3);
    tamper(log);
    const { found, whole } = await recover(log, log.notes.at(-1) ?? null);
    expect(whole).toBe(1);
    expect(found).toMatchObject({ kind: "broken", bad: { code } });
  });

  test("without a remembered head, or with one from before the snapshot, everything is read", async () => {
    const log = await writeSegments(3);
    expect((await recover(log, null)).whole).toBe(1);
    expect((await recover(log, log.notes[0] ?? null)).whole).toBe(1);
  });

  test("under another key than the snapshot's segment has, everything is read", async () => {
    const log = await writeSegments(3);
    const { found, whole } = await recover(log, log.notes.at(-1) ?? null, keys[1]?.vkey);
    expect(whole).toBe(1);
    expect(found).toMatchObject({ kind: "sound", key: keys[2]?.vkey });
  });

  test("a head that the end does not reach is a cut tail", async () => {
    const log = await writeSegments(3);
    put(log, 2, linesIn(log, 2).slice(0, 4));
    const { found } = await recover(log, log.notes.at(-1) ?? null);
    expect(found).toMatchObject({ kind: "broken", bad: { code: "tail-cut" } });
  });
});

/** Changes the first line of the last segment. */
function edit(log: Written, change: (line: string) => string): void {
  const [first = "", ...rest] = linesIn(log, 2);
  expect(change(first)).not.toBe(first);
  put(log, 2, [change(first), ...rest]);
}

function reseal(log: Written, key: number): void {
  const before = [0, 1].flatMap((n) => linesIn(log, n));
  const records = [...before, ...linesIn(log, 2)].map(recordOf);
  const signer = keys[key];
  if (!signer) throw new Error("no such key");
  put(log, 2, forge(records, { from: before.length, signer }).slice(before.length));
}
