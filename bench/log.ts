import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openHeadFile } from "../daemon/adapters/head-file.ts";
import { createKeyRing } from "../daemon/adapters/keys.ts";
import { createSegment, prepareLogDirectory, readLog, segmentName } from "../daemon/adapters/log-file.ts";
import { type AuditLog, emptyTail, openLog } from "../daemon/audit/log.ts";
import type { Entry } from "../daemon/audit/record.ts";
import { verifyLog } from "../daemon/audit/verify.ts";
import type { Clock, LogStore } from "../daemon/ports.ts";
import type { BenchRow } from "./row.ts";

const APPENDS = 60_000;
const VERIFIED = 300_000;

/**
 * Signed appends, with 1 to 1,000 callers in flight, against writing and syncing the very same bytes in the same
 * batches without hashing or signing. Each caller appends its next record when its last one is durable.
 */
export async function benchAppend(): Promise<readonly BenchRow[]> {
  const rows: BenchRow[] = [];
  for (const inFlight of [1, 10, 100, 1000]) rows.push(await appendRow(inFlight));
  return rows;
}

/** Verifying a log of 300 B records against `sha256sum` of the same file. */
export async function benchVerify(): Promise<readonly BenchRow[]> {
  const rows: BenchRow[] = [];
  for (const inFlight of [1000, 50]) rows.push(await verifyRow(inFlight));
  return rows;
}

async function appendRow(inFlight: number): Promise<BenchRow> {
  const count = inFlight === 1 ? 2_000 : inFlight === 10 ? 20_000 : APPENDS;
  await inTempDirectory(async (directory) => run(directory, inFlight, Math.min(count, 20_000))); // warm
  return await inTempDirectory(async (directory) => {
    const signed = await run(directory, inFlight, count);
    const unsignedMs = await writeUnsigned(directory, signed.chunks);
    const perSecond = (count / signed.ms) * 1000;
    const ratio = signed.ms / unsignedMs;
    const inBatches = inFlight >= 100;
    return {
      what: `signed append, ${inFlight} in flight (${Math.round(count / signed.chunks.length)} records a batch)`,
      value: Math.round(perSecond),
      unit: "records/s",
      rival: "the same bytes in the same batches, unsigned",
      ratio,
      aim: inBatches ? "≥ 50,000/s, ≤ 1.5×" : "≤ 1.5×",
      met: (!inBatches || perSecond >= 50_000) && ratio <= 1.5,
    };
  });
}

async function verifyRow(inFlight: number): Promise<BenchRow> {
  return await inTempDirectory(async (directory) => {
    const { vkey, records } = await run(directory, inFlight, VERIFIED);
    const log = join(directory, "log");
    const file = join(log, segmentName(0));
    const times: number[] = [];
    for (let i = 0; i < 3; i++) {
      const start = performance.now();
      const verdict = await verifyLog(readLog(log), { vkey });
      times.push(performance.now() - start);
      if (verdict.verdict !== "sound") throw new Error(`the log is ${verdict.verdict}: ${verdict.bad?.what}`);
    }
    const rivals = [1, 2, 3].map(() => timeOf(() => execFileSync("sha256sum", [file])));
    const bestMs = Math.min(...times);
    const perSecond = (records / bestMs) * 1000;
    const ratio = bestMs / Math.min(...rivals);
    return {
      what: `verify, written with ${inFlight} in flight (${Math.round(fs.statSync(file).size / records)} B a record)`,
      value: Math.round(perSecond),
      unit: "records/s",
      rival: "sha256sum of the same file",
      ratio,
      aim: "≥ 150,000/s, ≤ 4×",
      met: perSecond >= 150_000 && ratio <= 4,
    };
  });
}

type Run = {
  readonly ms: number;
  readonly vkey: string;
  readonly records: number;
  readonly chunks: readonly number[];
};

async function run(directory: string, inFlight: number, count: number): Promise<Run> {
  const logDirectory = join(directory, "log");
  prepareLogDirectory(logDirectory);
  const ring = createKeyRing(directory);
  const { origin } = ring;
  const signer = ring.current();
  const chunks: number[] = [];
  const store = noting(createSegment(logDirectory, 0), chunks);
  const head = openHeadFile(directory);
  const onFailed = (cause: Error) => {
    throw cause;
  };
  const log = openLog({ store, signer, head, clock, tail: emptyTail(), origin, onFailed });
  await log.drain();
  chunks.length = 0;
  const start = performance.now();
  await callers(log, inFlight, count);
  const ms = performance.now() - start;
  const records = log.head().size + 1;
  await log.close();
  head.close();
  return { ms, vkey: signer.vkey, records, chunks };
}

async function callers(log: AuditLog, inFlight: number, count: number): Promise<void> {
  let left = count;
  const caller = async () => {
    while (left-- > 0) await log.append(entry(left)).durable;
  };
  await Promise.all(Array.from({ length: inFlight }, caller));
}

/** A decision: about 300 bytes as a line. */
function entry(number: number): Entry {
  const data = {
    action: "recall",
    class: "SECRET",
    decision: "deny",
    mode: "RESTRICTED",
    rule: "class-ceiling",
    uid: number,
  };
  return { kind: "decision", data };
}

async function writeUnsigned(directory: string, chunks: readonly number[]): Promise<number> {
  const fd = fs.openSync(
    join(directory, "unsigned"),
    fs.constants.O_WRONLY | fs.constants.O_CREAT | fs.constants.O_APPEND,
  );
  const bytes = Buffer.alloc(Math.max(...chunks), "a");
  const start = performance.now();
  for (const length of chunks) await writeAndSync(fd, bytes.subarray(0, length));
  const ms = performance.now() - start;
  fs.closeSync(fd);
  return ms;
}

function writeAndSync(fd: number, bytes: Buffer): Promise<void> {
  return new Promise((resolve, reject) => {
    fs.write(fd, bytes, 0, bytes.length, null, (failed) => {
      if (failed) reject(failed);
      else fs.fdatasync(fd, (error) => (error ? reject(error) : resolve()));
    });
  });
}

function noting(store: LogStore, chunks: number[]): LogStore {
  return {
    write(chunk) {
      chunks.push(chunk.length);
      return store.write(chunk);
    },
    damage: () => store.damage(),
    close: () => store.close(),
    finish: () => store.finish(),
  };
}

const boot = "00000000-0000-4000-8000-000000000000";
const clock: Clock = {
  wallMs: () => Date.now(),
  monoNs: () => process.hrtime.bigint(),
  bootMs: () => performance.now(),
  bootId: () => boot,
};

function timeOf(work: () => unknown): number {
  const start = performance.now();
  work();
  return performance.now() - start;
}

async function inTempDirectory<T>(work: (directory: string) => Promise<T>): Promise<T> {
  const directory = fs.mkdtempSync(join(tmpdir(), "boundary-bench-"));
  try {
    return await work(directory);
  } finally {
    fs.rmSync(directory, { recursive: true });
  }
}

if (import.meta.main) console.table([...(await benchAppend()), ...(await benchVerify())]);
