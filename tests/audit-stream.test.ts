import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { openHeadFile } from "../daemon/adapters/head-file.ts";
import { prepareStateDirectory } from "../daemon/adapters/keys.ts";
import {
  createSegment,
  firstLineOf,
  lastSnapshot,
  prepareLogDirectory,
  readLogFrom,
  segmentsOf,
} from "../daemon/adapters/log-file.ts";
import { lastLine, readLines } from "../daemon/adapters/log-lines.ts";
import { type AuditLog, emptyTail, openLog } from "../daemon/audit/log.ts";
import type { LogRecord } from "../daemon/audit/record.ts";
import { coreIn, spanIn } from "../daemon/audit/spans.ts";
import { type AuditStream, createAuditStream } from "../daemon/audit-stream.ts";
import type { LogPlace } from "../daemon/open-log.ts";
import type { LogStore } from "../daemon/ports.ts";
import {
  codeOf,
  decision,
  fakeHead,
  nameOf,
  recordOf,
  tempDirectory,
  testClock,
  testSigner,
} from "./audit/fixture.ts";
import { logPlaceAt } from "./support/log-place.ts";

/** The stream on real files, beside a real core log, with a disk that can hang or fail. */
type Disk = { behave: "write" | "fail" | "hang"; release(): void };

function disk(): Disk & { around(store: LogStore): LogStore } {
  const waiting: (() => void)[] = [];
  const made: Disk & { around(store: LogStore): LogStore } = {
    behave: "write",
    release() {
      made.behave = "write";
      for (const each of waiting.splice(0)) each();
    },
    around: (store) => ({
      ...store,
      async write(chunk) {
        if (made.behave === "hang") await new Promise<void>((resolve) => waiting.push(resolve));
        if (made.behave === "fail") throw new Error("no space left on device");
        await store.write(chunk);
      },
    }),
  };
  return made;
}

type Side = {
  readonly core: AuditLog;
  readonly stream: AuditStream;
  readonly disk: Disk;
  readonly damaged: string[];
  readonly records: () => readonly LogRecord[];
};

const KEYS = Array.from({ length: 9 }, (_, at) => testSigner(`key ${at}`));

/** A core log with so many records, in segments of so many, and then a stream beside it. */
async function sides(base: string, before: number, perSegment = 1_000_000): Promise<Side> {
  const coreDir = join(base, "log");
  const [logDir, stateDir] = [join(coreDir, "audit"), join(base, "state")];
  prepareLogDirectory(coreDir);
  const signer = KEYS[0] as (typeof KEYS)[number];
  const made: { stream: AuditStream | null; rotations: number } = { stream: null, rotations: 0 };
  const core = openLog({
    store: createSegment(coreDir, 0),
    head: fakeHead(),
    signer,
    clock: testClock(),
    tail: emptyTail(),
    origin: nameOf(signer),
    successor: {
      key: () => KEYS[++made.rotations] as (typeof KEYS)[number],
      store: (firstSeq) => createSegment(coreDir, firstSeq),
      took: () => undefined,
    },
    onRecord: (record) => made.stream?.take(record),
    onFailed: (cause) => {
      throw cause;
    },
  });
  for (let n = 0; n < before; n++) {
    await core.append(decision(`record ${n}`)).durable;
    if (n % perSegment === perSegment - 1) await core.rotate();
  }
  await core.drain();
  const slow = disk();
  const damaged: string[] = [];
  const stream = createAuditStream({
    prepare: () => {
      prepareLogDirectory(logDir);
      prepareStateDirectory(stateDir);
    },
    place: placeOf(logDir, stateDir, slow.around),
    head: () => openHeadFile(stateDir),
    store: (firstSeq) => slow.around(createSegment(logDir, firstSeq)),
    lines: (from, through, maxLines) =>
      readLines(logDir, segmentsOf(logDir), { from, through, maxLines, maxBytes: 60_000 }),
    lastLine: (wanted) => lastLine(logDir, segmentsOf(logDir), wanted),
    core: {
      key: signer.vkey,
      origin: nameOf(signer),
      size: core.head().note === "" ? 0 : core.head().size + 1,
      head: core.head(),
      files: {
        segments: () => segmentsOf(coreDir),
        firstLine: (file) => firstLineOf(coreDir, file),
        snapshot: (wanted) => lastSnapshot(coreDir, wanted),
        read: (place) => readLogFrom(coreDir, place),
      },
    },
    clock: testClock(),
    limits: { segmentBytes: 1_000_000, segmentAgeMs: 1_000_000_000 },
    damaged: (what) => void damaged.push(what),
    began: () => undefined,
  });
  made.stream = stream;
  const records = () =>
    readdirSync(logDir)
      .filter((name) => name.endsWith(".jsonl"))
      .flatMap((name) => readFileSync(join(logDir, name), "utf8").split("\n").slice(0, -1).map(recordOf));
  return { core, stream, disk: slow, damaged, records };
}

function placeOf(logDir: string, stateDir: string, around: (store: LogStore) => LogStore): LogPlace {
  const place = logPlaceAt({ logDir, stateDir });
  return {
    ...place,
    create: (firstSeq) => around(place.create(firstSeq)),
    open: (file, size) => around(place.open(file, size)),
  };
}

/** Every number that the stream has told, in order. */
const covered = (side: Side) =>
  side.records().flatMap((record) => {
    const span = spanIn(record);
    return span ? Array.from({ length: span.last - span.first + 1 }, (_, at) => span.first + at) : [];
  });
const upTo = (size: number, from = 0) => Array.from({ length: size - from }, (_, at) => from + at);
const sizeOf = (side: Side) => side.core.head().size + 1;

async function decide(side: Side, times: number): Promise<void> {
  for (let n = 0; n < times; n++) await side.core.append(decision("more")).durable;
}

async function end(side: Side): Promise<void> {
  await side.core.close();
  await side.stream.close();
}

describe("an audit stream", () => {
  test("is made from a log that is there, while the log goes on", async () => {
    using dir = tempDirectory();
    const side = await sides(dir.path, 700, 200);
    const opening = side.stream.open();
    await decide(side, 50);
    await opening;
    side.stream.tick();
    await decide(side, 50);
    await end(side);
    expect(covered(side)).toEqual(upTo(sizeOf(side)));
    expect(side.damaged).toEqual([]);
  });

  test("begins where the log begins, when what was before is gone", async () => {
    using dir = tempDirectory();
    const side = await sides(dir.path, 300, 100);
    const [first, second] = segmentsOf(join(dir.path, "log"));
    rmSync(join(dir.path, "log", first?.file ?? ""));
    await side.stream.open();
    await end(side);
    const from = second?.firstSeq ?? 0;
    expect(from).toBeGreaterThan(100);
    expect(covered(side)).toEqual(upTo(sizeOf(side), from));
    expect(side.records().map(coreIn).filter(Boolean)).toMatchObject([{ from, began: "" }]);
  });

  test("on a disk that hangs holds up nothing, and what it could not hold it reads again", async () => {
    using dir = tempDirectory();
    const side = await sides(dir.path, 5);
    await side.stream.open();
    side.disk.behave = "hang";
    await decide(side, 5);
    side.stream.tick(); // hangs
    await decide(side, 11_000); // two runs each: more than it holds
    expect(side.core.state()).toBe("writing");
    expect(side.stream.state().kind).toBe("behind");
    side.disk.release();
    await expect
      .poll(() => {
        side.stream.tick();
        return side.stream.state().kind;
      })
      .toBe("writing");
    await decide(side, 5);
    await end(side);
    expect(covered(side)).toEqual(upTo(sizeOf(side)));
    expect(side.damaged).toEqual([]);
  });

  test("on a disk that fails says so once, ends, and the log goes on", async () => {
    using dir = tempDirectory();
    const side = await sides(dir.path, 5);
    await side.stream.open();
    side.disk.behave = "fail";
    await decide(side, 5);
    side.stream.tick();
    await expect.poll(() => side.stream.state().kind).toBe("failed");
    const before = covered(side);
    side.stream.tick();
    await decide(side, 5);
    expect(side.core.state()).toBe("writing");
    expect(side.damaged).toEqual(["write-failed"]);
    expect(side.stream.state().why).toContain("no space left");
    expect((await side.stream.lines(0, 10)).lines.length).toBeGreaterThan(0);
    await end(side);
    expect(covered(side)).toEqual(before);
  });

  test("whose key cannot be read is told, and refuses to be read", async () => {
    using dir = tempDirectory();
    const side = await sides(dir.path, 5);
    prepareStateDirectory(join(dir.path, "state"));
    writeFileSync(join(dir.path, "state", "log.key"), "no key", { mode: 0o600 });
    await side.stream.open();
    expect(side.damaged).toEqual(["write-failed"]);
    expect(await codeOf(() => side.stream.head())).toBe("log-unavailable");
    expect(await codeOf(() => side.stream.lines(0, 1))).toBe("log-unavailable");
    await decide(side, 5);
    await end(side);
  });

  test("asked before it was opened waits for that", async () => {
    using dir = tempDirectory();
    const side = await sides(dir.path, 5);
    const asked = side.stream.head();
    await side.stream.open();
    expect((await asked).vkey).toMatch(/^boundary-daemon\//);
    await end(side);
  });

  test("stopped while it reads the log again goes on at the next start", async () => {
    using dir = tempDirectory();
    const side = await sides(dir.path, 3_000);
    const opening = side.stream.open();
    while (side.stream.state().kind === "opening") await new Promise(setImmediate);
    await end(side);
    await opening;
    const told = covered(side);
    expect(told).toEqual(upTo(told.length));
    expect(told.length).toBeLessThan(sizeOf(side));
  });
});
