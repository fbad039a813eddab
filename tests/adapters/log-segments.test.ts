import * as fs from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import {
  lastSnapshot,
  prepareLogDirectory,
  quarantine,
  readLog,
  readLogFrom,
  removeSegment,
  saveTombstone,
  segmentName,
  segmentsOf,
} from "../../daemon/adapters/log-file.ts";
import { renderCanonical } from "../../daemon/audit/canonical.ts";
import { readLine, renderLine } from "../../daemon/audit/line.ts";
import { FIRST_PREV } from "../../daemon/audit/record.ts";
import type { Chunk } from "../../daemon/audit/split.ts";
import { codeOf, tempDirectory } from "../audit/fixture.ts";

const TOMBSTONE = "00000000000000000000.tombstone";

let temp: ReturnType<typeof tempDirectory>;
let directory: string;
beforeEach(() => {
  temp = tempDirectory();
  directory = join(temp.path, "log");
  prepareLogDirectory(directory);
});
afterEach(() => temp[Symbol.dispose]());

const put = (name: string, content: string) => fs.writeFileSync(join(directory, name), content);

async function collect(chunks: AsyncIterable<Chunk>): Promise<(readonly [string, number, string])[]> {
  const all: (readonly [string, number, string])[] = [];
  for await (const { file, at, bytes } of chunks) all.push([file, at ?? -1, Buffer.from(bytes).toString()]);
  return all;
}

function lineOf(seq: number, kind: string, data: Parameters<typeof renderCanonical>[0] = {}): string {
  const stamp = { at: "2026-01-02T03:04:05.000Z", boot: "b", mono: "1", prev: FIRST_PREV };
  return renderLine({ ...stamp, seq, kind }, renderCanonical(data));
}

const isSnapshot = (line: string) => {
  const read = readLine(line);
  return read.ok && ["log.snapshot", "log.segment"].includes(read.record.kind);
};

describe("the last snapshot", () => {
  test("is none where there is no segment, no line, or no snapshot", () => {
    expect(lastSnapshot(directory, isSnapshot)).toBeNull();
    put(segmentName(0), "");
    expect(lastSnapshot(directory, isSnapshot)).toBeNull();
    put(segmentName(0), `${lineOf(0, "log.genesis")}\n`);
    expect(lastSnapshot(directory, isSnapshot)).toBeNull();
  });

  test("is searched in the last segment alone", () => {
    put(segmentName(0), `${lineOf(0, "log.snapshot")}\n`);
    put(segmentName(1), `${lineOf(1, "decision")}\n`);
    expect(lastSnapshot(directory, isSnapshot)).toBeNull();
    put(segmentName(1), `${lineOf(1, "log.segment")}\n`);
    expect(lastSnapshot(directory, isSnapshot)).toMatchObject({ file: segmentName(1), byte: 0 });
  });

  test("is not a torn one, nor bytes within another record, nor a kind that only begins so", () => {
    const good = lineOf(1, "log.snapshot");
    const decoy = lineOf(2, "decision", { kind: "log.snapshot", mono: "1" });
    const text = lineOf(3, "decision", { text: '"kind":"log.snapshot","mono":"' });
    const other = lineOf(4, "log.snapshots");
    const torn = lineOf(5, "log.snapshot");
    expect(decoy).toContain('"kind":"log.snapshot","mono":"');
    put(segmentName(0), `${lineOf(0, "log.genesis")}\n${good}\n${decoy}\n${text}\n${other}\n${torn}`);
    expect(lastSnapshot(directory, isSnapshot)?.line).toBe(good);
  });

  test("is found wherever it stands: far from the end, and across the borders of what is read at once", () => {
    const record = fc.record({
      kind: fc.constantFrom("decision", "decision", "log.snapshot", "log.segment"),
      bytes: fc.oneof(fc.nat(200), fc.nat(65_000)),
      decoy: fc.boolean(),
    });
    const tail = fc.constantFrom("", "x", '{"kind":"log.snapshot","mono":"', "x".repeat(70_000));
    fc.assert(
      fc.property(fc.array(record, { maxLength: 30 }), fc.nat(20), tail, (records, after, torn) => {
        const lines = [
          ...records.map(({ kind, bytes, decoy }, seq) =>
            lineOf(seq, kind, {
              ...(decoy ? { kind: "log.segment", mono: "1" } : {}),
              text: "é".repeat(bytes / 2),
            }),
          ),
          ...Array.from({ length: after }, (_, n) => lineOf(n, "decision", { text: "x".repeat(60_000) })),
        ];
        put(segmentName(0), lines.map((line) => `${line}\n`).join("") + torn);
        const at = lines.findLastIndex(isSnapshot);
        const byte = Buffer.byteLength(
          lines
            .slice(0, at)
            .map((line) => `${line}\n`)
            .join(""),
        );
        const expected = at === -1 ? null : { file: segmentName(0), byte, line: lines[at] };
        expect(lastSnapshot(directory, isSnapshot)).toEqual(expected);
      }),
      { numRuns: 60 },
    );
  }, 60_000);
});

describe("reading", () => {
  test("from a byte on gives the rest of that segment, and then the later ones", async () => {
    put(segmentName(0), "zero\n");
    put(segmentName(1), "one\ntwo\n");
    put(segmentName(3), "three\n");
    expect(await collect(readLogFrom(directory, { file: segmentName(1), byte: 4 }))).toEqual([
      [segmentName(1), 4, "two\n"],
      [segmentName(3), 0, "three\n"],
    ]);
    expect(await collect(readLogFrom(directory, { file: segmentName(1), byte: 8 }))).toEqual([
      [segmentName(3), 0, "three\n"],
    ]);
    for (const file of [segmentName(2), "../x", TOMBSTONE])
      expect(await codeOf(() => collect(readLogFrom(directory, { file, byte: 0 })))).toBe("log-broken");
  });

  test("gives tombstones before segments, and none whose segment is still there", async () => {
    put(segmentName(5), "five\n");
    put(segmentName(9), "nine\n");
    saveTombstone(directory, 0, Buffer.from("grave 0\n"));
    saveTombstone(directory, 5, Buffer.from("grave 5\n"));
    put("00000000000000000007.tombstone.new", "unfinished");
    expect(await collect(readLog(directory))).toEqual([
      [TOMBSTONE, 0, "grave 0\n"],
      [segmentName(5), 0, "five\n"],
      [segmentName(9), 0, "nine\n"],
    ]);
  });
});

describe("segments", () => {
  test("are told with their first number and size", () => {
    put(segmentName(12), "ab");
    put(segmentName(0), "a");
    expect(segmentsOf(directory)).toEqual([
      { file: segmentName(0), firstSeq: 0, bytes: 1 },
      { file: segmentName(12), firstSeq: 12, bytes: 2 },
    ]);
    expect(segmentsOf(join(directory, "none"))).toEqual([]);
  });

  test("are removed once they have a tombstone, never the newest", async () => {
    put(segmentName(0), "zero\n");
    put(segmentName(5), "five\n");
    expect(await codeOf(() => removeSegment(directory, 0))).toBe("log-broken");
    saveTombstone(directory, 0, Buffer.from("old\n"));
    saveTombstone(directory, 0, Buffer.from("grave\n"));
    saveTombstone(directory, 5, Buffer.from("grave\n"));
    expect(await codeOf(() => removeSegment(directory, 5))).toBe("log-broken");
    removeSegment(directory, 0);
    removeSegment(directory, 0);
    expect(await collect(readLog(directory))).toEqual([
      [TOMBSTONE, 0, "grave\n"],
      [segmentName(5), 0, "five\n"],
    ]);
    expect(fs.statSync(join(directory, TOMBSTONE)).mode & 0o777).toBe(0o600);
  });

  test("go aside together with the tombstones", () => {
    put(segmentName(5), "five\n");
    saveTombstone(directory, 0, Buffer.from("grave\n"));
    const aside = quarantine(directory, 0);
    expect(fs.readdirSync(join(directory, aside)).sort()).toEqual([segmentName(5), TOMBSTONE].sort());
    expect(segmentsOf(directory)).toEqual([]);
  });

  test("do not get a tombstone that is none", async () => {
    expect(await codeOf(() => saveTombstone(directory, 0, Buffer.alloc(200_000)))).toBe("log-unavailable");
    expect(fs.readdirSync(directory)).toEqual([]);
  });
});
