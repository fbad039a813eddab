import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { createFollower, type Position, START } from "../../../cli/ship/follow.ts";
import type { Bad } from "../../../daemon/audit/verdict.ts";
import { bytesOf, forge, recordOf, testSigner } from "../../audit/fixture.ts";
import { evenLog, type RealLog, textOf } from "../../support/real-log.ts";

const LOG = await evenLog({ segments: 3, batches: 3, perBatch: 4 });

type Out = { lines: string[]; notes: string[]; fault: Bad | null; after: Position };

/** Feeds files in chunks of some size. */
function follow(
  files: Readonly<Record<string, string>>,
  size = 1_000,
  start = START,
  cutAt: number | null = null,
  vkey = LOG.vkey,
): Out {
  const follower = createFollower(vkey, start.begin, cutAt);
  const out: Out = { lines: [], notes: [], fault: null, after: start };
  for (const [file, text] of Object.entries(files)) {
    const bytes = Buffer.from(text);
    const from = file === start.file ? start.byte : 0;
    for (let at = from; at < bytes.length && out.fault === null; at += size) {
      const { batches, fault } = follower.push({ file, bytes: bytes.subarray(at, at + size), at });
      for (const batch of batches) {
        out.lines.push(...batch.lines.map((line) => line.text));
        out.notes.push(batch.note);
        out.after = batch.after;
      }
      out.fault = fault;
    }
  }
  return { ...out, fault: out.fault ?? follower.fault() };
}

const filesOf = (log: RealLog): Record<string, string> =>
  Object.fromEntries(log.segments.map((segment) => [segment.name, textOf(segment.lines)]));
const whole = (lines: readonly string[]) => follow({ "all.jsonl": textOf(lines) });

describe("a good log", () => {
  test.each([1, 7, 100, 3_000, 1_000_000])(
    "comes out line by line, in chunks of %d bytes, over all key changes",
    (size) => {
      const out = follow(filesOf(LOG), size);
      expect(out.fault).toBeNull();
      expect(out.lines).toEqual(LOG.lines);
      expect(out.after.begin?.epoch).toMatchObject({ segment: 2, vkey: LOG.vkeys[2] });
    },
  );

  test("also from one file", () => {
    expect(whole(LOG.lines)).toMatchObject({ fault: null, lines: LOG.lines });
  });

  test("can be gone on with from every seal", () => {
    const seals = LOG.lines.flatMap((line, seq) => (line.includes('"kind":"seal"') ? [seq] : []));
    for (const seal of seals) {
      const first = follow(filesOf(LOG), 1_000_000, START, seal);
      expect(first.notes).toContain(LOG.notes[seals.indexOf(seal)]);
      // stopped there: as if the rest had come later
      const head = follow({ "all.jsonl": textOf(LOG.lines.slice(0, seal + 1)) });
      const rest = follow({ "all.jsonl": textOf(LOG.lines) }, 500, head.after);
      expect([...head.lines, ...rest.lines]).toEqual(LOG.lines);
      expect(rest.fault).toBeNull();
    }
  });

  test("what no seal covers stays here", () => {
    const lines = LOG.lines.slice(0, 5); // genesis, seal, two or three records
    expect(lines.at(-1)).not.toContain('"kind":"seal"');
    expect(whole(lines).lines).toEqual(lines.slice(0, 2));
    expect(whole(lines).fault).toBeNull();
  });
});

describe("a changed log: everything proven before it, nothing after", () => {
  const lines = LOG.lines;
  const edited = lines.map(recordOf).map((one) => (one.seq === 4 ? { ...one, data: { n: 99 } } : one));
  const rotated = lines.findIndex((line) => line.includes('"log.rotated"'));
  const rows: readonly [name: string, changed: readonly string[], most: number][] = [
    ["a byte", lines.with(9, (lines[9] ?? "").replace('"n":9', '"n":8')), 9],
    ["a record gone", lines.toSpliced(9, 1), 9],
    ["a record twice", lines.toSpliced(9, 0, lines[9] ?? ""), 10],
    ["no genesis", lines.slice(1), 0],
    ["all re-hashed, the seals as they were", forge(edited, { from: 3 }), 2],
    ["all re-signed by another", forge(edited, { from: 3, signer: testSigner() }), 2],
    ["the segment that a rotation announced is not there", lines.toSpliced(rotated + 2, 1), rotated + 2],
    ["something after the seal of a rotation", lines.toSpliced(rotated + 2, 0, lines[3] ?? ""), rotated + 2],
    ["not UTF-8 where a record belongs", lines.with(9, "\ufffd{"), 9],
  ];
  test.each(rows)("%s", (_name, changed, most) => {
    for (const size of [64, 100_000]) {
      const out = follow({ "all.jsonl": textOf(changed) }, size);
      expect(out.fault).not.toBeNull();
      expect(out.lines.length).toBeLessThanOrEqual(most);
      expect(out.lines).toEqual(lines.slice(0, out.lines.length));
    }
  });

  test("the old key goes on after its rotation", () => {
    // everything fits but who signs: the first segment's key, which was to be erased
    const changed = forge(lines.map(recordOf), { from: rotated + 2, signer: testSigner("rotated 0") });
    const out = whole(changed);
    expect(out.lines.length).toBeLessThanOrEqual(rotated + 2);
    expect(out.fault).toMatchObject({ code: "seal-key" });
  });

  test("another genesis key", () => {
    const out = follow(filesOf(LOG), 1_000, START, null, LOG.vkeys[1]);
    expect(out).toMatchObject({ lines: [], fault: { code: "wrong-key" } });
  });

  test("a segment under a false name, and one without a rotation before it", () => {
    const text = textOf(lines);
    expect(follow({ "00000000000000000007.jsonl": text }).fault).toMatchObject({ code: "segment-misnamed" });
    const cut = { a: textOf(lines.slice(0, 7)), "00000000000000000007.jsonl": textOf(lines.slice(7)) };
    expect(follow(cut).fault).toMatchObject({ code: "segment-start" });
    // also when we had gone on from right before it
    const before = follow({ "00000000000000000000.jsonl": textOf(lines.slice(0, 7)) });
    expect(follow({ "00000000000000000007.jsonl": textOf(lines.slice(7)) }, 500, before.after)).toMatchObject(
      {
        lines: [],
        fault: { code: "segment-start" },
      },
    );
  });

  test("a flipped byte anywhere is never handed over", () => {
    const bytes = Buffer.from(textOf(lines));
    const good = new Set(lines);
    fc.assert(
      fc.property(fc.nat({ max: bytes.length - 1 }), fc.integer({ min: 1, max: 255 }), (at, flip) => {
        const changed = Buffer.from(bytes);
        changed[at] = (changed[at] ?? 0) ^ flip;
        const follower = createFollower(LOG.vkey, null);
        const { batches } = follower.push({ file: "f", bytes: changed });
        const out = batches.flatMap((batch) => batch.lines.map((line) => line.text));
        expect(out.every((line) => good.has(line))).toBe(true);
        expect(out.length).toBeLessThan(lines.length);
      }),
      { numRuns: 300 },
    );
  });
});

describe("a snapshot that lies", () => {
  test("is the end of what is handed over, though its key signed it", () => {
    const at = LOG.lines.findIndex((line) => line.includes('"kind":"log.segment"'));
    const records = LOG.lines.map(recordOf).map((one) => {
      const snapshot = one.data["snapshot"] as { fold: object } | undefined;
      if (one.seq !== at || snapshot === undefined) return one;
      return {
        ...one,
        data: { ...one.data, snapshot: { ...snapshot, fold: { ...snapshot.fold, epoch: 7 } } },
      };
    });
    const out = whole(forge(records, { from: at, signer: testSigner("rotated 1") }));
    expect(out.fault).toMatchObject({ code: "snapshot-lies", seq: at });
    expect(out.lines).toEqual(LOG.lines.slice(0, at));
  });
});

describe("a line that does not follow", () => {
  test("is a fault where nothing comes after it that could tell why", () => {
    const seal = LOG.lines.findLastIndex((line, at) => at < 30 && line.includes('"kind":"seal"'));
    const odd = (LOG.lines[seal + 1] ?? "").replace(/"seq":\d+/, '"seq":99');
    const out = whole([...LOG.lines.slice(0, seal + 1), odd]);
    expect(out.lines).toEqual(LOG.lines.slice(0, seal + 1));
    expect(out.fault).toMatchObject({ code: "records-missing" });
  });
});

describe("tombstones", () => {
  const [one, two, kept] = LOG.segments;
  const names = [one, two].map((segment) => (segment?.name ?? "").replace("jsonl", "tombstone"));
  const [nameOne = "", nameTwo = ""] = names;
  const last = { [kept?.name ?? ""]: textOf(kept?.lines ?? []) };

  test("lead to the first segment that is kept", () => {
    const files = { [nameOne]: one?.tombstone ?? "", [nameTwo]: two?.tombstone ?? "", ...last };
    for (const size of [3, 700])
      expect(follow(files, size)).toMatchObject({ fault: null, lines: kept?.lines });
  });

  test.each([
    ["one that is missing", { [nameTwo]: two?.tombstone ?? "" }, "tombstone-bad"],
    ["another's in its place", { [nameOne]: two?.tombstone ?? "" }, "tombstone-bad"],
    ["the last one missing", { [nameOne]: one?.tombstone ?? "" }, "start-missing"],
  ])("%s: nothing is handed over", (_name, files, code) => {
    expect(follow({ ...files, ...last })).toMatchObject({ lines: [], fault: { code } });
  });

  test("with any byte changed nothing is handed over", () => {
    const bytes = bytesOf((one?.tombstone ?? "").split("\n").slice(0, -1));
    fc.assert(
      fc.property(fc.nat({ max: bytes.length - 1 }), fc.integer({ min: 1, max: 127 }), (at, flip) => {
        const changed = Buffer.from(bytes);
        changed[at] = (changed[at] ?? 0) ^ flip;
        const follower = createFollower(LOG.vkey, null);
        follower.push({ file: nameOne, bytes: changed });
        const { batches } = follower.push({ file: two?.name ?? "", bytes: bytesOf(two?.lines ?? []) });
        expect(batches).toEqual([]);
      }),
    );
  });
});
