import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { renderCheckpoint, signNote } from "../../daemon/audit/checkpoint.ts";
import { createComparison, createSections, sectionOf } from "../../daemon/audit/compare.ts";
import type { Data, LogRecord } from "../../daemon/audit/record.ts";
import {
  checkpointIn,
  createSpans,
  MAX_RUNS,
  renderSpan,
  type Span,
  spanIn,
} from "../../daemon/audit/spans.ts";
import { ORIGIN, testSigner } from "./fixture.ts";

const rootAt = (size: number) => size.toString(16).padStart(64, "0");
const noteAt = (size: number) =>
  signNote(renderCheckpoint({ origin: ORIGIN, size, root: rootAt(size) }), testSigner());

function record(seq: number, kind: string, data: Data = {}): LogRecord {
  const own = kind === "seal" ? { note: noteAt(seq) } : data;
  return {
    v: 1,
    seq,
    at: "2026-01-02T03:04:05.000Z",
    mono: "1",
    boot: "b",
    kind,
    data: own,
    prev: "a".repeat(64),
  };
}

const recordsOf = (kinds: readonly string[], from = 0) => kinds.map((kind, at) => record(from + at, kind));

/** Batches of a core log: kinds, and a seal at the end of each. */
const batches = fc
  .array(
    fc.array(fc.constantFrom("decision", "mode.changed", "log.alive", "gap"), { minLength: 1, maxLength: 9 }),
    {
      minLength: 1,
      maxLength: 40,
    },
  )
  .map((all) => all.map((kinds) => [...kinds, "seal"]));

/** How many batches come between two heartbeats. */
const cuts = fc.array(fc.integer({ min: 1, max: 6 }), { minLength: 1, maxLength: 40 });

function spansOf(all: readonly (readonly string[])[], every: readonly number[], from = 0): readonly Span[] {
  const spans = createSpans();
  const out: Span[] = [];
  let seq = from;
  let left = every[0] ?? 1;
  all.forEach((kinds, at) => {
    for (const kind of kinds) spans.take(record(seq++, kind));
    if (--left > 0) return;
    out.push(...spans.drain());
    left = every[at % every.length] ?? 1;
  });
  return [...out, ...spans.drain()];
}

describe("spans", () => {
  test("cover every number once, with its kind, in any batching", () => {
    fc.assert(
      fc.property(batches, cuts, fc.integer({ min: 0, max: 1_000_000 }), (all, every, from) => {
        const kinds = all.flat();
        const told = spansOf(all, every, from).flatMap(({ runs }) =>
          runs.flatMap(([kind, first, last]) =>
            Array.from({ length: last - first + 1 }, (_, at) => [first + at, kind] as const),
          ),
        );
        expect(told).toEqual(kinds.map((kind, at) => [from + at, kind]));
      }),
    );
  });

  test("have the runs as long as they can be, and the checkpoint of the seal that ends them", () => {
    fc.assert(
      fc.property(batches, cuts, (all, every) => {
        for (const { last, runs, size, root } of spansOf(all, every)) {
          for (const [at, [kind]] of runs.slice(1).entries()) expect(kind).not.toBe(runs[at]?.[0]);
          expect({ size, root }).toEqual({ size: last, root: rootAt(last) });
        }
      }),
    );
  });

  test("a flood of one kind is one run", () => {
    const [span] = spansOf([[...Array.from({ length: 5_000 }, () => "decision"), "seal"]], [1]);
    expect(span?.runs).toEqual([
      ["decision", 0, 4_999],
      ["seal", 5_000, 5_000],
    ]);
  });

  test("too many runs are several spans under one checkpoint, each of which fits into a frame", () => {
    const kind = "k".repeat(64);
    const kinds = Array.from({ length: MAX_RUNS }, (_, at) => `${kind.slice(1)}${at % 2}`);
    const [one, two, ...more] = spansOf([[...kinds, "seal"]], [1], 9_007_199_254_740_000);
    expect(more).toEqual([]);
    expect([one?.size, two?.size]).toEqual([two?.last, two?.last]);
    const line = JSON.stringify(JSON.stringify(renderSpan(one as Span)));
    expect(line.length).toBeLessThan(60 * 1024 - 1_024);
  });

  test("what no seal covers is not told, and kept", () => {
    const spans = createSpans();
    for (const each of recordsOf(["decision", "seal", "decision"])) spans.take(each);
    expect(spans.drain().map(({ first, last }) => [first, last])).toEqual([[0, 1]]);
    expect(spans.drain()).toEqual([]);
    spans.take(record(3, "seal"));
    expect(spans.drain().map(({ first, last }) => [first, last])).toEqual([[2, 3]]);
  });

  test("a hole begins anew: nothing is told that was not seen", () => {
    const spans = createSpans();
    for (const each of recordsOf(["decision", "seal"])) spans.take(each);
    for (const each of recordsOf(["decision", "seal"], 10)) spans.take(each);
    expect(spans.drain().map(({ first, last }) => [first, last])).toEqual([[10, 11]]);
  });

  test("hold nothing of a record's data", () => {
    const spans = createSpans();
    spans.take(record(0, "decision", { secret: "marker" }));
    spans.take(record(1, "seal"));
    expect(JSON.stringify(spans.drain())).not.toContain("marker");
  });

  test("a seal without a checkpoint is refused", () => {
    const spans = createSpans();
    spans.take({ ...record(0, "seal"), data: { note: "no note" } });
    expect(() => spans.drain()).toThrow(TypeError);
  });
});

describe("spanIn", () => {
  test("reads what renderSpan wrote, and what it reads has no hole", () => {
    fc.assert(
      fc.property(batches, cuts, (all, every) => {
        for (const span of spansOf(all, every))
          expect(spanIn({ kind: "audit.span", data: renderSpan(span) })).toEqual(span);
      }),
    );
  });

  test("never throws, and never gives runs that do not fit together", () => {
    const value = fc.oneof(fc.string(), fc.integer(), fc.array(fc.array(fc.oneof(fc.string(), fc.nat(20)))));
    fc.assert(
      fc.property(fc.dictionary(fc.constantFrom("first", "last", "runs", "size", "root"), value), (data) => {
        const span = spanIn({ kind: "audit.span", data });
        let next = span?.first ?? 0;
        for (const [, first, last] of span?.runs ?? []) {
          expect(first).toBe(next);
          next = last + 1;
        }
        if (span) expect(next).toBe(span.last + 1);
      }),
    );
  });

  test.each([
    [
      "a hole",
      [
        ["a", 0, 1],
        ["b", 3, 4],
      ],
    ],
    [
      "an overlap",
      [
        ["a", 0, 2],
        ["b", 2, 4],
      ],
    ],
    ["an end that is not its own", [["a", 0, 3]]],
    [
      "a run that goes back",
      [
        ["a", 0, -1],
        ["b", 0, 4],
      ],
    ],
    ["none", []],
  ])("refuses %s", (_name, runs) => {
    const data = { first: 0, last: 4, runs, size: 4, root: rootAt(4) } as unknown as Data;
    expect(spanIn({ kind: "audit.span", data })).toBeNull();
  });
});

describe("a comparison", () => {
  const CORE: LogRecord = {
    ...record(1, "audit.core"),
    data: { key: "the key", from: 0, began: "a".repeat(64) },
  };

  function compared(core: readonly LogRecord[], spans: readonly Span[]) {
    const found = createSections();
    found.take(CORE);
    for (const [at, span] of spans.entries())
      found.take({ ...record(at + 2, "audit.span"), data: renderSpan(span) });
    const section = sectionOf(found.sections(), { key: "the key", began: "a".repeat(64) });
    if (!section) throw new Error("no section");
    const comparing = createComparison(section);
    for (const each of core) comparing.take(each);
    const result = comparing.end();
    return { ...result, difference: found.fault() ?? result.difference };
  }

  test("of a log and its own spans finds nothing", () => {
    fc.assert(
      fc.property(batches, cuts, (all, every) => {
        const kinds = all.flat();
        const result = compared(recordsOf(kinds), spansOf(all, every));
        expect(result).toEqual({ compared: kinds.length, pruned: 0, ahead: 0, difference: null });
      }),
    );
  });

  test("finds one kind that is another, at its number", () => {
    fc.assert(
      fc.property(batches, cuts, fc.nat(), (all, every, pick) => {
        const kinds = all.flat();
        const plain = kinds.flatMap((kind, at) => (kind === "seal" ? [] : [at]));
        const at = plain[pick % plain.length] as number;
        const core = recordsOf(kinds).map((each) => (each.seq === at ? { ...each, kind: "other" } : each));
        expect(compared(core, spansOf(all, every)).difference?.core).toBe(at);
      }),
    );
  });

  test("finds a span that is left out, and one that comes twice", () => {
    const all = [
      ["decision", "seal"],
      ["gap", "seal"],
      ["decision", "seal"],
    ];
    const spans = spansOf(all, [1]);
    const core = recordsOf(all.flat());
    expect(compared(core, [spans[0] as Span, spans[2] as Span]).difference).toMatchObject({
      core: 2,
      stream: 3,
    });
    expect(compared(core, [...spans.slice(0, 2), spans[1] as Span]).difference).toMatchObject({ stream: 4 });
  });

  test("finds another root, and a checkpoint where there is no seal", () => {
    const all = [
      ["decision", "seal"],
      ["gap", "seal"],
    ];
    const [one, two] = spansOf(all, [1]) as [Span, Span];
    const core = recordsOf(all.flat());
    expect(compared(core, [one, { ...two, root: rootAt(99) }]).difference).toMatchObject({
      core: 3,
      stream: 3,
    });
    expect(compared(core, [{ ...one, size: 2 }, two]).difference).toMatchObject({ core: 2, stream: 2 });
  });

  test("finds that the log ends before what the stream covers; the other way round is no difference", () => {
    const all = [
      ["decision", "seal"],
      ["gap", "seal"],
    ];
    const spans = spansOf(all, [1]);
    const core = recordsOf(all.flat());
    expect(compared(core.slice(0, 2), spans).difference).toMatchObject({ core: 2, stream: 3 });
    expect(compared(core, spans.slice(0, 1))).toMatchObject({ difference: null, compared: 2, ahead: 2 });
  });

  test("says how much was pruned", () => {
    const all = [
      ["decision", "seal"],
      ["gap", "seal"],
    ];
    const result = compared(recordsOf(all.flat()).slice(2), spansOf(all, [1]));
    expect(result).toEqual({ compared: 2, pruned: 2, ahead: 0, difference: null });
  });

  test("takes the section of the log's own record 0, where two logs have one key", () => {
    const found = createSections();
    for (const began of ["1", "2", "3"])
      found.take({ ...CORE, data: { key: "the key", from: 0, began: began.repeat(64) } });
    const began = (which: string | null) =>
      sectionOf(found.sections(), { key: "the key", began: which })?.core.began;
    expect(began("2".repeat(64))).toBe("2".repeat(64));
    expect(began(null)).toBe("3".repeat(64));
    expect(began("4".repeat(64))).toBeUndefined();
    expect(sectionOf(found.sections(), { key: "another", began: null })).toBeNull();
  });
});

test("checkpointIn gives null for what is no note", () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.integer(), fc.constant(undefined)), (note) => {
      expect(checkpointIn(note)).toBeNull();
    }),
  );
  expect(checkpointIn(noteAt(7))).toEqual({ size: 7, root: rootAt(7) });
});
