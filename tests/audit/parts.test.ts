import * as fs from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { readLog } from "../../daemon/adapters/log-file.ts";
import { beginOf, joinParts, type Part } from "../../daemon/audit/parts.ts";
import { verifyLog } from "../../daemon/audit/verify.ts";
import { forge, recordOf } from "./fixture.ts";
import { keys, linesIn, ORIGIN, put, vkey, type Written, writeSegments } from "./segmented.ts";

/** What the threads of verify-log come to, one after the other. */
async function inParts(log: Written): Promise<ReturnType<typeof joinParts>> {
  const parts: Part[] = [];
  for (const [n, file] of fs.readdirSync(log.directory).sort().entries()) {
    const bytes = fs.readFileSync(join(log.directory, file));
    const first = bytes.toString("utf8").split("\n")[0] ?? "";
    const begin = n === 0 ? null : beginOf(recordOf(first), ORIGIN);
    if (begin === null && n > 0) return null;
    parts.push({ begin, verdict: await verifyLog(one(file, bytes), { vkey, begin: begin ?? undefined }) });
  }
  return joinParts(parts);
}

describe("a log verified in parts", () => {
  test("comes to the verdict of one reading in order", async () => {
    const log = await writeSegments(4);
    const whole = await verifyLog(readLog(log.directory), { vkey });
    expect(whole.verdict).toBe("sound");
    expect(await inParts(log)).toEqual(whole);
  });

  test("a torn end is a torn end", async () => {
    const log = await writeSegments(3);
    put(log, 2, linesIn(log, 2).slice(0, -1));
    const whole = await verifyLog(readLog(log.directory), { vkey });
    expect(whole.verdict).toBe("torn");
    expect(await inParts(log)).toEqual(whole);
  });

  const broken: readonly (readonly [name: string, tamper: (log: Written) => void])[] = [
    ["a segment removed", (log) => fs.rmSync(join(log.directory, log.files[1] ?? ""))],
    ["the first one removed", (log) => fs.rmSync(join(log.directory, log.files[0] ?? ""))],
    ["an inner one torn", (log) => put(log, 1, linesIn(log, 1).slice(0, -1))],
    ["an inner one cut at a seal", (log) => put(log, 1, linesIn(log, 1).slice(0, 4))],
    [
      "one of another log in its place",
      (log) => replaced(log, 1, (text) => text.replace("record 2", "record 9")),
    ],
    [
      "a lying snapshot, sealed by the right key",
      (log) => replaced(log, 1, (text) => text.replace('"stop":"none"', '"stop":"clean"')),
    ],
    [
      "a lying frontier, sealed by the right key",
      (log) =>
        replaced(log, 1, (text) =>
          text.replace(/"frontier":\["[0-9a-f]{64}"/, `"frontier":["${"0".repeat(64)}"`),
        ),
    ],
    [
      "a byte edited",
      (log) => put(log, 2, linesIn(log, 2).with(2, (linesIn(log, 2)[2] ?? "").replace("recall", "recoll"))),
    ],
  ];

  test.each(broken)("%s is never sound", async (_name, tamper) => {
    const log = await writeSegments(3);
    tamper(log);
    expect((await verifyLog(readLog(log.directory), { vkey })).verdict).toBe("broken");
    expect(await inParts(log)).toBeNull();
  });
});

/** Segment `n` changed and sealed again with its own key: chain, seals and snapshots in it fit. */
function replaced(log: Written, n: number, change: (text: string) => string): void {
  const before = Array.from({ length: n }, (_, each) => linesIn(log, each)).flat();
  const own = linesIn(log, n).map(change);
  expect(own).not.toEqual(linesIn(log, n));
  const signer = keys[n];
  if (!signer) throw new Error("no such key");
  put(log, n, forge([...before, ...own].map(recordOf), { from: before.length, signer }).slice(before.length));
}

async function* one(file: string, bytes: Buffer) {
  yield { file, bytes };
}
