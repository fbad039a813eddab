import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { renderCertificate } from "../../daemon/audit/certificate.ts";
import { parseCheckpoint, parseNote, renderCheckpoint, signNote } from "../../daemon/audit/checkpoint.ts";
import { renderLine } from "../../daemon/audit/line.ts";
import { leafHash } from "../../daemon/audit/merkle.ts";
import { checkProof, type LogProof, parseProof, renderProof } from "../../daemon/audit/proof.ts";
import { createProver, type Made, type Wanted } from "../../daemon/audit/prove.ts";
import { FIRST_PREV } from "../../daemon/audit/record.ts";
import {
  checkTlogProof,
  parseTlogProof,
  renderTlogProof,
  type TlogProof,
} from "../../daemon/audit/tlog-proof.ts";
import { type RealLog, realLog } from "../support/real-log.ts";
import { chunksOf, ORIGIN, testSigner } from "./fixture.ts";

const LOG = await realLog([[1, 3, 2], [4], [2, 1]]);

async function made(log: RealLog, wanted: Wanted, genesis: string | null = null): Promise<Made> {
  const prover = createProver(wanted);
  for await (const chunk of chunksOf(log.files, 700)) prover.feed(chunk);
  return prover.finish(genesis);
}

async function proofOf(log: RealLog, wanted: Wanted): Promise<LogProof> {
  const result = await made(log, wanted);
  if (!result.ok) throw new Error(result.why);
  return result.proof;
}

/** What check-proof does with a file's text. */
function good(text: string, genesis: string): boolean {
  const proof = parseProof(text);
  return proof.ok && checkProof(proof.value, genesis).ok;
}

function heads(log: RealLog): readonly { size: number; root: string }[] {
  return log.notes.map((note) => {
    const parsed = parseNote(note);
    const checkpoint = parsed.ok ? parseCheckpoint(parsed.value.text) : parsed;
    if (!checkpoint.ok) throw new Error(checkpoint.why);
    return { size: checkpoint.value.size, root: checkpoint.value.root };
  });
}

/** A tree of one record, which the log's own key signed: what a log that lies could make. */
function liar(seq: number, origin = ORIGIN): LogProof {
  const time = { at: "2026-01-02T00:00:00.000Z", boot: "b", mono: "1" };
  const record = renderLine({ ...time, kind: "decision", prev: FIRST_PREV, seq }, '{"text":"\uFFFD"}');
  const root = leafHash(Buffer.from(record));
  const checkpoint = signNote(renderCheckpoint({ origin, size: 1, root }), testSigner());
  return { keys: [], checkpoint, claim: { kind: "record", record, index: 0, inclusion: [] } };
}

/** Logs of one to four segments, of one to three batches each. */
const shapes = fc.array(fc.array(fc.integer({ min: 1, max: 5 }), { minLength: 1, maxLength: 3 }), {
  minLength: 1,
  maxLength: 4,
});

describe("every proof made verifies, with the genesis key alone", () => {
  test("of every sealed record, in logs of any shape", async () => {
    await fc.assert(
      fc.asyncProperty(shapes, fc.nat(), async (shape, pick) => {
        const log = await realLog(shape);
        const seq = pick % (log.lines.length - 1); // the last seal is under no checkpoint
        const text = renderProof(await proofOf(log, { kind: "record", seq }));
        const parsed = parseProof(text);
        expect(parsed.ok && renderProof(parsed.value)).toBe(text);
        expect(parsed.ok && checkProof(parsed.value, log.vkey)).toMatchObject({
          ok: true,
          value: { record: { seq }, segment: shape.length - 1, vkey: log.vkeys.at(-1) },
        });
      }),
      { numRuns: 60 },
    );
  });

  test("of every older checkpoint, and of any older size", async () => {
    await fc.assert(
      fc.asyncProperty(shapes, fc.nat(), async (shape, pick) => {
        const log = await realLog(shape);
        const all = heads(log);
        const head = all[pick % all.length] ?? { size: 0, root: "" };
        const proof = await proofOf(log, { kind: "older", ...head });
        expect(proof.claim).toMatchObject({ from: head });
        expect(good(renderProof(proof), log.vkey)).toBe(true);
        const size = pick % log.lines.length;
        const other = await proofOf(log, { kind: "older", size, root: null });
        expect(good(renderProof(other), log.vkey)).toBe(true);
      }),
      { numRuns: 60 },
    );
  });
});

describe("no change of a proof verifies", () => {
  const kinds: readonly Wanted[] = [
    { kind: "record", seq: 3 },
    { kind: "older", size: 7, root: null },
    { kind: "older", size: 8, root: null },
    { kind: "older", size: 0, root: null },
  ];
  test.each(kinds)("every single byte of %o, each to another one", async (wanted) => {
    const bytes = Buffer.from(renderProof(await proofOf(LOG, wanted)));
    expect(good(bytes.toString(), LOG.vkey)).toBe(true);
    const survivors = [];
    for (let at = 0; at < bytes.length; at++) {
      const changed = Buffer.from(bytes);
      changed[at] = (bytes[at] ?? 0) ^ (1 << (at % 7));
      if (good(changed.toString("utf8"), LOG.vkey)) survivors.push(at);
    }
    expect(survivors).toEqual([]);
  });

  test("any byte to any byte, a byte less, a byte more", async () => {
    const bytes = Buffer.from(renderProof(await proofOf(LOG, { kind: "record", seq: 12 })));
    fc.assert(
      fc.property(fc.nat(bytes.length - 1), fc.integer({ min: 1, max: 255 }), (at, by) => {
        const changed = Buffer.from(bytes);
        changed[at] = (bytes[at] ?? 0) ^ by;
        expect(good(changed.toString("utf8"), LOG.vkey)).toBe(false);
        const [before, after] = [bytes.subarray(0, at), bytes.subarray(at)];
        expect(good(Buffer.concat([before, after.subarray(1)]).toString(), LOG.vkey)).toBe(false);
        expect(good(Buffer.concat([before, Buffer.of(by), after]).toString(), LOG.vkey)).toBe(false);
      }),
      { numRuns: 500 },
    );
  });

  test("another log's, another key's, and one whose certificates are left out, doubled or swapped", async () => {
    const other = await realLog([[1, 3, 2], [4], [2, 1]], { word: "another" });
    const proof = await proofOf(LOG, { kind: "record", seq: 3 });
    const [first, second] = proof.keys;
    expect(checkProof(proof, other.vkey).ok).toBe(false);
    expect(checkProof(proof, LOG.vkeys[1] ?? "").ok).toBe(false);
    for (const keys of [[], [first], [second], [second, first], [first, first, second]]) {
      const wrong = { ...proof, keys: keys.filter((each) => each !== undefined) };
      expect(checkProof(wrong, LOG.vkey).ok).toBe(false);
    }
  });

  test("a checkpoint that a new key signed of a tree before its own time", async () => {
    const { keys } = await proofOf(LOG, { kind: "record", seq: 0 });
    const [early] = heads(LOG);
    if (!early) throw new Error("no checkpoint");
    const text = renderCheckpoint({ origin: "boundary-daemon/test", ...early });
    const claim = { kind: "older", from: early, consistency: [] } as const;
    const proof = { keys, claim, checkpoint: signNote(text, testSigner("rotated 2")) };
    expect(checkProof(proof, LOG.vkey)).toEqual({
      ok: false,
      why: "the checkpoint is older than the key that signed it",
    });
    const byItsOwn = { keys: [], claim, checkpoint: signNote(text, testSigner("rotated 0")) };
    expect(checkProof(byItsOwn, LOG.vkey).ok).toBe(true);
  });

  test("a record that calls itself another number, and a checkpoint of another log by the same key", () => {
    const { vkey } = testSigner();
    expect(checkProof(liar(0), vkey).ok).toBe(true);
    expect(checkProof(liar(7), vkey)).toEqual({ ok: false, why: "its record has another number" });
    expect(checkProof(liar(0, "another/log"), vkey).ok).toBe(false);
  });

  test("whatever else is given to the reader: a refusal, no exception", () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.json(),
          fc.json().map((text) => `${text}\n`),
        ),
        (text) => {
          expect(good(text, LOG.vkey)).toBe(false);
          expect(parseTlogProof(text).ok).toBe(false);
        },
      ),
    );
  });
});

describe("what cannot be proven is said", () => {
  const rows: readonly (readonly [string, Wanted, string])[] = [
    ["a record that is not there", { kind: "record", seq: 99 }, "not there"],
    ["the last seal", { kind: "record", seq: LOG.lines.length - 1 }, "not sealed yet"],
    ["a tree larger than the log", { kind: "older", size: 99, root: null }, "sealed records, not 99"],
    ["another tree", { kind: "older", size: 4, root: "ab".repeat(32) }, "are others"],
  ];
  test.each(rows)("%s", async (_what, wanted, why) => {
    const result = await made(LOG, wanted);
    expect(result).toMatchObject({ ok: false, code: "proof-impossible" });
    expect(!result.ok && result.why).toContain(why);
  });

  test("an empty log, and one that was changed", async () => {
    const nothing = { ...LOG, files: {} };
    expect(await made(nothing, { kind: "record", seq: 0 })).toMatchObject({ code: "proof-impossible" });
    const [name = "", bytes = Buffer.alloc(0)] = Object.entries(LOG.files)[0] ?? [];
    const changed = {
      ...LOG,
      files: { ...LOG.files, [name]: Buffer.from(bytes.toString().replace('"n":1', '"n":9')) },
    };
    expect(await made(changed, { kind: "record", seq: 0 })).toMatchObject({ code: "log-broken" });
  });
});

describe("after pruning", () => {
  test("a proof is made from tombstones and what is left, and is the same", async () => {
    const whole = await proofOf(LOG, { kind: "record", seq: LOG.lines.length - 3 });
    const kept = Object.entries(LOG.files).slice(2);
    const prune = (wanted: Wanted) => {
      const prover = createProver(wanted);
      for (const [at, each] of whole.keys.entries()) {
        const file = (LOG.segments[at]?.name ?? "").replace("jsonl", "tombstone");
        for (const byte of Buffer.from(renderCertificate(each)))
          prover.feed({ file, bytes: Buffer.of(byte) });
      }
      for (const [file, bytes] of kept) prover.feed({ file, bytes });
      return prover;
    };
    const result = prune({ kind: "record", seq: LOG.lines.length - 3 }).finish(LOG.vkey);
    expect(result.ok && renderProof(result.proof)).toBe(renderProof(whole));
    const keyless = prune({ kind: "record", seq: LOG.lines.length - 3 }).finish(null);
    expect(keyless).toMatchObject({ ok: false, code: "proof-impossible" });
    for (const wanted of [
      { kind: "record", seq: 2 },
      { kind: "older", size: 5, root: null },
    ] as const) {
      const refused = prune(wanted).finish(LOG.vkey);
      expect(!refused.ok && refused.why).toContain("pruned");
    }
  });
});

describe("C2SP tlog-proof", () => {
  const vkey = LOG.vkeys.at(-1) ?? "";
  const text = async () => {
    const { claim, checkpoint } = await proofOf(LOG, { kind: "record", seq: 9 });
    if (claim.kind !== "record") throw new Error("not of a record");
    return renderTlogProof({ claim, checkpoint });
  };
  const passes = (proof: string) => {
    const parsed = parseTlogProof(proof);
    return parsed.ok && checkTlogProof(parsed.value, vkey).ok;
  };

  test("has the form of the specification, and reads back", async () => {
    const proof = await text();
    expect(proof).toMatch(
      /^c2sp\.org\/tlog-proof@v1\nextra [A-Za-z0-9+/=]+\nindex 9\n([A-Za-z0-9+/]{43}=\n)+\nboundary-daemon\/test\n/,
    );
    const parsed = parseTlogProof(proof);
    expect(parsed.ok && renderTlogProof(parsed.value)).toBe(proof);
    expect(parsed.ok && checkTlogProof(parsed.value, vkey)).toMatchObject({
      ok: true,
      value: { record: { seq: 9 } },
    });
    expect(parsed.ok && checkTlogProof(parsed.value, LOG.vkey).ok).toBe(false);
  });

  test("no single byte can be another one", async () => {
    const bytes = Buffer.from(await text());
    const survivors = [];
    for (let at = 0; at < bytes.length; at++) {
      const changed = Buffer.from(bytes);
      changed[at] = (bytes[at] ?? 0) ^ (1 << (at % 7));
      if (passes(changed.toString("utf8"))) survivors.push(at);
    }
    expect(survivors).toEqual([]);
  });

  test("a number with a leading zero, a short hash, no extra line: refused", async () => {
    const proof = await text();
    const lines = proof.split("\n");
    const wrong = [
      proof.replace("index 9", "index 09"),
      proof.replace("index 9", "index 9007199254740993"),
      lines.toSpliced(1, 1).join("\n"),
      lines.with(3, "AAAA").join("\n"),
      proof.replace("extra ", "extra  "),
    ];
    for (const each of wrong) expect(passes(each)).toBe(false);
    const empty: TlogProof = {
      checkpoint: LOG.notes.at(-1) ?? "",
      claim: { kind: "record", record: "", index: 0, inclusion: [] },
    };
    expect(passes(renderTlogProof(empty))).toBe(false);
  });
});

test("a tlog-proof whose record only looks like the one that was logged: not UTF-8, refused", () => {
  const { checkpoint, claim } = liar(0);
  if (claim.kind !== "record") throw new Error("not of a record");
  const proof = renderTlogProof({ checkpoint, claim });
  const [before, after] = claim.record.split("\uFFFD").map((part) => Buffer.from(part));
  const looksAlike = Buffer.concat([before ?? Buffer.of(), Buffer.of(0xff), after ?? Buffer.of()]);
  expect(looksAlike.toString("utf8")).toBe(claim.record);
  expect(parseTlogProof(proof).ok).toBe(true);
  expect(parseTlogProof(proof.replace(/extra .*/, `extra ${looksAlike.toString("base64")}`)).ok).toBe(false);
});

test("a certificate in a proof is the tombstone's three lines", async () => {
  const proof = await proofOf(LOG, { kind: "record", seq: 0 });
  const value = JSON.parse(renderProof(proof)) as { keys: readonly (readonly string[])[] };
  expect(value.keys.map((lines) => lines.map((line) => `${line}\n`).join(""))).toEqual(
    proof.keys.map(renderCertificate),
  );
});
