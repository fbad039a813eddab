import * as fs from "node:fs";
import { join } from "node:path";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { readLogFiles } from "../../cli/log-files.ts";
import { bury } from "../../daemon/audit/bury.ts";
import { genesisStanding, type Standing } from "../../daemon/audit/certificate.ts";
import { beginOf } from "../../daemon/audit/parts.ts";
import { verifyLog } from "../../daemon/audit/verify.ts";
import { bytesOf, decision, recordOf } from "./fixture.ts";
import { linesIn, ORIGIN, vkey, type Written, writeSegments } from "./segmented.ts";

const verify = (log: Written, head?: string) => verifyLog(readLogFiles(log.directory), { vkey, head });

/** Five segments; the log says in its third that two were pruned. */
const written = () =>
  writeSegments(5, (n) =>
    n === 5
      ? { kind: "log.pruned", data: { by: "0", keptDays: 90, segments: 2, through: 0 } }
      : decision(`record ${n}`),
  );

function standingAtStart(): Standing {
  const start = genesisStanding(vkey);
  if (!start.ok) throw new Error(start.why);
  return start.value;
}

const beginAt = (log: Written, n: number) => {
  const begin = beginOf(recordOf(linesIn(log, n)[0] ?? ""), ORIGIN);
  if (begin === null) throw new Error(`segment ${n} has no beginning`);
  return begin;
};

/** Buries the first `count` segments: their tombstones, by file. */
async function buryFirst(log: Written, count: number): Promise<Record<string, string>> {
  const tombstones: Record<string, string> = {};
  let standing = standingAtStart();
  for (let n = 0; n < count; n++) {
    const file = log.files[n] ?? "";
    const bytes = fs.readFileSync(join(log.directory, file));
    const begin = n === 0 ? null : beginAt(log, n);
    const burial = await bury(one(file, bytes), { vkey, standing, begin, next: beginAt(log, n + 1) });
    tombstones[file.replace(".jsonl", ".tombstone")] = burial.tombstone;
    standing = burial.standing;
  }
  return tombstones;
}

/** As the daemon prunes: two segments gone, their tombstones in their place, and the log says so. */
async function pruned(count = 2, through?: number): Promise<Written> {
  const draft = await written();
  const keptFrom = through ?? recordOf(linesIn(draft, count)[0] ?? "").seq;
  const log = await writeSegments(5, (n) =>
    n === 5
      ? { kind: "log.pruned", data: { by: "0", keptDays: 90, segments: count, through: keptFrom } }
      : decision(`record ${n}`),
  );
  for (const [file, text] of Object.entries(await buryFirst(log, count)))
    fs.writeFileSync(join(log.directory, file), text);
  for (const file of log.files.slice(0, count)) fs.rmSync(join(log.directory, file));
  return log;
}

describe("a pruned log", () => {
  test("verifies with the genesis key alone, and comes to the same state", async () => {
    const log = await pruned();
    const verdict = await verify(log, log.notes.at(-1));
    expect(verdict).toMatchObject({ verdict: "sound", bad: null, pruned: { segments: 2 } });
    expect(verdict.state).toEqual(log.ended);
    expect(verdict.keys.map(({ segment }) => segment)).toEqual([2, 3, 4]);
    expect(verdict.pruned.records).toBe(recordOf(linesIn(log, 2)[0] ?? "").seq);
  });

  test("a segment that is there counts, whatever its tombstone says", async () => {
    const log = await written();
    fs.writeFileSync(join(log.directory, log.files[0]?.replace(".jsonl", ".tombstone") ?? ""), "nonsense");
    expect(await verify(log)).toMatchObject({ verdict: "sound", pruned: { segments: 0 } });
  });

  const attacks: readonly (readonly [name: string, code: string, tamper: (log: Written) => void])[] = [
    ["a tombstone removed from the middle", "tombstone-bad", (log) => fs.rmSync(grave(log, 0))],
    [
      "all tombstones removed",
      "start-missing",
      (log) => {
        for (const n of [0, 1]) fs.rmSync(grave(log, n));
      },
    ],
    ["the last tombstone removed", "start-missing", (log) => fs.rmSync(grave(log, 1))],
    [
      "a tombstone under the name of a segment that there was not",
      "tombstone-bad",
      (log) => fs.renameSync(grave(log, 0), grave(log, 0).replace("0.tombstone", "1.tombstone")),
    ],
    ["a tombstone emptied", "tombstone-bad", (log) => fs.writeFileSync(grave(log, 0), "\n")],
    [
      "another segment removed, without a tombstone",
      "start-missing",
      (log) => fs.rmSync(join(log.directory, log.files[2] ?? "")),
    ],
    [
      "two tombstones swapped",
      "tombstone-bad",
      (log) => {
        const [a, b] = [0, 1].map((n) => fs.readFileSync(grave(log, n)));
        fs.writeFileSync(grave(log, 0), b ?? "");
        fs.writeFileSync(grave(log, 1), a ?? "");
      },
    ],
    ["one far too long", "tombstone-bad", (log) => fs.appendFileSync(grave(log, 0), "x".repeat(200_000))],
  ];
  test.each(attacks)("%s → %s", async (_name, code, tamper) => {
    const log = await pruned();
    tamper(log);
    expect((await verify(log)).bad?.code).toBe(code);
  });

  test("more pruned than the log says is no pruning", async () => {
    const log = await pruned(2, 1);
    expect((await verify(log)).bad).toMatchObject({
      code: "pruned-unrecorded",
      file: log.files[0]?.replace(".jsonl", ".tombstone"),
    });
  });

  test("no byte of a tombstone can be changed unseen", async () => {
    const log = await pruned();
    const path = grave(log, 1);
    const whole = fs.readFileSync(path);
    for (let at = 0; at < whole.length; at++) {
      const changed = Buffer.from(whole);
      changed[at] = (changed[at] ?? 0) ^ (1 << (at % 8));
      fs.writeFileSync(path, changed);
      expect((await verify(log)).verdict, `byte ${at}`).toBe("broken");
    }
  });

  test("tombstones of any bytes are refused, and nothing is thrown", async () => {
    const log = await pruned();
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 300 }), async (bytes) => {
        fs.writeFileSync(grave(log, 0), bytes);
        expect((await verify(log)).verdict).toBe("broken");
      }),
      { numRuns: 50 },
    );
  });
});

describe("burying", () => {
  test("refuses a segment that is not sound, or does not lead to the next", async () => {
    const log = await written();
    const [first, second] = [linesIn(log, 0), linesIn(log, 1)];
    const known = { vkey, standing: standingAtStart(), begin: null, next: beginAt(log, 1) };
    const edited = bytesOf(first.with(1, (first[1] ?? "").replace("recall", "recoll")));
    for (const bytes of [edited, bytesOf(first.slice(0, 4)), bytesOf(second), Buffer.alloc(0)])
      await expect(bury(one(log.files[0] ?? "", bytes), known)).rejects.toMatchObject({ code: "log-broken" });
    const whole = one(log.files[0] ?? "", bytesOf(first));
    await expect(bury(whole, { ...known, next: beginAt(log, 2) })).rejects.toMatchObject({
      code: "log-broken",
    });
  });
});

const grave = (log: Written, n: number) =>
  join(log.directory, (log.files[n] ?? "").replace(".jsonl", ".tombstone"));

async function* one(file: string, bytes: Buffer) {
  yield { file, bytes };
}
