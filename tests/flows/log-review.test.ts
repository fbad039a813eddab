import * as fs from "node:fs";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { readLogFiles } from "../../cli/log-files.ts";
import { type Known, verifyDirectory } from "../../cli/verify-directory.ts";
import { unprotectFile } from "../../daemon/adapters/file-attributes.ts";
import { openHeadFile } from "../../daemon/adapters/head-file.ts";
import {
  createSegment,
  firstLineOf,
  protectEnded,
  protectionOf,
  readLog,
  readLogFrom,
  removeSegment,
  saveTombstone,
  segmentsOf,
} from "../../daemon/adapters/log-file.ts";
import { readKey } from "../../daemon/audit/known.ts";
import { emptyTail, openLog } from "../../daemon/audit/log.ts";
import type { Entry } from "../../daemon/audit/record.ts";
import { createSuccession } from "../../daemon/audit/succession.ts";
import { verifyLog } from "../../daemon/audit/verify.ts";
import { type Opened, openHistory } from "../../daemon/open-log.ts";
import { type PrunePlace, prune } from "../../daemon/prune.ts";
import {
  decision,
  fakeHead,
  fakeStore,
  ORIGIN,
  recordOf,
  tempDirectory,
  testClock,
  testSigner,
} from "../audit/fixture.ts";
import { foreignVerify, NO_PYTHON, PYTHON } from "../support/foreign.ts";
import { startHost } from "../support/host.ts";
import { logPlaceAt } from "../support/log-place.ts";
import { createSegmentedLog, type SegmentedLog, writeSegmented } from "../support/segmented-log.ts";

/** What a hostile review of the log found, and what has to hold since. */
const [genesis, second, third] = ["genesis", "second", "third"].map((word) => testSigner(word));
const MODE = { wanted: "RESTRICTED", epoch: 1, frozen: "" };
const DAY_MS = 86_400_000;
const NOW_MS = Date.UTC(2026, 6, 1);

function temporary(): string {
  const temp = tempDirectory();
  onTestFinished(() => temp[Symbol.dispose]());
  return temp.path;
}

function signer(of: (typeof genesis)[][number] | undefined) {
  if (!of) throw new Error("no such key");
  return of;
}
const [g, s2, s3] = [signer(genesis), signer(second), signer(third)];

function failing(cause: Error): never {
  throw cause;
}

describe("a start after a crash", () => {
  async function writeRotated(logDir: string, stateDir: string, opened: Opened): Promise<void> {
    const log = openLog({
      store: opened.store,
      signer: opened.signer,
      head: openHeadFile(stateDir),
      clock: testClock(),
      tail: opened.tail,
      origin: opened.ring.origin,
      successor: {
        key: opened.ring.prepareNext,
        store: (firstSeq) => createSegment(logDir, firstSeq),
        took: opened.ring.promote,
      },
      onFailed: failing,
    });
    await log.drain();
    await log.rotate();
    await log.close();
  }

  // The head still names the old log's genesis key; readHead throws head-invalid at this start and at every later one.
  test("that came between rebase and the new log's first remembered head is possible at all", async () => {
    const [logDir, stateDir] = [join(temporary(), "log"), temporary()];
    fs.mkdirSync(logDir, { mode: 0o700 });
    const place = logPlaceAt({ logDir, stateDir });
    await writeRotated(logDir, stateDir, await openHistory(place));
    const last = join(logDir, segmentsOf(logDir).at(-1)?.file ?? "");
    fs.writeFileSync(last, fs.readFileSync(last, "utf8").replace('"kind":"seal"', '"kind":"sael"'));
    expect((await openHistory(place)).history.kind).toBe("broken"); // and the power goes here
    expect((await openHistory(place)).history.kind).toBe("broken");
  });

  test("makes an ended segment immutable that the crash left append-only", () => {
    const directory = fs.mkdtempSync(join(import.meta.dirname, ".review2-"));
    onTestFinished(() => {
      for (const { file } of segmentsOf(directory)) unprotectFile(join(directory, file));
      fs.rmSync(directory, { recursive: true });
    });
    const keeping = { protect: "append-only", reserveBytes: 0 } as const;
    createSegment(directory, 0, keeping).close(); // kill -9 between the sealed end and finish()
    createSegment(directory, 5, keeping).close(); // the next start begins the next segment
    const [ended] = protectionOf(directory);
    if (ended?.kind === "none") return; // not what is meant: this file system cannot
    expect(ended?.kind).toBe("append-only");
    protectEnded(directory); // as a start does
    expect(protectionOf(directory)[0]?.kind).toBe("immutable");
  });
});

describe("pruning", () => {
  function placeOf(directory: string): PrunePlace {
    return {
      segments: () => segmentsOf(directory),
      firstLine: (file) => firstLineOf(directory, file),
      read: (file) => readLogFrom(directory, { file, byte: 0 }),
      readAll: () => readLog(directory),
      saveTombstone: (firstSeq, text) => saveTombstone(directory, firstSeq, Buffer.from(text)),
      removeSegment: (firstSeq) => removeSegment(directory, firstSeq),
    };
  }

  /** A segment for each age, in days: how old its records say that they are. */
  async function writeAged(ages: readonly number[]) {
    const directory = temporary();
    let [ms, made] = [0, 0];
    const log = openLog({
      store: createSegment(directory, 0),
      head: fakeHead(),
      signer: g,
      clock: { wallMs: () => ms++, monoNs: () => 1n, bootMs: () => 1, bootId: () => "b" },
      tail: emptyTail(),
      origin: ORIGIN,
      successor: {
        key: () => testSigner(`key ${++made}`),
        store: (firstSeq) => createSegment(directory, firstSeq),
        took: () => undefined,
      },
      onFailed: failing,
    });
    await log.drain();
    for (const [at, age] of ages.entries()) {
      ms = NOW_MS - age * DAY_MS;
      if (at > 0) await log.rotate();
      log.append(decision(`${age} days ago`));
      await log.drain();
    }
    ms = NOW_MS;
    return { directory, log };
  }

  const order = { keptDays: 90, by: 0, nowMs: NOW_MS };

  // The age is taken from the next segment's first record alone.
  test("does not remove yesterday's records because the clock stood in 1970 at the rotation", async () => {
    const { directory, log } = await writeAged([1, 20_000, 0]);
    const before = segmentsOf(directory).length;
    await prune(placeOf(directory), log.append, g.vkey, order).catch(() => undefined);
    expect(segmentsOf(directory)).toHaveLength(before);
  });

  // What is old is filtered, not taken from the front: then through, begin and standing are of different segments.
  test("goes on, after one rotation with a clock that was set back", async () => {
    const { directory, log } = await writeAged([200, 150, 100, 10, 5, 20_000, 0]);
    await expect(prune(placeOf(directory), log.append, g.vkey, order)).resolves.toMatchObject({
      segments: 2,
    });
  });

  // prune appends to the log itself, past the daemon, who does not see that the stop is not the last record any more.
  test("that a stop overtakes does not make a crash of the stop", async () => {
    const { directory, log } = await writeAged([200, 150, 0]);
    const host = await startHost();
    const stopped: Promise<string>[] = [];
    const place: PrunePlace = {
      ...placeOf(directory),
      saveTombstone: () => {
        if (stopped.length === 0) stopped.push(host.daemon.stop("SIGTERM"));
      },
      removeSegment: () => undefined,
    };
    const record = (entry: Entry) => {
      if (host.daemon.stopping()) throw new Error("stopping"); // as main.ts joins them
      return host.daemon.record(entry);
    };
    await prune(place, record, g.vkey, order).catch(() => undefined);
    expect(await Promise.all(stopped)).toEqual(["recorded"]);
    await log.close();
    expect(host.log.fold().stop).toBe("clean");
  });

  // With the current key alone, and nothing but the genesis key to verify with.
  test("of what is minutes old is not sound", async () => {
    const log = threeSegments();
    log.add("log.pruned", { by: "0", keptDays: 1, segments: 2, through: log.segments[2]?.first ?? 0 });
    log.seal();
    const directory = writeSegmented(log, temporary(), 2);
    const verdict = await verifyLog(readLogFiles(directory), { vkey: g.vkey });
    expect([verdict.verdict, verdict.warnings]).not.toEqual(["sound", []]);
  });
});

function threeSegments(): SegmentedLog {
  const log = createSegmentedLog(g);
  log.add("daemon.started", MODE);
  log.seal();
  for (const next of [s2, s3]) {
    log.announce(next);
    log.begin(next);
    log.add("decision", { n: 1 });
    log.seal();
  }
  return log;
}

describe("a log that is read in parts", () => {
  /** So much that it is worth threads. */
  function large(end: (log: SegmentedLog) => void): string {
    const log = createSegmentedLog(g);
    log.add("daemon.started", MODE);
    for (let n = 0; n < 300; n++) {
      log.add("decision", { text: "x".repeat(60_000) });
      if (n % 30 === 29) log.seal();
    }
    log.announce(s2);
    end(log);
    return writeSegmented(log, temporary());
  }

  /** In parts, and in order. */
  async function both(directory: string) {
    const known: Known = { vkey: g.vkey, heads: [], from: null };
    const watching = { chunks: (all: AsyncIterable<never>) => all, done: () => undefined } as never;
    const ordered = await verifyLog(readLogFiles(directory), { vkey: g.vkey });
    return { ordered, inParts: await verifyDirectory(directory, known, watching) };
  }

  test("a snapshot with a third field", async () => {
    const { ordered, inParts } = await both(
      large((log) => {
        log.begin(s2, { snapshot: { ...log.snapshot(), more: "x" } });
        log.seal();
      }),
    );
    expect(inParts.verdict).toBe(ordered.verdict);
  });

  test("a tombstone behind the segments", async () => {
    const directory = large((log) => {
      log.begin(s2);
      log.seal();
    });
    fs.writeFileSync(join(directory, `${"9".repeat(15).padStart(20, "0")}.tombstone`), "x\n");
    const { ordered, inParts } = await both(directory);
    expect(inParts.verdict).toBe(ordered.verdict);
  });

  test("a segment that has just begun: what is trustworthy", async () => {
    const { ordered, inParts } = await both(large((log) => log.begin(s2)));
    expect(inParts.trustworthyUpTo?.seq).toBe(ordered.trustworthyUpTo?.seq);
  });

  test("a log.segment whose key is none is broken, not an internal error", async () => {
    const { ordered, inParts } = await both(
      large((log) => {
        log.begin(s2, { key: "none" });
        log.seal();
      }),
    );
    expect(inParts.verdict).toBe(ordered.verdict);
  });
});

describe.skipIf(PYTHON === null)(`where verify.py says something else ${NO_PYTHON}`, () => {
  async function verdictsOf(
    log: SegmentedLog,
    pruned = 0,
    head?: { size: number; root: string },
  ): Promise<{ ours: string; theirs: string }> {
    const directory = writeSegmented(log, temporary(), pruned);
    const ours = await verifyLog(readLogFiles(directory), { vkey: g.vkey, head });
    const theirs = foreignVerify(directory, g.vkey, head && `${head.size} ${head.root}`);
    return { ours: ours.verdict, theirs: theirs.verdict };
  }

  test("a wrong signature between two good ones", async () => {
    const log = createSegmentedLog(g);
    log.add("daemon.started", MODE);
    log.seal({ vkey: g.vkey, sign: s2.sign });
    log.add("decision", { n: 1 });
    log.seal();
    const { ours, theirs } = await verdictsOf(log);
    expect(theirs).toBe(ours);
  });

  test("a second log.genesis", async () => {
    const log = createSegmentedLog(g);
    log.add("log.genesis", recordOf(log.segments[0]?.lines[0] ?? "").data);
    log.seal();
    const { ours, theirs } = await verdictsOf(log);
    expect(theirs).toBe(ours);
  });

  test("another field in log.segment", async () => {
    const log = createSegmentedLog(g);
    log.announce(s2);
    log.begin(s2, { more: "x" });
    log.seal();
    const { ours, theirs } = await verdictsOf(log);
    expect(theirs).toBe(ours);
  });

  test("a head within what was pruned", async () => {
    const log = threeSegments();
    log.add("log.pruned", { by: "0", keptDays: 90, segments: 2, through: log.segments[2]?.first ?? 0 });
    log.seal();
    const { ours, theirs } = await verdictsOf(log, 2, { size: 3, root: "ab".repeat(32) });
    expect(theirs).toBe(ours);
  });
});

describe("the appender and the verifier", () => {
  test("a rotation asked for during a write does not wait for the next record", async () => {
    const store = fakeStore();
    const log = openLog({
      store,
      head: fakeHead(),
      signer: g,
      clock: testClock(),
      tail: emptyTail(),
      origin: ORIGIN,
      successor: { key: () => s2, store: () => fakeStore(), took: () => undefined },
      onFailed: failing,
    });
    await log.drain();
    store.behave = "hang";
    log.append(decision("a"));
    await new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
    const turned = log.rotate().then(() => "rotated");
    store.release();
    const later = new Promise((resolve) => setTimeout(resolve, 500, "waits"));
    expect(await Promise.race([turned, later])).toBe("rotated");
  });

  test("what a segment costs does not grow with the number of segments before it", () => {
    const cost = (segments: number): number => {
      const first = { vkey: g.vkey, segment: 0, firstSeq: 0, since: "x" };
      const succession = createSuccession(first, readKey(g.vkey));
      const rotated = recordOf(threeSegments().segments[0]?.lines.at(-2) ?? "");
      const begun = performance.now();
      for (let segment = 1; segment <= segments; segment++) {
        succession.take({ ...rotated, data: { key: g.vkey, segment } });
        for (const kind of ["seal", "log.segment"]) succession.take({ ...rotated, kind });
      }
      return (performance.now() - begun) / segments;
    };
    cost(1_000); // warm
    expect(cost(20_000)).toBeLessThan(cost(2_000) * 3);
  });
});
