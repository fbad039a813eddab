import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createClock } from "../daemon/adapters/clock.ts";
import { openHeadFile } from "../daemon/adapters/head-file.ts";
import { createSegment, prepareLogDirectory, readLog, segmentName } from "../daemon/adapters/log-file.ts";
import { emptyTail, openLog } from "../daemon/audit/log.ts";
import { checkProof, type LogProof, parseProof, renderProof } from "../daemon/audit/proof.ts";
import { createProver, type Wanted } from "../daemon/audit/prove.ts";
import { ringIn } from "../tests/support/key-ring.ts";
import type { BenchRow } from "./row.ts";

const SIZES = [1_000, 10_000, 100_000, 1_000_000];
const IN_FLIGHT = 200;
/** Of the whole process at its highest, Node's own 50 included: nothing may grow with the log. */
const MOST_MIB = 192;

/**
 * Making a proof of a record near the beginning, and checking it, in logs of 1,000 to 1,000,000 records, against
 * sha256sum of the same file. Each proof is made in a process of its own, whose memory is told.
 */
export async function benchLogProof(): Promise<readonly BenchRow[]> {
  const rows: BenchRow[] = [];
  for (const size of SIZES) rows.push(...(await rowsOf(size)));
  return rows;
}

async function rowsOf(records: number): Promise<readonly BenchRow[]> {
  const directory = fs.mkdtempSync(join(tmpdir(), "boundary-bench-"));
  try {
    const { log, vkey } = await written(directory, records);
    const hashMs = best(3, () => execFileSync("sha256sum", [join(log, segmentName(0))]));
    const wanted: Wanted = { kind: "record", seq: Math.floor(records / 10) };
    const { ms, mib } = measured(log, wanted);
    const made = await make(log, wanted);
    const text = renderProof(made);
    const checkMs = best(50, () => check(text, vkey));
    return [proveRow(records, ms, hashMs, mib), checkRow(records, checkMs, text.length)];
  } finally {
    fs.rmSync(directory, { recursive: true });
  }
}

function proveRow(records: number, ms: number, hashMs: number, mib: number): BenchRow {
  return {
    what: `log prove, of ${records.toLocaleString("en-US")} records (${mib} MiB at most)`,
    value: round(ms),
    unit: "ms",
    rival: "sha256sum of the same file",
    ratio: ms / hashMs,
    aim: `≤ ${MOST_MIB} MiB`,
    met: mib <= MOST_MIB,
  };
}

function checkRow(records: number, ms: number, bytes: number): BenchRow {
  return {
    what: `log check-proof, of ${records.toLocaleString("en-US")} records (${bytes} B)`,
    value: round(ms),
    unit: "ms",
    rival: "",
    ratio: null,
    aim: "≤ 1 ms",
    met: ms <= 1,
  };
}

/** In a process of its own: this one has held the log that it wrote. */
function measured(log: string, wanted: Wanted): { readonly ms: number; readonly mib: number } {
  const args = [import.meta.filename, JSON.stringify({ log, wanted })];
  return JSON.parse(execFileSync(process.execPath, args, { encoding: "utf8" })) as {
    ms: number;
    mib: number;
  };
}

async function measureHere(argument: string): Promise<void> {
  const { log, wanted } = JSON.parse(argument) as { log: string; wanted: Wanted };
  const start = performance.now();
  await make(log, wanted);
  const ms = performance.now() - start;
  console.log(JSON.stringify({ ms, mib: Math.round(process.resourceUsage().maxRSS / 1_024) }));
}

async function make(log: string, wanted: Wanted): Promise<LogProof> {
  const prover = createProver(wanted);
  for await (const chunk of readLog(log)) prover.feed(chunk);
  const made = prover.finish(null);
  if (!made.ok) throw new Error(made.why);
  return made.proof;
}

function check(text: string, vkey: string): void {
  const proof = parseProof(text);
  if (!proof.ok || !checkProof(proof.value, vkey).ok) throw new Error("the proof does not hold");
}

async function written(directory: string, records: number): Promise<{ log: string; vkey: string }> {
  const log = join(directory, "log");
  prepareLogDirectory(log);
  const ring = ringIn(directory);
  const { origin } = ring;
  const signer = ring.current();
  const head = openHeadFile(directory);
  const onFailed = (cause: Error) => {
    throw cause;
  };
  const store = createSegment(log, 0);
  const open = openLog({ store, signer, head, clock: createClock(), tail: emptyTail(), origin, onFailed });
  for (let n = 0; n < records; n++) {
    open.append({ kind: "decision", data: { action: "recall", class: "SECRET", decision: "deny", uid: n } });
    if (n % IN_FLIGHT === 0) await open.drain();
  }
  await open.close();
  head.close();
  return { log, vkey: signer.vkey };
}

function best(times: number, work: () => unknown): number {
  const all = Array.from({ length: times }, () => {
    const start = performance.now();
    work();
    return performance.now() - start;
  });
  return Math.min(...all);
}

function round(ms: number): number {
  return Math.round(ms * 100) / 100;
}

if (import.meta.main) {
  const [argument] = process.argv.slice(2);
  if (argument === undefined) console.table(await benchLogProof());
  else await measureHere(argument);
}
