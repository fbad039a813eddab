import { appendFileSync, truncateSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { createSegment, segmentsOf } from "../../daemon/adapters/log-file.ts";
import { lastLine, readLines } from "../../daemon/adapters/log-lines.ts";
import { emptyTail, openLog } from "../../daemon/audit/log.ts";
import {
  codeOf,
  fakeHead,
  nameOf,
  recordOf,
  tempDirectory,
  testClock,
  testSigner,
} from "../audit/fixture.ts";

/** A log of several segments, with records from a few bytes to 60,000. */
async function log(directory: string): Promise<readonly string[]> {
  const keys = ["one", "two", "three"].map((word) => testSigner(word, "boundary-daemon/test"));
  let at = 0;
  const signer = keys[0] as (typeof keys)[number];
  const written = openLog({
    store: createSegment(directory, 0),
    head: fakeHead(),
    signer,
    clock: testClock(),
    tail: emptyTail(),
    origin: nameOf(signer),
    successor: {
      key: () => keys[++at] as (typeof keys)[number],
      store: (firstSeq) => createSegment(directory, firstSeq),
      took: () => undefined,
    },
    onFailed: (cause) => {
      throw cause;
    },
  });
  for (let n = 0; n < 90; n++) {
    const text = n % 7 === 0 ? "x".repeat(60_000) : `${n}`;
    await written.append({ kind: "decision", data: { text } }).durable;
    if (n % 30 === 29 && n < 80) await written.rotate();
  }
  await written.close();
  const all = readLines(directory, segmentsOf(directory), everything);
  return all;
}

const everything = { from: 0, through: 1_000_000, maxLines: 1_000_000, maxBytes: 1_000_000_000 };

describe("lines of a log", () => {
  test("are those that stand there, from any number on, over segments, within any limits", async () => {
    using dir = tempDirectory();
    const all = await log(dir.path);
    const segments = segmentsOf(dir.path);
    expect(segments.length).toBe(3);
    expect(all.map((line) => recordOf(line).seq)).toEqual(all.map((_, at) => at));
    for (let from = 0; from <= all.length + 1; from += 1) {
      const got = readLines(dir.path, segments, {
        from,
        through: all.length,
        maxLines: 5,
        maxBytes: 1_000_000,
      });
      expect(got).toEqual(all.slice(from, from + 5));
    }
  });

  test("stop at the last durable one, and at so many bytes; one is given in any case", async () => {
    using dir = tempDirectory();
    const all = await log(dir.path);
    const segments = segmentsOf(dir.path);
    const read = (order: Partial<typeof everything>) =>
      readLines(dir.path, segments, { ...everything, ...order });
    expect(read({ from: 3, through: 5 })).toEqual(all.slice(3, 6));
    expect(read({ from: 6, through: 5 })).toEqual([]);
    for (const maxBytes of [1, 500, 5_000, 70_000]) {
      const got = read({ from: 2, maxBytes });
      const bytes = got.reduce((sum, line) => sum + JSON.stringify(line).length + 1, 0);
      expect(got.length === 1 || bytes <= maxBytes).toBe(true);
      expect(got).toEqual(all.slice(2, 2 + got.length));
      const [next] = all.slice(2 + got.length);
      expect(bytes + JSON.stringify(next).length + 1).toBeGreaterThan(maxBytes);
    }
  });

  test("before the first that is kept there are none", async () => {
    using dir = tempDirectory();
    await log(dir.path);
    expect(readLines(dir.path, segmentsOf(dir.path).slice(1), everything)).toEqual([]);
  });

  test("the last of a sort is found from the end, in whatever segment it is; a piece of a line is none", async () => {
    using dir = tempDirectory();
    const all = await log(dir.path);
    const segments = segmentsOf(dir.path);
    const file = join(dir.path, segments.at(-1)?.file ?? "");
    appendFileSync(file, "x".repeat(200));
    for (const wanted of [0, 1, 29, 62, 90, all.length - 1]) {
      const found = lastLine(dir.path, segments, (line) => line.endsWith(`,"seq":${wanted},"v":1}`));
      expect(found).toBe(all[wanted]);
    }
    expect(lastLine(dir.path, segments, () => false)).toBeNull();
    truncateSync(file, 10);
    expect(lastLine(dir.path, segments, () => true)).toBe(all[firstOf(segments) - 1]);
  });

  test("what is no log is said to be none, and ends", async () => {
    using dir = tempDirectory();
    const file = "00000000000000000000.jsonl";
    appendFileSync(join(dir.path, file), `${"y".repeat(300_000)}\nabc\n${"z".repeat(300_000)}`);
    const segments = [{ file, firstSeq: 0 }];
    expect(await codeOf(() => readLines(dir.path, segments, { ...everything, from: 7 }))).toBe("log-broken");
    expect(await codeOf(() => lastLine(dir.path, segments, () => false))).toBe("log-broken");
  });
});

function firstOf(segments: readonly { readonly firstSeq: number }[]): number {
  return segments.at(-1)?.firstSeq ?? 0;
}
