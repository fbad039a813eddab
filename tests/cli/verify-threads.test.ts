import * as fs from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { readLogFiles } from "../../cli/log-files.ts";
import { verifyDirectory, type Watching } from "../../cli/verify-directory.ts";
import { verifyLog } from "../../daemon/audit/verify.ts";
import { vkey, writeSegments } from "../audit/segmented.ts";
import { boundaryctl } from "../support/boundaryctl.ts";

/** Large enough that verify-log takes a thread for each segment. */
const large = () =>
  writeSegments(4, (n) => ({ kind: "decision", data: { text: "x".repeat(60_000), n } }), 80);

const SILENT: Watching = { chunks: (all) => all, done: () => undefined };

/** `done` is called for a segment that a thread has verified, and only then. */
async function inThreads(directory: string, heads: readonly string[] = []) {
  let segments = 0;
  const verdict = await verifyDirectory(
    directory,
    { vkey, heads, from: null },
    { ...SILENT, done: () => void segments++ },
  );
  return { verdict, segments };
}

describe("a large log of several segments", () => {
  test("is verified side by side, to the verdict of one reading in order", async () => {
    const log = await large();
    const { verdict, segments } = await inThreads(log.directory, [
      log.notes[3] ?? "",
      log.notes.at(-1) ?? "",
    ]);
    expect(segments).toBe(4);
    expect(verdict.verdict).toBe("sound");
    const whole = await verifyLog(readLogFiles(log.directory), { vkey });
    expect(verdict).toEqual(structuredClone(whole));
    const ran = await boundaryctl(["verify-log", log.directory, "--key", vkey, "--json"]);
    expect(JSON.parse(ran.stdout)).toMatchObject({
      verdict: "sound",
      records: whole.records,
      seals: whole.seals,
    });
  });

  test("a byte changed in an inner one is found where it is", async () => {
    const log = await large();
    const file = join(log.directory, log.files[1] ?? "");
    const bytes = fs.readFileSync(file);
    const at = Math.floor(bytes.length / 2);
    bytes[at] = (bytes[at] ?? 0) ^ 1;
    fs.writeFileSync(file, bytes);
    const whole = await verifyLog(readLogFiles(log.directory), { vkey });
    expect((await inThreads(log.directory)).verdict.bad).toEqual(whole.bad);
    expect(whole.bad?.file).toBe(log.files[1]);
  });

  test("from a checkpoint on, what is before its segment is not read", async () => {
    const log = await large();
    const { size, root } = await verifyLog(readLogFiles(log.directory), { vkey });
    fs.writeFileSync(join(log.directory, log.files[0] ?? ""), "gone\n");
    const known = { vkey, heads: [], from: { size, root } };
    const verdict = await verifyDirectory(log.directory, known, SILENT);
    expect(verdict).toMatchObject({ verdict: "sound", bad: null });
    expect(verdict.warnings).toEqual([]);
    const lie = { ...known, from: { size, root: "0".repeat(64) } };
    expect((await verifyDirectory(log.directory, lie, SILENT)).bad?.code).toBe("head-mismatch");
  });
});
