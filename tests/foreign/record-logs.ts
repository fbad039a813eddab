import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, vi } from "vitest";
import type * as Verify from "../../daemon/audit/verify.ts";

/**
 * Under tests/foreign/agree.ts: every whole log that a test gives our verifier is written down with what it said, for
 * verify.py to say the same. Of a test that tries every byte only some.
 */
const TARGET = process.env["BOUNDARY_FOREIGN"] ?? "";
const ALL_UP_TO = 60;
const THEN_ONE_IN = 53;
/** What a test does with more is about memory and time. */
const MAX_BYTES = 6 * 1024 * 1024;

const seen = new Map<string, number>();
let written = 0;

vi.mock("../../daemon/audit/verify.ts", async (original) => {
  const real = await original<typeof Verify>();
  return { ...real, verifyLog: (...[chunks, options]: Args) => recorded(real.verifyLog, chunks, options) };
});

type Args = Parameters<typeof Verify.verifyLog>;

async function recorded(verifyLog: typeof Verify.verifyLog, chunks: Args[0], options: Args[1]) {
  if (options.begin || !isWanted()) return await verifyLog(chunks, options);
  const log = await take(chunks);
  const verdict = await verifyLog(log.again(), options);
  if (log.files) save(log.files, options, verdict.verdict);
  return verdict;
}

function isWanted(): boolean {
  const test = `${expect.getState().testPath} ${expect.getState().currentTestName}`;
  const times = (seen.get(test) ?? 0) + 1;
  seen.set(test, times);
  if (test.includes("of any length")) return false; // it counts what is read
  return times <= ALL_UP_TO || times % THEN_ONE_IN === 0;
}

/** Reads the whole log, which a verifier that finds a fault does not; `files` is null where that is too much. */
async function take(chunks: Args[0]) {
  const rest = chunks[Symbol.asyncIterator]();
  const first: { file: string; bytes: Uint8Array }[] = [];
  let bytes = 0;
  let ended = false;
  while (!ended && bytes <= MAX_BYTES) {
    const { value, done } = await rest.next();
    ended = done === true;
    if (value) first.push({ ...value, bytes: Uint8Array.from(value.bytes) });
    bytes += value?.bytes.length ?? 0;
  }
  async function* again() {
    yield* first;
    if (!ended) yield* { [Symbol.asyncIterator]: () => rest };
  }
  return { again, files: ended ? joined(first) : null };
}

function joined(chunks: readonly { file: string; bytes: Uint8Array }[]): ReadonlyMap<string, Buffer> {
  const files = new Map<string, Buffer>();
  for (const { file, bytes } of chunks)
    files.set(file, Buffer.concat([files.get(file) ?? Buffer.alloc(0), bytes]));
  return files;
}

const OF_A_LOG = /^[0-9]{20}\.(jsonl|tombstone)$/;

function save(files: ReadonlyMap<string, Buffer>, { vkey, head = [] }: Args[1], verdict: string): void {
  const names = [...files.keys()];
  const single = names.length === 1 && !OF_A_LOG.test(names[0] ?? "");
  if (!single && !names.every((name) => OF_A_LOG.test(name))) return; // a verifier of files cannot be given that
  written += 1;
  const directory = join(TARGET, `${process.pid}-${written}`);
  mkdirSync(directory);
  for (const [name, bytes] of files) writeFileSync(join(directory, name), bytes);
  const heads = [head].flat().map((each) => (typeof each === "string" ? each : `${each.size} ${each.root}`));
  const log = single ? join(directory, names[0] ?? "") : directory;
  const { testPath, currentTestName } = expect.getState();
  const test = `${testPath?.split("/tests/")[1]}: ${currentTestName}`;
  writeFileSync(`${directory}.json`, JSON.stringify({ log, key: vkey, heads, verdict, test }));
}
