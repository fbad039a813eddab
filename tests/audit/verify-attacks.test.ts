import * as fs from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { readLog, segmentName } from "../../daemon/adapters/log-file.ts";
import type { Entry } from "../../daemon/audit/record.ts";
import type { BadCode, Verdict } from "../../daemon/audit/verdict.ts";
import { verifyLog } from "../../daemon/audit/verify.ts";
import {
  bytesOf,
  decision,
  forge,
  linesOf,
  recordOf,
  tempDirectory,
  testSigner,
  writeLog,
} from "./fixture.ts";

/**
 * Every way to change a segment, on files written by the real appender. The log: genesis and its seal (0, 1), then three
 * decisions and a seal, four times (2-5, 6-9, 10-13, 14-17). segments.test.ts has what can be done to several.
 */
const FILE = segmentName(0);
const signer = testSigner();
const thief = testSigner("the thief's key");
const entries: readonly (readonly Entry[])[] = [0, 1, 2, 3].map((batch) =>
  [0, 1, 2].map((each) => decision(`${batch}.${each}`)),
);

let lines: string[] = [];
let othersLines: string[] = [];
let note = "";
const directories: ReturnType<typeof tempDirectory>[] = [];

function fresh(): string {
  const directory = tempDirectory();
  directories.push(directory);
  return directory.path;
}

beforeAll(async () => {
  const directory = fresh();
  note = await writeLog(directory, entries);
  lines = linesOf(directory);
  const others = fresh();
  await writeLog(others, entries, thief);
  othersLines = linesOf(others);
});

afterAll(() => {
  for (const directory of directories) directory[Symbol.dispose]();
});

const swap = (list: readonly string[], a: number, b: number) =>
  list.with(a, list[b] ?? "").with(b, list[a] ?? "");
const edit = (line: string) => line.replace("recall", "recoll");
const records = () => lines.map(recordOf);
const edited = (seq: number) => records().with(seq, recordOf(edit(lines[seq] ?? "")));
const prevOf = (line: string, prev: string) => line.replace(/"prev":"[0-9a-f]{64}"/, `"prev":"${prev}"`);

type Attack = {
  readonly name: string;
  readonly tamper: () => readonly string[];
  readonly code: BadCode;
  /** The first bad record: its number, and which line of the tampered log it stands in. */
  readonly seq: number;
  readonly line: number;
  /** The last record that is still proven. */
  readonly proven: number;
  readonly head?: "remembered";
};

const attacks: readonly Attack[] = [
  // one byte
  {
    name: "a byte of a record edited",
    tamper: () => lines.with(7, edit(lines[7] ?? "")),
    code: "record-edited",
    seq: 7,
    line: 7,
    proven: 5,
  },
  {
    name: "a byte of the last record before a seal edited",
    tamper: () => lines.with(8, edit(lines[8] ?? "")),
    code: "record-edited",
    seq: 8,
    line: 8,
    proven: 5,
  },
  {
    name: "a byte of the last record of the log edited",
    tamper: () => lines.with(16, edit(lines[16] ?? "")),
    code: "record-edited",
    seq: 16,
    line: 16,
    proven: 13,
  },
  {
    name: "a record's chaining hash edited",
    tamper: () => lines.with(7, prevOf(lines[7] ?? "", "0".repeat(64))),
    code: "record-edited",
    seq: 7,
    line: 7,
    proven: 5,
  },
  {
    name: "the last seal's chaining hash edited",
    tamper: () => lines.with(17, prevOf(lines[17] ?? "", "0".repeat(64))),
    code: "record-edited",
    seq: 17,
    line: 17,
    proven: 13,
  },
  {
    name: "the time of the last seal edited",
    tamper: () => lines.with(17, (lines[17] ?? "").replace("2026-", "2027-")),
    code: "seal-form",
    seq: 17,
    line: 17,
    proven: 13,
  },
  {
    name: "a space added to the last seal",
    tamper: () => lines.with(17, (lines[17] ?? "").replace('{"at":', '{"at": ')),
    code: "record-shape",
    seq: 17,
    line: 17,
    proven: 13,
  },
  {
    name: "a byte made a control character",
    tamper: () => lines.with(7, edit(lines[7] ?? "").replace("recoll", "rec\u0000ll")),
    code: "json-invalid",
    seq: 7,
    line: 7,
    proven: 5,
  },
  {
    name: "a key given twice",
    tamper: () => lines.with(7, (lines[7] ?? "").replace('"v":1', '"v":1,"v":1')),
    code: "json-duplicate-key",
    seq: 7,
    line: 7,
    proven: 5,
  },
  {
    name: "a field added",
    tamper: () => lines.with(7, (lines[7] ?? "").replace('"v":1', '"v":1,"w":1')),
    code: "record-shape",
    seq: 7,
    line: 7,
    proven: 5,
  },
  {
    name: "a line of brackets",
    tamper: () => lines.with(7, "[".repeat(1000)),
    code: "json-too-deep",
    seq: 7,
    line: 7,
    proven: 5,
  },
  {
    name: "a line that is too long",
    tamper: () => lines.with(7, "x".repeat(70_000)),
    code: "line-too-long",
    seq: 7,
    line: 7,
    proven: 5,
  },
  // hashed anew
  {
    name: "a record edited and all hashes made to fit",
    tamper: () => forge(edited(7), { from: 8 }),
    code: "records-rewritten",
    seq: 6,
    line: 6,
    proven: 5,
  },
  {
    name: "a record deleted, the rest renumbered and rehashed",
    tamper: () => forge(records().toSpliced(7, 1), { from: 7 }),
    code: "records-rewritten",
    seq: 6,
    line: 6,
    proven: 5,
  },
  {
    name: "a record inserted, the rest renumbered and rehashed",
    tamper: () => forge(records().toSpliced(7, 0, recordOf(lines[7] ?? "")), { from: 7 }),
    code: "records-rewritten",
    seq: 6,
    line: 6,
    proven: 5,
  },
  // deleted, inserted, moved, repeated
  {
    name: "a record deleted",
    tamper: () => lines.toSpliced(7, 1),
    code: "records-missing",
    seq: 7,
    line: 7,
    proven: 5,
  },
  {
    name: "a whole batch deleted",
    tamper: () => lines.toSpliced(6, 4),
    code: "records-missing",
    seq: 6,
    line: 6,
    proven: 5,
  },
  {
    name: "a seal deleted",
    tamper: () => lines.toSpliced(9, 1),
    code: "records-missing",
    seq: 9,
    line: 9,
    proven: 5,
  },
  {
    name: "the genesis deleted",
    tamper: () => lines.slice(1),
    code: "start-missing",
    seq: 0,
    line: 0,
    proven: -1,
  },
  {
    name: "the genesis replaced and all made to fit",
    tamper: () => forge(records().with(0, recordOf(lines[2] ?? "")), { from: 0 }),
    code: "genesis-missing",
    seq: 0,
    line: 0,
    proven: -1,
  },
  {
    name: "the first batches removed",
    tamper: () => lines.slice(10),
    code: "start-missing",
    seq: 0,
    line: 0,
    proven: -1,
  },
  {
    name: "a record inserted under a number in use",
    tamper: () => lines.toSpliced(7, 0, edit(lines[7] ?? "")),
    code: "record-inserted",
    seq: 7,
    line: 7,
    proven: 5,
  },
  {
    name: "a record inserted behind the one with its number",
    tamper: () => lines.toSpliced(8, 0, edit(lines[7] ?? "")),
    code: "record-inserted",
    seq: 7,
    line: 8,
    proven: 5,
  },
  {
    name: "an unchained record inserted",
    tamper: () => lines.toSpliced(7, 0, prevOf(edit(lines[7] ?? ""), "1".repeat(64))),
    code: "record-inserted",
    seq: 7,
    line: 7,
    proven: 5,
  },
  {
    name: "an older record inserted again",
    tamper: () => lines.toSpliced(12, 0, lines[3] ?? ""),
    code: "record-inserted",
    seq: 3,
    line: 12,
    proven: 9,
  },
  {
    name: "two neighbours swapped",
    tamper: () => swap(lines, 7, 8),
    code: "records-reordered",
    seq: 8,
    line: 7,
    proven: 5,
  },
  {
    name: "two records far apart swapped",
    tamper: () => swap(lines, 3, 15),
    code: "records-reordered",
    seq: 15,
    line: 3,
    proven: 1,
  },
  {
    name: "a record twice",
    tamper: () => lines.toSpliced(8, 0, lines[7] ?? ""),
    code: "record-duplicated",
    seq: 7,
    line: 8,
    proven: 5,
  },
  {
    name: "a seal twice",
    tamper: () => lines.toSpliced(10, 0, lines[9] ?? ""),
    code: "record-duplicated",
    seq: 9,
    line: 10,
    proven: 9,
  },
  {
    name: "the last line twice",
    tamper: () => [...lines, lines[17] ?? ""],
    code: "record-duplicated",
    seq: 17,
    line: 18,
    proven: 17,
  },
  // keys and seals
  {
    name: "the whole log of another key",
    tamper: () => othersLines,
    code: "wrong-key",
    seq: 0,
    line: 0,
    proven: -1,
  },
  {
    name: "re-signed with another key, our genesis kept",
    tamper: () => forge(records(), { from: 1, signer: thief }),
    code: "seal-key",
    seq: 1,
    line: 1,
    proven: -1,
  },
  {
    name: "edited and re-signed with another key from there",
    tamper: () => forge(edited(7), { from: 8, signer: thief }),
    code: "seal-key",
    seq: 9,
    line: 9,
    proven: 5,
  },
  {
    name: "re-signed by a key that claims our name and key id",
    tamper: () => forge(edited(7), { from: 8, signer: { vkey: signer.vkey, sign: thief.sign } }),
    code: "seal-signature",
    seq: 9,
    line: 9,
    proven: 5,
  },
  {
    name: "the last seal's signature damaged",
    tamper: () => lines.with(17, damagedSignature(lines[17] ?? "")),
    code: "seal-signature",
    seq: 17,
    line: 17,
    proven: 13,
  },
  {
    name: "an inner seal's signature damaged",
    tamper: () => lines.with(9, damagedSignature(lines[9] ?? "")),
    code: "seal-signature",
    seq: 9,
    line: 9,
    proven: 5,
  },
  {
    name: "an inner seal's signature damaged and the rest rehashed and re-signed by nobody",
    tamper: () => forge(records().with(9, recordOf(damagedSignature(lines[9] ?? ""))), { from: 10 }),
    code: "seal-signature",
    seq: 9,
    line: 9,
    proven: 5,
  },
  {
    name: "a seal that holds more than a note",
    tamper: () => lines.with(17, (lines[17] ?? "").replace('{"note":', '{"a":1,"note":')),
    code: "seal-form",
    seq: 17,
    line: 17,
    proven: 13,
  },
  {
    name: "a second signature in the last seal",
    tamper: () => lines.with(17, twiceSigned(lines[17] ?? "")),
    code: "seal-form",
    seq: 17,
    line: 17,
    proven: 13,
  },
  {
    name: "sealing turned off",
    tamper: () => withoutSeals(),
    code: "sealing-off",
    seq: 18,
    line: 18,
    proven: 17,
  },
  // the end, against a remembered head
  {
    name: "the tail cut at a seal",
    tamper: () => lines.slice(0, 14),
    code: "tail-cut",
    seq: 14,
    line: 14,
    proven: 13,
    head: "remembered",
  },
  {
    name: "the last seal cut",
    tamper: () => lines.slice(0, 17),
    code: "tail-cut",
    seq: 14,
    line: 14,
    proven: 13,
    head: "remembered",
  },
  {
    name: "everything but the genesis cut",
    tamper: () => lines.slice(0, 1),
    code: "tail-cut",
    seq: 0,
    line: 0,
    proven: -1,
    head: "remembered",
  },
  {
    name: "another history under our own key",
    tamper: () => forge(edited(15), { from: 16, signer }),
    code: "head-mismatch",
    seq: 17,
    line: 17,
    proven: 17,
    head: "remembered",
  },
];

function damagedSignature(line: string): string {
  return line.replace(
    /(— \S+ \S{20})(\S)/,
    (_all, before: string, digit: string) => before + (digit === "A" ? "B" : "A"),
  );
}

function twiceSigned(line: string): string {
  return line.replace(/(— [^"]*?\\n)"/, (_all, signature: string) => `${signature}${signature}"`);
}

/** Records go on, chained as they should be, but never sealed. */
function withoutSeals(): string[] {
  const more = Array.from({ length: 80 }, () => ({
    ...recordOf(lines[2] ?? ""),
    data: { text: "x".repeat(60_000) },
  }));
  return forge([...records(), ...more], { from: 18 });
}

function writeSegment(tampered: readonly string[]): string {
  const directory = fresh();
  fs.writeFileSync(join(directory, FILE), bytesOf(tampered));
  return directory;
}

/** File and first byte of a line; past the end: where the last one ends. */
function placeOf(tampered: readonly string[], line: number): { file: string; byte: number } {
  return { file: FILE, byte: bytesOf(tampered.slice(0, line)).length };
}

async function verdictOf(directory: string, head?: string): Promise<Verdict> {
  return await verifyLog(readLog(directory), { vkey: signer.vkey, head });
}

describe("a log on real files", () => {
  test("as it was written it is sound, and reaches the remembered head", async () => {
    const verdict = await verdictOf(writeSegment(lines), note);
    expect(verdict).toMatchObject({
      verdict: "sound",
      records: 18,
      seals: 5,
      size: 17,
      bad: null,
      warnings: [],
    });
    expect(verdict.unsealed).toEqual({ records: 0, bytes: 0, from: null });
    expect(verdict.trustworthyUpTo).toMatchObject({ seq: 17, file: FILE });
  });

  test.each(attacks)("$name → $code at record $seq", async ({ tamper, code, seq, line, proven, head }) => {
    const tampered = tamper();
    const verdict = await verdictOf(writeSegment(tampered), head ? note : undefined);
    expect(verdict.verdict).toBe("broken");
    expect({ code: verdict.bad?.code, seq: verdict.bad?.seq }).toEqual({ code, seq });
    expect({ file: verdict.bad?.file, byte: verdict.bad?.byte }).toEqual(placeOf(tampered, line));
    expect(verdict.trustworthyUpTo?.seq ?? -1).toBe(proven);
  });

  test("no byte of it can be changed unseen", async () => {
    const whole = bytesOf(lines);
    for (let at = 0; at < whole.length; at++) {
      const changed = Buffer.from(whole);
      changed[at] = (changed[at] ?? 0) ^ (1 << (at % 8));
      const verdict = await verifyLog(one(changed), { vkey: signer.vkey });
      expect(verdict.verdict, `byte ${at}`).not.toBe("sound");
      expect(verdict.trustworthyUpTo?.tail.size ?? 0, `byte ${at}`).toBeLessThanOrEqual(
        lineOfByte(whole, at),
      );
    }
  });

  test("a byte that makes a line something else than UTF-8", async () => {
    const whole = bytesOf(lines);
    const start = bytesOf(lines.slice(0, 7)).length;
    whole[start + 100] = 0xff;
    const verdict = await verifyLog(one(whole), { vkey: signer.vkey });
    expect(verdict.bad).toMatchObject({ code: "not-utf8", seq: 7, file: "log", byte: start });
    expect(verdict.trustworthyUpTo?.seq).toBe(5);
  });

  test("an empty directory, or none, is no log", async () => {
    expect((await verdictOf(fresh())).bad?.code).toBe("log-empty");
    expect((await verdictOf(join(fresh(), "nothing"))).bad?.code).toBe("log-empty");
    expect((await verdictOf(fresh(), note)).bad?.code).toBe("tail-cut");
  });
});

async function* one(bytes: Buffer) {
  yield { file: "log", bytes };
}

function lineOfByte(whole: Buffer, at: number): number {
  return whole.subarray(0, at).toString("latin1").split("\n").length - 1;
}
