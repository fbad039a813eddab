import { readFileSync, truncateSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { openLogCopy } from "../../cli/log-copy.ts";
import { codeOf, decision, linesOf, tempDirectory, testSigner, writeLog } from "../audit/fixture.ts";

/** The lines of a log of one segment, and its key. */
async function sample(): Promise<{ readonly lines: readonly string[]; readonly key: string }> {
  using dir = tempDirectory();
  const signer = testSigner();
  await writeLog(
    dir.path,
    Array.from({ length: 8 }, (_, n) => [decision(`record ${n}`), decision("ü".repeat(n * 50))]),
    signer,
  );
  return { lines: linesOf(dir.path), key: signer.vkey };
}

async function copy(directory: string, key: string, lines: readonly string[]): Promise<number> {
  const made = await openLogCopy(directory, key);
  try {
    await made.append(lines.slice(made.next()));
    return made.next();
  } finally {
    await made.close();
  }
}

describe("a copy of a log", () => {
  test("cut at any byte goes on, and is the log byte for byte", async () => {
    const { lines, key } = await sample();
    const whole = lines.map((line) => `${line}\n`).join("");
    await fc.assert(
      fc.asyncProperty(fc.nat(Buffer.byteLength(whole)), fc.nat(lines.length), async (byte, first) => {
        using dir = tempDirectory();
        const file = join(dir.path, "00000000000000000000.jsonl");
        await copy(dir.path, key, lines.slice(0, first));
        if (first > 0) truncateSync(file, Math.min(byte, readFileSync(file).length));
        expect(await copy(dir.path, key, lines)).toBe(lines.length);
        expect(readFileSync(file, "utf8")).toBe(whole);
      }),
      { numRuns: 60 },
    );
  });

  test("takes no line that does not follow, and nothing after it", async () => {
    const { lines, key } = await sample();
    const changes: readonly ((all: readonly string[], at: number) => readonly string[])[] = [
      (all, at) => all.toSpliced(at, 1),
      (all, at) => all.toSpliced(at, 0, all[at] ?? ""),
      (all, at) => all.toSpliced(at, 1, "not a record"),
      (all, at) => all.toSpliced(at, 1, (all[at] ?? "").replace(/"prev":"../, '"prev":"zz')),
    ];
    for (const change of changes)
      for (const at of [0, 1, 7]) {
        using dir = tempDirectory();
        const made = await openLogCopy(dir.path, key);
        expect(await codeOf(() => made.append(change(lines, at)))).toBe("log-broken");
        expect(made.next()).toBe(change(lines, at)[at] === lines[at] ? at + 1 : at);
        await made.close();
        expect((await openLogCopy(dir.path, key)).next()).toBe(made.next());
      }
  });

  test("of another log is not gone on with", async () => {
    const { lines, key } = await sample();
    using dir = tempDirectory();
    await copy(dir.path, key, lines.slice(0, 3));
    expect(await codeOf(() => openLogCopy(dir.path, testSigner("another").vkey))).toBe("log-broken");
  });
});
