import * as fs from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, onTestFinished, test } from "vitest";
import {
  createSegment,
  cutTail,
  firstLineOf,
  lastSnapshot,
  readLog,
  readLogFrom,
} from "../../daemon/adapters/log-file.ts";
import type { AuditLog } from "../../daemon/audit/log.ts";
import { MAX_BATCH_BYTES, MAX_STATE_BYTES } from "../../daemon/audit/log.ts";
import { beginOf } from "../../daemon/audit/parts.ts";
import { type Entry, MAX_RECORD_BYTES } from "../../daemon/audit/record.ts";
import { recoverLog } from "../../daemon/audit/recover.ts";
import { isSnapshotLine } from "../../daemon/audit/snapshot.ts";
import { verifyLog } from "../../daemon/audit/verify.ts";
import { leaseData, tokenData } from "../../daemon/core/grant-data.ts";
import { bytesOf as bytesOfToken } from "../../daemon/core/grants.ts";
import { LEASE_BOUNDS, type Lease } from "../../daemon/core/lease.ts";
import { TOKEN_BOUNDS, type Token } from "../../daemon/core/token.ts";
import { historyOf, steps } from "../support/grant-history.ts";
import { START_MS, tokenOf } from "../support/tokens.ts";
import {
  decision,
  fakeHead,
  fakeLog,
  fakeStore,
  forge,
  recordOf,
  tempDirectory,
  testClock,
} from "./fixture.ts";
import { genesis, keys, ORIGIN, vkey } from "./segmented.ts";

const mint = (token: Token): Entry => ({ kind: "token.minted", data: { grant: tokenData(token) } });

/** As large as a child that only says who it is for. */
const typical = (n: number): Token =>
  tokenOf(`token ${n}`, {
    principal: { type: "Agent", id: `build-${n}` },
    subjects: [],
    role: "none",
    label: "ci",
    expiresAtMs: START_MS + 86_400_000 * 30,
  });

const lease = (n: number): Lease => ({
  id: n.toString(16).padStart(16, "0"),
  template: "deploy",
  by: { uid: 1000, tokenId: "a".repeat(16) },
  reason: "ä".repeat(200),
  forMs: 60_000,
  maxMode: "RESTRICTED",
  askedAtMs: START_MS,
  state: "pending",
  start: null,
  uses: 5,
  suspended: false,
  endedAtMs: null,
});

async function writeAll(log: AuditLog, entries: Iterable<Entry>): Promise<void> {
  let n = 0;
  for (const entry of entries) {
    log.append(entry);
    if (++n % 1_000 === 0) await log.drain();
  }
  await log.drain();
}

/** A log on files with rotation. */
function logOnFiles() {
  const temp = tempDirectory();
  onTestFinished(() => temp[Symbol.dispose]());
  const head = fakeHead();
  let made = 0;
  const { log, seen } = fakeLog({
    store: createSegment(temp.path, 0),
    signer: genesis,
    origin: ORIGIN,
    head,
    successor: {
      key: () => keys[++made] ?? genesis,
      store: (firstSeq) => createSegment(temp.path, firstSeq),
      took: () => undefined,
    },
  });
  return {
    log,
    seen,
    directory: temp.path,
    note: () => head.notes.at(-1) ?? null,
    key: () => keys[made]?.vkey ?? "",
  };
}

async function recover(directory: string, head: string | null, current: string) {
  let whole = 0;
  const found = await recoverLog({
    read: () => {
      whole++;
      return readLog(directory);
    },
    readEnd: () => {
      const at = lastSnapshot(directory, isSnapshotLine);
      const first = at && firstLineOf(directory, at.file);
      return at && first ? { first, snapshot: at.line, chunks: () => readLogFrom(directory, at) } : null;
    },
    cut: (place) => cutTail(directory, place, 0),
    vkey,
    current,
    head,
  });
  if (found.kind === "none" || found.kind === "broken") throw new Error(JSON.stringify(found));
  return { found, whole };
}

describe("tokens in a log", () => {
  test("at the limit fit into snapshots, and a start takes them up from there", {
    timeout: 120_000,
  }, async () => {
    const host = logOnFiles();
    const { tokens } = TOKEN_BOUNDS;
    const all = Array.from({ length: tokens }, (_, n) => typical(n));
    expect(all.reduce((sum, each) => sum + bytesOfToken(each), 0)).toBeLessThan(TOKEN_BOUNDS.stateBytes);
    await writeAll(host.log, all.map(mint));
    await writeAll(
      host.log,
      Array.from({ length: LEASE_BOUNDS.leases }, (_, n): Entry => {
        return { kind: "lease.requested", data: { lease: leaseData(lease(n)) } };
      }),
    );
    await host.log.rotate();
    await writeAll(
      host.log,
      Array.from({ length: 30_000 }, (_, n) => decision(`${n}`)),
    );
    await host.log.close();
    const [first] = host.seen.filter(({ kind }) => kind === "log.segment");
    const snapshots = host.seen.filter(({ kind }) => kind === "log.snapshot").length;
    expect([host.log.fold().grants.tokens.size, snapshots > 0]).toEqual([tokens, true]);
    for (const record of host.seen)
      if (record.kind === "token.state")
        expect(Buffer.byteLength(JSON.stringify(record))).toBeLessThan(MAX_RECORD_BYTES);

    const { found, whole } = await recover(host.directory, host.note(), host.key());
    expect(whole).toBe(0);
    expect(found.fold).toEqual(host.log.fold());

    const verdict = await verifyLog(readLog(host.directory), { vkey, head: host.note() ?? undefined });
    expect([verdict.bad, verdict.verdict]).toEqual([null, "sound"]);
    expect(verdict.state.grants).toEqual(host.log.fold().grants);
    const begin = first && beginOf(first, ORIGIN);
    expect(begin?.fold.grants.awaited?.tokens).toBe(tokens);
  });

  test("a start reads them back with whatever came after, torn end and all", async () => {
    const host = logOnFiles();
    await writeAll(host.log, [mint(typical(1)), mint(typical(2))]);
    await host.log.rotate();
    await writeAll(host.log, [
      mint(typical(3)),
      { kind: "token.revoked", data: { id: typical(1).id } },
      { kind: "daemon.stopped", data: { wanted: "OPEN", epoch: 1, frozen: "" } },
    ]);
    await host.log.close();
    const last = fs.readdirSync(host.directory).toSorted().at(-1) ?? "";
    fs.appendFileSync(join(host.directory, last), '{"at":');
    const { found, whole } = await recover(host.directory, host.note(), host.key());
    expect([found.kind, whole]).toEqual(["recovered", 0]);
    expect(found.fold).toEqual(host.log.fold());
    expect(found.fold.stop).toBe("clean");
    expect(found.fold.grants.tokens.size).toBe(3);
  });

  test("a record of a snapshot that says otherwise than the log before it means LOCKDOWN", async () => {
    const store = fakeStore();
    const { log } = fakeLog({ store, signer: genesis, origin: ORIGIN });
    await writeAll(log, [mint(typical(1))]);
    await writeAll(
      log,
      Array.from({ length: 4_200 }, (_, n) => decision(`${n}`)),
    );
    await log.close();
    const records = store.text().split("\n").slice(0, -1).map(recordOf);
    const at = records.findIndex(({ kind }) => kind === "token.state");
    expect(records[at - 1]?.kind).toBe("log.snapshot");
    const lie = { tokens: [tokenData({ ...typical(1), role: "admin" })], leases: [] };
    const lines = forge(
      records.map((record, n) => (n === at ? { ...record, data: lie } : record)),
      { from: at, signer: genesis },
    );
    async function* read() {
      yield { file: "00000000000000000000.jsonl", bytes: Buffer.from(`${lines.join("\n")}\n`) };
    }
    const verdict = await verifyLog(read(), { vkey });
    expect(verdict.state).toMatchObject({ wanted: "LOCKDOWN", unreadable: `seq ${at}: tokens` });
  });

  test("a snapshot's records take no room from what waits, and all is within what a crash may leave", async () => {
    const [store, second] = [fakeStore(), fakeStore()];
    let begins = 0;
    const { log } = fakeLog({
      store,
      signer: genesis,
      origin: ORIGIN,
      successor: {
        key: () => keys[1] ?? genesis,
        store: (firstSeq) => {
          begins = firstSeq;
          return second;
        },
        took: () => undefined,
      },
    });
    await writeAll(
      log,
      Array.from({ length: 8_000 }, (_, n) => mint(typical(n))),
    );
    store.behave = "hang";
    void log.rotate();
    await new Promise((resolve) => setImmediate(resolve)); // the next segment's beginning waits behind the write
    const entry = { kind: "sensor.blind", data: { why: "x".repeat(60_000) } } as const;
    for (let n = 0; n < 67; n++) log.append(entry);
    expect(log.state()).toBe("writing");
    store.release();
    await log.drain();
    const largest = Math.max(...second.chunks.map(({ length }) => length));
    expect(largest).toBeGreaterThan(MAX_BATCH_BYTES + 1_000_000);
    expect(largest).toBeLessThan(MAX_BATCH_BYTES + MAX_STATE_BYTES);
    async function* read() {
      yield { file: "00000000000000000000.jsonl", bytes: Buffer.concat(store.chunks) };
      yield { file: `${String(begins).padStart(20, "0")}.jsonl`, bytes: Buffer.concat(second.chunks) };
    }
    const verdict = await verifyLog(read(), { vkey });
    expect([verdict.bad, verdict.verdict]).toEqual([null, "sound"]);
  });

  test("of any history are the same to whoever reads it, from wherever", { timeout: 60_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(steps, { maxLength: 40 }), fc.nat(20), async (list, every) => {
        const [store, second] = [fakeStore(), fakeStore()];
        let begins = 0;
        const clock = testClock(START_MS);
        const { log, seen } = fakeLog({
          clock,
          store,
          signer: genesis,
          origin: ORIGIN,
          successor: {
            key: () => keys[1] ?? genesis,
            store: (firstSeq) => {
              begins = firstSeq;
              return second;
            },
            took: () => undefined,
          },
        });
        for (const [at, { kind, at: time, data }] of historyOf(list).entries()) {
          clock.moveMs(Math.max(0, Date.parse(time) - clock.wallMs()));
          log.append({ kind: kind as Entry["kind"], data });
          if (at === every) await log.rotate();
          if (at % 3 === 0) await log.drain();
        }
        await log.close();
        async function* read() {
          yield { file: "00000000000000000000.jsonl", bytes: Buffer.concat(store.chunks) };
          if (begins > 0)
            yield { file: `${String(begins).padStart(20, "0")}.jsonl`, bytes: Buffer.concat(second.chunks) };
        }
        const verdict = await verifyLog(read(), { vkey });
        expect([verdict.bad, verdict.verdict, verdict.state]).toEqual([null, "sound", log.fold()]);
        const first = seen.find(({ kind }) => kind === "log.segment");
        const begin = first ? beginOf(first, ORIGIN) : null;
        if (begin === null) return;
        async function* rest() {
          yield { file: `${String(begins).padStart(20, "0")}.jsonl`, bytes: Buffer.concat(second.chunks) };
        }
        const later = await verifyLog(rest(), { vkey, begin });
        expect([later.bad, later.state]).toEqual([null, log.fold()]);
      }),
      { numRuns: 60 },
    );
  });
});
