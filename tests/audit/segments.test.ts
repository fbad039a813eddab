import * as fs from "node:fs";
import { join } from "node:path";
import * as fc from "fast-check";
import { describe, expect, onTestFinished, test } from "vitest";
import { createSegment, readLog, segmentName } from "../../daemon/adapters/log-file.ts";
import { emptyFold, fold } from "../../daemon/audit/fold.ts";
import { emptyTail, openLog } from "../../daemon/audit/log.ts";
import type { Entry } from "../../daemon/audit/record.ts";
import { renderSnapshot, snapshotIn } from "../../daemon/audit/snapshot.ts";
import { verifyLog } from "../../daemon/audit/verify.ts";
import type { LogStore, Signer } from "../../daemon/ports.ts";
import {
  bytesOf,
  decision,
  fakeHead,
  fakeLog,
  fakeStore,
  forge,
  recordOf,
  tempDirectory,
  testClock,
  testSigner,
} from "./fixture.ts";
import { genesis, keys, linesIn, ORIGIN, put, vkey, type Written, writeSegments } from "./segmented.ts";

const verify = (directory: string, head?: string) => verifyLog(readLog(directory), { vkey, head });

describe("a log of three segments", () => {
  test("verifies with the genesis key alone, one key a segment, and each is taken up once", async () => {
    const written = await writeSegments();
    const verdict = await verify(written.directory, written.notes.at(-1));
    expect(verdict).toMatchObject({ verdict: "sound", bad: null });
    expect(verdict.keys.map((each) => [each.segment, each.vkey])).toEqual(
      keys.slice(0, 3).map((key, n) => [n, key.vkey]),
    );
    expect(written.files).toEqual(verdict.keys.map(({ firstSeq }) => segmentName(firstSeq)));
    expect(written.taken).toEqual([1, 2]);
    expect(verdict.state).toEqual(written.ended);
  });

  test("in one file it is the same log", async () => {
    const written = await writeSegments();
    const whole = bytesOf([0, 1, 2].flatMap((n) => linesIn(written, n)));
    const verdict = await verifyLog(one(whole), { vkey });
    expect(verdict).toMatchObject({ verdict: "sound" });
    expect(verdict.keys).toHaveLength(3);
  });

  test("every head along the way is contained in it, whichever key signed it", async () => {
    const written = await writeSegments();
    for (const note of written.notes)
      expect((await verify(written.directory, note)).verdict, note).toBe("sound");
  });

  test("a head that a later key signed for an earlier size is not the log's", async () => {
    const written = await writeSegments();
    const early = written.notes[1] ?? "";
    const forged = `${early.split("\n\n")[0]}\n\n${resigned(early, keys[2] as Signer)}`;
    expect((await verify(written.directory, forged)).bad?.code).toBe("head-mismatch");
  });

  test("appends that come while a segment ends are in the log once, in order", async () => {
    const temp = tempDirectory();
    onTestFinished(() => temp[Symbol.dispose]());
    let made = 0;
    const log = openLog({
      store: createSegment(temp.path, 0),
      head: fakeHead(),
      signer: genesis,
      clock: testClock(),
      tail: emptyTail(),
      origin: ORIGIN,
      successor: {
        key: () => keys[++made] as Signer,
        store: (firstSeq) => createSegment(temp.path, firstSeq),
        took: () => undefined,
      },
      onFailed: (cause) => {
        throw cause;
      },
    });
    const seqs: number[] = [];
    for (let turn = 0; turn < 3; turn++) {
      const rotation = log.rotate();
      for (let i = 0; i < 50; i++) {
        const { seq, durable } = log.append(decision(`${turn}.${i}`));
        seqs.push(seq);
        if (i % 7 === 0) await durable;
      }
      await rotation;
    }
    await log.close();
    const verdict = await verify(temp.path);
    expect(verdict).toMatchObject({ verdict: "sound" });
    expect(verdict.keys).toHaveLength(4);
    expect(seqs).toEqual(seqs.toSorted((a, b) => a - b));
    expect(new Set(seqs).size).toBe(150);
  });

  test("without a next key the log goes on under the present one, and says so to whoever asked", async () => {
    const temp = tempDirectory();
    onTestFinished(() => temp[Symbol.dispose]());
    let fails = true;
    const log = openLog({
      store: createSegment(temp.path, 0),
      head: fakeHead(),
      signer: genesis,
      clock: testClock(),
      tail: emptyTail(),
      origin: ORIGIN,
      successor: {
        key: () => {
          if (fails) throw new Error("no space");
          return keys[1] as Signer;
        },
        store: (firstSeq) => createSegment(temp.path, firstSeq),
        took: () => undefined,
      },
      onFailed: (cause) => {
        throw cause;
      },
    });
    await log.drain();
    await expect(log.rotate()).rejects.toThrow("no space");
    await log.append(decision("still here")).durable;
    fails = false;
    await log.rotate();
    await log.append(decision("and here")).durable;
    await log.close();
    const verdict = await verify(temp.path);
    expect(verdict).toMatchObject({ verdict: "sound" });
    expect(verdict.keys).toHaveLength(2);
  });
});

describe("what can be done to segments", () => {
  const attacks: readonly (readonly [name: string, code: string, tamper: (log: Written) => void])[] = [
    ["the first one removed", "start-missing", (log) => fs.rmSync(join(log.directory, log.files[0] ?? ""))],
    ["a middle one removed", "records-missing", (log) => fs.rmSync(join(log.directory, log.files[1] ?? ""))],
    [
      "one under another's name",
      "segment-misnamed",
      (log) => fs.renameSync(join(log.directory, log.files[2] ?? ""), join(log.directory, segmentName(999))),
    ],
    [
      "one that ends within a line, and another follows",
      "line-unfinished",
      (log) => fs.truncateSync(join(log.directory, log.files[0] ?? ""), bytesOf(linesIn(log, 0)).length - 5),
    ],
    [
      "cut behind its beginning, and the next one kept",
      "records-missing",
      (log) => put(log, 1, linesIn(log, 1).slice(0, 2)),
    ],
    [
      "written anew by somebody who took the key of the next one",
      "seal-key",
      (log) => rewrite(log, 1, keys[2] as Signer),
    ],
    ["written anew under an older key", "seal-key", (log) => rewrite(log, 2, keys[0] as Signer)],
    [
      "begun with a key that nobody certified",
      "segment-start",
      (log) => {
        const lines = linesIn(log, 1);
        put(log, 1, lines.with(0, (lines[0] ?? "").replaceAll(keys[1]?.vkey ?? "", keys[3]?.vkey ?? "")));
      },
    ],
    [
      "its snapshot says another mode, and all is sealed again with the right key",
      "snapshot-lies",
      (log) => {
        const lines = linesIn(log, 1);
        const changed = (lines[0] ?? "").replace('"wanted":""', '"wanted":"OPEN"');
        expect(changed).not.toBe(lines[0]);
        rewrite(log, 1, keys[1] as Signer, changed);
      },
    ],
    [
      "its snapshot says another tree, and all is sealed again with the right key",
      "snapshot-lies",
      (log) => {
        const lines = linesIn(log, 1);
        const changed = (lines[0] ?? "").replace(
          /"frontier":\["[0-9a-f]{64}"/,
          `"frontier":["${"0".repeat(64)}"`,
        );
        expect(changed).not.toBe(lines[0]);
        rewrite(log, 1, keys[1] as Signer, changed);
      },
    ],
  ];

  test.each(attacks)("%s → %s", async (_name, code, tamper) => {
    const written = await writeSegments();
    tamper(written);
    expect((await verify(written.directory)).bad?.code).toBe(code);
  });

  test("its end cut off, rotation and all, is a cut tail against a remembered head", async () => {
    const written = await writeSegments();
    fs.rmSync(join(written.directory, written.files[2] ?? ""));
    expect((await verify(written.directory)).verdict).toBe("sound");
    expect((await verify(written.directory, written.notes.at(-1))).bad?.code).toBe("tail-cut");
  });

  test("who has the present key cannot go back: nothing before its segment can be signed with it", async () => {
    const written = await writeSegments();
    const lines = [0, 1, 2].flatMap((n) => linesIn(written, n));
    const firsts = (await verify(written.directory)).keys.map(({ firstSeq }) => firstSeq);
    for (let at = 1; at < (firsts[2] ?? 0); at++) {
      const records = lines.map(recordOf);
      const record = records[at];
      if (!record || record.kind === "seal") continue;
      const forged = forge(records.with(at, { ...record, at: "2030-01-01T00:00:00.000Z" }), {
        from: at,
        signer: keys[2] as Signer,
      });
      const verdict = await verifyLog(one(bytesOf(forged)), { vkey });
      expect(verdict.verdict, `record ${at}`).toBe("broken");
      expect(verdict.trustworthyUpTo?.seq ?? -1, `record ${at}`).toBeLessThan(at);
    }
  });

  test("no byte of it can be changed unseen", async () => {
    const written = await writeSegments(2);
    const whole = bytesOf([0, 1].flatMap((n) => linesIn(written, n)));
    for (let at = 0; at < whole.length; at += 3) {
      const changed = Buffer.from(whole);
      changed[at] = (changed[at] ?? 0) ^ (1 << (at % 8));
      expect((await verifyLog(one(changed), { vkey })).verdict, `byte ${at}`).not.toBe("sound");
    }
  });
});

describe("what is torn", () => {
  const zeros = "\0".repeat(600);
  const start = (log: Written) => (linesIn(log, 2)[0] ?? "").slice(0, 40);
  const newFile = (log: Written, seq: number, text: string) =>
    fs.writeFileSync(join(log.directory, segmentName(seq)), text);
  const ends: readonly (readonly [name: string, verdict: string, harm: (log: Written) => void])[] = [
    ["a piece of the last segment's first line", "torn", (log) => putBytes(log, start(log))],
    ["zeros in place of the last segment", "torn", (log) => putBytes(log, zeros)],
    ["a line of zeros in place of the last segment", "torn", (log) => putBytes(log, `${zeros}\n`)],
    [
      "zeros that begin within a character",
      "torn",
      (log) => putBytes(log, lastSegment(log), [0xc3, 0, 0, 0x0a]),
    ],
    [
      "more behind a seal that zeros have made no UTF-8",
      "broken",
      (log) => putBytes(log, lastSegment(log), [0xc3, 0], '"kind":"seal","mono":"\n', "more\n"),
    ],
    [
      "a piece of a line in a file that is called otherwise",
      "broken",
      (log) => {
        const piece = start(log);
        fs.rmSync(join(log.directory, log.files[2] ?? ""));
        newFile(log, 999, piece);
      },
    ],
    [
      "zeros in a file that is called otherwise",
      "broken",
      (log) => {
        fs.rmSync(join(log.directory, log.files[2] ?? ""));
        newFile(log, 999, `${zeros}\n`);
      },
    ],
    ["a piece of a line in a file that was not due", "broken", (log) => newFile(log, sizeOf(log), "{")],
    ["zeros in a file that was not due", "broken", (log) => newFile(log, sizeOf(log), `${zeros}\n`)],
    [
      "zeros in a segment, and another follows",
      "broken",
      (log) => put(log, 1, [...linesIn(log, 1).slice(0, -1), zeros]),
    ],
    [
      "zeros in a segment, and the beginning of another follows",
      "broken",
      (log) => {
        put(log, 1, [...linesIn(log, 1).slice(0, -1), zeros]);
        put(log, 2, linesIn(log, 2).slice(0, 1));
      },
    ],
    [
      "zeros in the last segment, and a piece of a line in one more",
      "broken",
      (log) => {
        const size = sizeOf(log);
        putBytes(log, lastSegment(log), `${zeros}\n`);
        newFile(log, size, "{");
      },
    ],
    ["a file of no bytes behind all", "sound", (log) => newFile(log, 999, "")],
  ];
  test.each(ends)("%s: %s", async (_name, verdict, harm) => {
    const written = await writeSegments();
    harm(written);
    expect((await verify(written.directory)).verdict).toBe(verdict);
  });
});

const lastSegment = (log: Written) => bytesOf(linesIn(log, 2));
const sizeOf = (log: Written) => [0, 1, 2].reduce((sum, n) => sum + linesIn(log, n).length, 0);

/** What the last segment is to hold instead. */
function putBytes(log: Written, ...pieces: readonly (string | Uint8Array | readonly number[])[]): void {
  const bytes = pieces.map((piece) =>
    typeof piece === "string" ? Buffer.from(piece) : Uint8Array.from(piece),
  );
  fs.writeFileSync(join(log.directory, log.files[2] ?? ""), Buffer.concat(bytes));
}

test("a crash at any byte of it leaves a log to go on with, under the key that belongs", async () => {
  const written = await writeSegments(3);
  const parts = written.files.map((file, n) => ({ file, bytes: bytesOf(linesIn(written, n)) }));
  const total = parts.reduce((sum, each) => sum + each.bytes.length, 0);
  for (let end = 1; end <= total; end += 11) {
    const verdict = await verifyLog(upTo(parts, end), { vkey });
    expect(verdict.verdict, `byte ${end}`).toMatch(/^(sound|torn)$/);
    const proven = verdict.trustworthyUpTo;
    if (!proven) continue;
    const epochs = verdict.keys.filter((each) => each.firstSeq < proven.tail.size);
    expect(proven.key).toBe(epochs.at(-1)?.vkey);
    expect(proven.tail.segment.number).toBe((epochs.length || 1) - 1);
    const rest = verdict.unsealed.from;
    if (rest !== null && proven.tail.certified !== null) expect(rest.byte).toBe(0);
  }
});

async function* upTo(parts: readonly { file: string; bytes: Buffer }[], end: number) {
  let left = end;
  for (const { file, bytes } of parts) {
    if (left > 0) yield { file, bytes: bytes.subarray(0, left) };
    left -= bytes.length;
  }
}

const entries = fc.constantFrom<Entry>(
  { kind: "daemon.started", data: { wanted: "OPEN", epoch: 1 } },
  { kind: "tripwire.fired", data: { wanted: "LOCKDOWN", epoch: 2, tripwire: "usb" } },
  { kind: "tripwire.fired", data: { wanted: "nonsense", epoch: 2, tripwire: "usb" } },
  { kind: "clock.frozen", data: { wanted: "AIRGAP", epoch: 3, why: "a step" } },
  { kind: "baseline.set", data: { digest: "aa" } },
  { kind: "usb.state", data: {} },
  { kind: "usb.state", data: { boot: "b", known: [{ port: "1-2" }] } },
  { kind: "daemon.stopped", data: { wanted: "AIRGAP", epoch: 3, frozen: "a step" } },
  { kind: "decision", data: {} },
  { kind: "limit.state", data: { blocks: [{ name: "a" }], keys: [] } },
  { kind: "limit.state", data: { blocks: "none" } },
  { kind: "limit.state", data: {} },
  { kind: "limit.blocked", data: { name: "b" } },
  { kind: "approval.requested", data: { id: "q1", what: "first" } },
  { kind: "approval.requested", data: { id: "q1", what: "again" } },
  { kind: "approval.requested", data: { id: "q2" } },
  { kind: "approval.requested", data: { id: 3 } },
  { kind: "approval.approved", data: { by: "eve", id: "q1" } },
  { kind: "approval.denied", data: { id: "q2" } },
  { kind: "approval.expired", data: { id: "q1" } },
  { kind: "approval.used", data: { id: "q2" } },
  { kind: "hold.changed", data: { to: "shadow", lasts: "always" } },
  { kind: "hold.changed", data: { to: "enforcing", lasts: "always" } },
  { kind: "hold.changed", data: { to: "released", lasts: "boot" } },
);

describe("a snapshot", () => {
  const folds = fc.array(entries, { maxLength: 12 });

  test("gives back every fold that a log can come to", () => {
    fc.assert(
      fc.property(folds, (entries) => {
        const records = entries.map((entry, seq) => ({ ...base, ...entry, seq }));
        const state = records.reduce((before, record) => fold(before, record), emptyFold());
        const data = renderSnapshot({ fold: state, frontier: { size: 0, subtrees: [] } });
        const record = { ...base, seq: 0, kind: "log.snapshot", data };
        expect(snapshotIn(record)?.fold).toEqual(state);
      }),
    );
  });

  test("of a log without a change of the hold is what it was before there were holds", () => {
    const data = renderSnapshot({ fold: emptyFold(), frontier: { size: 0, subtrees: [] } });
    expect(Object.keys(data["fold"] as object).toSorted()).toEqual([
      "baselineDigest",
      "epoch",
      "firedByTripwire",
      "frozen",
      "lastAt",
      "lastBoot",
      "lastMono",
      "lastSeq",
      "started",
      "stop",
      "unreadable",
      "wanted",
    ]);
  });

  test("what is none is refused, never half taken", () => {
    const data = renderSnapshot({ fold: emptyFold(), frontier: { size: 0, subtrees: [] } });
    const bad = [
      {},
      { ...data, fold: "" },
      { ...data, frontier: "" },
      { ...data, frontier: ["00"] },
      ...Object.keys(emptyFold()).map((key) => ({
        ...data,
        fold: { ...(data["fold"] as object), [key]: ["no"] },
      })),
      { ...data, fold: { ...(data["fold"] as object), wanted: "ANYTHING" } },
      { ...data, fold: { ...(data["fold"] as object), stop: "maybe" } },
      { ...data, fold: { ...(data["fold"] as object), hold: "ajar" } },
      { ...data, fold: { ...(data["fold"] as object), hold: "enforcing" } },
      { ...data, fold: { ...(data["fold"] as object), releasedBoot: "" } },
      { ...data, fold: { ...(data["fold"] as object), more: "" } },
    ];
    for (const each of bad)
      expect(snapshotIn({ ...base, seq: 0, kind: "log.snapshot", data: each })).toBeNull();
  });
});

test("the state that a reader comes to is the live one, after any history, at every record", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.oneof(entries, fc.constantFrom("drain", "rotate")), { maxLength: 40 }),
      async (history) => {
        let made = 0;
        const live: string[] = [];
        const stores = [fakeStore()];
        const fake = fakeLog({
          store: stores[0] as LogStore,
          signer: genesis,
          origin: ORIGIN,
          successor: {
            key: () => keyed(++made),
            store: () => stores[stores.push(fakeStore()) - 1] as LogStore,
            took: () => undefined,
          },
        });
        for (const each of history) {
          if (each === "drain") await fake.log.drain();
          else if (each === "rotate") await fake.log.rotate();
          else live[fake.log.append(each).seq] = JSON.stringify(fake.log.fold());
        }
        await fake.log.drain();
        const read: string[] = [];
        const bytes = Buffer.concat(stores.flatMap((store) => store.chunks));
        const verdict = await verifyLog(one(bytes), {
          vkey,
          onRecord: (record, state) => {
            read[record.seq] = JSON.stringify(state);
          },
        });
        expect(verdict.verdict).toBe("sound");
        expect(verdict.state).toEqual(fake.log.fold());
        for (const [seq, state] of Object.entries(live)) expect(read[Number(seq)]).toBe(state);
      },
    ),
    { numRuns: 60 },
  );
});

const base = {
  v: 1,
  seq: 0,
  at: "2026-01-02T03:04:05.000Z",
  mono: "1",
  boot: "b",
  kind: "decision",
  data: {},
  prev: "0".repeat(64),
};

/** As somebody would who has a key: segment `n`, from its first line on (or another in its place), hashed and sealed anew. */
function rewrite(log: Written, n: number, signer: Signer, firstLine?: string): void {
  const before = Array.from({ length: n }, (_, each) => linesIn(log, each)).flat();
  const own = linesIn(log, n);
  const records = [...before, firstLine ?? own[0] ?? "", ...own.slice(1)].map(recordOf);
  const edited = records.map((record, at) =>
    at === before.length + 1 && record.kind !== "seal" ? { ...record, data: { text: "edited" } } : record,
  );
  put(log, n, forge(edited, { from: before.length, signer }).slice(before.length));
}

function resigned(note: string, signer: Signer): string {
  const text = `${note.split("\n\n")[0]}\n`;
  const id = Buffer.from(signer.vkey.split("+")[1] ?? "", "hex");
  const signature = Buffer.concat([id, signer.sign(Buffer.from(text))]).toString("base64");
  return `— ${ORIGIN} ${signature}\n`;
}

function keyed(n: number): Signer {
  return testSigner(`key ${n}`, ORIGIN);
}

async function* one(bytes: Buffer) {
  yield { file: "log", bytes };
}
