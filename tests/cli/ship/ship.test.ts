import {
  appendFileSync,
  mkdirSync,
  promises,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { backoffMs } from "../../../cli/ship/backoff.ts";
import { type CursorStore, openCursor, parseCursor } from "../../../cli/ship/cursor.ts";
import { parseDestination } from "../../../cli/ship/destination.ts";
import { type Pace, type ShipEvent, type ShipParts, shipLog } from "../../../cli/ship/ship.ts";
import type { Sink } from "../../../cli/ship/sink.ts";
import { openTail } from "../../../cli/ship/tail.ts";
import { signNote } from "../../../daemon/audit/checkpoint.ts";
import { BoundaryError } from "../../../daemon/core/errors.ts";
import { codeOf, ORIGIN, testSigner } from "../../audit/fixture.ts";
import { evenLog, putLog, type RealLog, realLog, shipDirectory, textOf } from "../../support/real-log.ts";

const LOG = await evenLog({ segments: 3, batches: 4, perBatch: 3 });
const ALL = LOG.lines;
const OTHER_KEY = await realLog([[1]], { word: "another" });
const OTHER = await evenLog({ segments: 1, batches: 9, perBatch: 5, data: (seq) => ({ other: seq }) });
const PACE: Pace = { pollMs: 5, confirmMs: 10, confirmBytes: 2_000, retryMs: () => 1 };

let base: ReturnType<typeof shipDirectory>;
let logDir: string;
let cursorFile: string;
beforeEach(() => {
  base = shipDirectory();
  logDir = join(base.path, "log");
  cursorFile = join(base.path, "cursor");
});
afterEach(() => base.remove());

type FakeSink = Sink & { readonly kept: string[]; readonly confirmed: () => number };

/** Keeps what it gets; `failAt` says which calls fail, counted from 0: before anything of the call, or after all. */
function fakeSink(failAt: (call: number) => "no" | "before" | "after" = () => "no"): FakeSink {
  const kept: string[] = [];
  let confirmed = 0;
  let calls = 0;
  const call = (work: () => void): void => {
    const how = failAt(calls++);
    if (how === "before") throw new BoundaryError("ship-failed", "a test");
    work();
    if (how === "after") throw new BoundaryError("ship-failed", "a test");
  };
  return {
    name: "fake:sink",
    kept,
    confirmed: () => confirmed,
    write: async (lines) => call(() => kept.push(...lines.map((line) => line.text))),
    confirm: async () =>
      call(() => {
        confirmed = kept.length;
      }),
    close: async () => undefined,
  };
}

type Shipping = { readonly done: Promise<void>; readonly events: ShipEvent[]; stop(): Promise<void> };

function start(sink: Sink, changes: Partial<ShipParts> = {}): Shipping {
  const events: ShipEvent[] = [];
  const told = new AbortController();
  const done = shipLog({
    directory: logDir,
    vkey: LOG.vkey,
    sink,
    cursor: openCursor(cursorFile, sink.name),
    mode: "once",
    signal: told.signal,
    tell: (event) => events.push(event),
    pace: PACE,
    ...changes,
  });
  done.catch(() => undefined);
  return {
    done,
    events,
    stop: () => {
      told.abort();
      return done;
    },
  };
}

async function once(sink: Sink, changes: Partial<ShipParts> = {}): Promise<readonly ShipEvent[]> {
  const shipping = start(sink, changes);
  await shipping.done;
  return shipping.events;
}

async function until(what: () => boolean): Promise<void> {
  for (let left = 400; !what(); left--) {
    if (left === 0) throw new Error("it did not come to that");
    await sleep(10);
  }
}

/** What a reader makes of lines that came at least once: each once, in the order of their first coming. */
const without = (lines: readonly string[]): readonly string[] => [...new Set(lines)];

describe("once", () => {
  test("ships what there is, then what has come since", async () => {
    const [first, second] = LOG.segments;
    mkdirSync(logDir);
    writeFileSync(join(logDir, first?.name ?? ""), textOf(first?.lines ?? []));
    const sink = fakeSink();
    await once(sink);
    expect(sink.kept).toEqual(first?.lines);
    await once(sink);
    expect(sink.kept).toEqual(first?.lines);
    writeFileSync(join(logDir, second?.name ?? ""), textOf(second?.lines ?? []));
    const events = await once(sink);
    expect(sink.kept).toEqual([...(first?.lines ?? []), ...(second?.lines ?? [])]);
    expect(events[0]).toEqual({ event: "from-cursor", next: first?.lines.length });
    expect(events.at(-1)).toMatchObject({ event: "confirmed", through: sink.kept.length - 1 });
  });

  test("what no seal covers is not shipped", async () => {
    mkdirSync(logDir);
    writeFileSync(join(logDir, LOG.segments[0]?.name ?? ""), textOf(ALL.slice(0, 5)));
    const sink = fakeSink();
    await once(sink);
    expect(sink.kept).toEqual(ALL.slice(0, 2));
  });

  test("one failure ends it, and the cursor stays", async () => {
    putLog(logDir, LOG);
    expect(await codeOf(() => once(fakeSink(() => "before")))).toBe("ship-failed");
    expect(openCursor(cursorFile, "fake:sink").load()).toBeNull();
  });

  test("no log is a fault", async () => {
    expect(await codeOf(() => once(fakeSink()))).toBe("log-unsafe");
  });

  test("a cursor that cannot be written is a fault", async () => {
    putLog(logDir, LOG);
    const cursor = openCursor(join(base.path, "no/such/cursor"), "fake:sink");
    expect(await codeOf(() => once(fakeSink(), { cursor }))).toBe("state-unwritable");
  });
});

describe("the cursor", () => {
  const saved = (log: RealLog, seal: number, to = "fake:sink"): string =>
    JSON.stringify({ byte: 0, file: "", note: log.notes[seal], to, v: 1 });
  const forged = (): string => {
    // tree and size are right, the key is another's of the same name
    const text = (LOG.notes[2] ?? "").split("\n\n")[0] ?? "";
    const note = signNote(`${text}\n`, testSigner("somebody else", ORIGIN));
    return JSON.stringify({ byte: 0, file: "", note, to: "fake:sink", v: 1 });
  };
  const rows: readonly [name: string, text: () => string][] = [
    ["of another log", () => saved(OTHER, 3)],
    ["of another log, and newer than this one's end", () => saved(OTHER, 9)],
    ["of another destination", () => saved(LOG, 3, "fake:other")],
    ["forged", forged],
    [
      "with the root of another seal",
      () => saved(LOG, 3).replace(/\\n[A-Za-z0-9+/]{43}=\\n/, `\\n${"A".repeat(43)}=\\n`),
    ],
    ["no JSON", () => "x"],
    ["empty", () => ""],
    ["long", () => "x".repeat(20_000)],
  ];
  test.each(rows)(
    "one that is %s is said so, and everything is shipped from the start",
    async (_name, text) => {
      putLog(logDir, LOG);
      writeFileSync(cursorFile, text());
      const sink = fakeSink();
      const events = await once(sink);
      expect(events[0]?.event).toBe("from-start");
      expect(events[0]).not.toMatchObject({ why: "there is no cursor" });
      expect(sink.kept).toEqual(ALL);
    },
  );

  test("a signature that was changed in place is noticed, though tree and size are right", async () => {
    putLog(logDir, LOG);
    const good = saved(LOG, 3);
    const at = good.lastIndexOf(" ") + 20;
    writeFileSync(cursorFile, good.slice(0, at) + (good[at] === "A" ? "B" : "A") + good.slice(at + 1));
    const sink = fakeSink();
    expect((await once(sink))[0]?.event).toBe("from-start");
    expect(sink.kept).toEqual(ALL);
  });

  test("from every seal on, what is shipped begins right after it", async () => {
    putLog(logDir, LOG);
    for (const [seal, note] of LOG.notes.entries()) {
      writeFileSync(cursorFile, saved(LOG, seal));
      const sink = fakeSink();
      await once(sink);
      expect(sink.kept).toEqual(ALL.slice(Number(note.split("\n")[1]) + 1));
    }
  });

  test("its own segment is read, and none before it", async () => {
    putLog(logDir, LOG);
    const seal = LOG.notes.length - 2;
    writeFileSync(cursorFile, saved(LOG, seal));
    for (const { name } of LOG.segments.slice(0, 2)) writeFileSync(join(logDir, name), "not looked at");
    const sink = fakeSink();
    await once(sink);
    expect(sink.kept).toEqual(ALL.slice(Number(LOG.notes[seal]?.split("\n")[1]) + 1));
  });

  test("a segment that begins with a lie is none that a cursor stands in", async () => {
    putLog(logDir, LOG);
    writeFileSync(cursorFile, saved(LOG, LOG.notes.length - 2));
    const path = join(logDir, LOG.segments[2]?.name ?? "");
    // another key than the one that was certified, in the first record alone
    const text = readFileSync(path, "utf8").replace(LOG.vkeys[2] ?? "", LOG.vkeys[1] ?? "");
    writeFileSync(path, text);
    const sink = fakeSink();
    const shipping = start(sink);
    expect(await codeOf(() => shipping.done)).toBe("log-broken");
    expect(shipping.events[0]).toEqual({ event: "from-start", why: "the log is broken before the cursor" });
    expect(sink.kept).toEqual(LOG.segments.slice(0, 2).flatMap(({ lines }) => lines));
  });

  test("any text is answered", () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.json()), (text) => {
        expect(parseCursor(text)).toEqual(expect.any(String));
      }),
    );
  });
});

describe("a sink that fails", () => {
  test("whenever and however: every line comes, in order, and the cursor is never ahead of what was confirmed", async () => {
    putLog(logDir, LOG);
    const how = fc.constantFrom("no" as const, "no" as const, "before" as const, "after" as const);
    await fc.assert(
      fc.asyncProperty(fc.array(how, { maxLength: 20 }), async (pattern) => {
        rmSync(cursorFile, { force: true });
        const sink = fakeSink((call) => pattern[call] ?? "no");
        const real = openCursor(cursorFile, sink.name);
        const cursor: CursorStore = {
          load: real.load,
          save: (saved) => {
            expect(sink.kept.slice(0, sink.confirmed())).toContain(ALL[saved.size]);
            real.save(saved);
          },
        };
        const shipping = start(sink, { mode: "follow", cursor });
        await until(() => sink.confirmed() > 0 && sink.kept.slice(0, sink.confirmed()).at(-1) === ALL.at(-1));
        await shipping.stop();
        expect(without(sink.kept)).toEqual(ALL);
      }),
      { numRuns: 25 },
    );
  });

  test("after a failure it goes on behind what was confirmed, not at the start", async () => {
    putLog(logDir, LOG);
    // a batch for each segment, each confirmed by itself: write, confirm, write, confirm, write
    const sink = fakeSink((call) => (call === 4 ? "before" : "no"));
    const shipping = start(sink, { mode: "follow", pace: { ...PACE, confirmBytes: 1 } });
    await until(() => sink.kept.length >= ALL.length);
    await shipping.stop();
    expect(sink.kept).toEqual(ALL);
    expect(shipping.events.filter((one) => one.event === "retry")).toHaveLength(1);
  });

  test("told to stop while it is away: no fault, and the cursor stays where it was", async () => {
    putLog(logDir, LOG);
    const sink = fakeSink((call) => (call === 0 ? "no" : "before"));
    const shipping = start(sink, { mode: "follow", pace: { ...PACE, confirmMs: 60_000, confirmBytes: 1e9 } });
    await until(() => sink.kept.length > 0);
    await shipping.stop();
    expect(["unconfirmed", "retry"]).toContain(shipping.events.at(-1)?.event);
    expect(openCursor(cursorFile, "fake:sink").load()).toBeNull();
  });

  test("each retry is told, and waits longer, up to a minute", async () => {
    putLog(logDir, LOG);
    const asked: number[] = [];
    const sink = fakeSink((call) => (call < 4 ? "before" : "no"));
    const pace = { ...PACE, retryMs: (failures: number) => asked.push(failures) };
    const shipping = start(sink, { mode: "follow", pace });
    await until(() => sink.confirmed() === ALL.length);
    await shipping.stop();
    expect(asked).toEqual([1, 2, 3, 4]);
    expect(shipping.events.filter((one) => one.event === "retry")).toHaveLength(4);
    expect([1, 2, 3, 7, 1_000].map((failures) => backoffMs(failures, 0))).toEqual([
      500, 1_000, 2_000, 30_000, 30_000,
    ]);
    expect([1, 2, 3, 7, 1_000].map((failures) => backoffMs(failures, 1))).toEqual([
      1_000, 2_000, 4_000, 60_000, 60_000,
    ]);
  });
});

describe("a log that grows", () => {
  test("is followed, byte by byte, over rotations, until we are told to stop", async () => {
    const sink = fakeSink();
    const shipping = start(sink, { mode: "follow" });
    await sleep(20);
    mkdirSync(logDir);
    for (const segment of LOG.segments) {
      const text = textOf(segment.lines);
      for (let at = 0; at < text.length; at += 1_777) {
        appendFileSync(join(logDir, segment.name), text.slice(at, at + 1_777));
        await sleep(3);
      }
    }
    await until(() => sink.kept.length === ALL.length);
    await shipping.stop();
    expect(sink.kept).toEqual(ALL);
    expect(sink.confirmed()).toBe(ALL.length);
  });

  test("a segment that grows just before the next one is made is read to its end", async () => {
    const [one = "", two = ""] = ["0", "9"].map((name) => `${name.padStart(20, "0")}.jsonl`);
    mkdirSync(logDir);
    writeFileSync(join(logDir, one), "a");
    const tail = openTail(logDir, { file: "", byte: 0 });
    const next = async (): Promise<string> => {
      const chunk = await tail.next();
      return typeof chunk === "string" ? chunk : Buffer.from(chunk.bytes).toString();
    };
    expect(await next()).toBe("a");
    const look = vi.spyOn(promises, "readdir").mockImplementationOnce(() => {
      appendFileSync(join(logDir, one), "b"); // after our read, before our look at the directory
      writeFileSync(join(logDir, two), "c");
      look.mockRestore();
      return promises.readdir(logDir) as never;
    });
    try {
      expect([await next(), await next(), await next()]).toEqual(["b", "c", "end"]);
    } finally {
      look.mockRestore();
      await tail.close();
    }
  });

  test("a torn end that a recovery cuts off and writes over is never shipped", async () => {
    const [first] = LOG.segments;
    const path = join(logDir, first?.name ?? "");
    const lines = first?.lines ?? [];
    const seal = lines.findLastIndex((line, n) => n < lines.length - 6 && line.includes('"kind":"seal"'));
    mkdirSync(logDir);
    const sound = textOf(lines.slice(0, seal + 1));
    writeFileSync(path, sound);
    appendFileSync(path, `${(lines[seal + 1] ?? "").replace(/"n":\d+/, '"n":0')}\n{"at":"20`);
    const sink = fakeSink();
    const shipping = start(sink, { mode: "follow" });
    await until(() => sink.kept.length === seal + 1);
    await sleep(30); // the torn end has been read
    truncateSync(path, Buffer.byteLength(sound));
    appendFileSync(path, textOf(lines.slice(seal + 1)));
    await until(() => sink.kept.length === lines.length);
    await shipping.stop();
    expect(sink.kept).toEqual(lines);
  });

  test("one that was pruned begins with a gap, once from the start and once after the cursor", async () => {
    putLog(logDir, LOG, 2);
    const kept = LOG.segments[2]?.lines ?? [];
    const from = ALL.length - kept.length;
    const sink = fakeSink();
    expect(await once(sink)).toContainEqual({ event: "gap", from: 0, to: from - 1 });
    expect(sink.kept).toEqual(kept);
    const note = LOG.notes[1] ?? "";
    writeFileSync(cursorFile, JSON.stringify({ byte: 0, file: "", note, to: "fake:sink", v: 1 }));
    const size = Number(note.split("\n")[1]);
    expect((await once(sink))[0]).toEqual({ event: "gap", from: size + 1, to: from - 1 });
  });

  test("a cursor at the end of what was pruned is good, and nothing is told as missing", async () => {
    putLog(logDir, LOG, 1);
    const through = (LOG.segments[0]?.lines.length ?? 0) - 1;
    const note = LOG.notes.find((one) => Number(one.split("\n")[1]) === through);
    writeFileSync(cursorFile, JSON.stringify({ byte: 0, file: "", note, to: "fake:sink", v: 1 }));
    const sink = fakeSink();
    expect((await once(sink))[0]).toEqual({ event: "from-cursor", next: through + 1 });
    expect(sink.kept).toEqual(ALL.slice(through + 1));
  });

  test("segments that are pruned while the server is away are told as a gap, and what is kept is sent", async () => {
    const [first, second, third] = LOG.segments;
    mkdirSync(logDir);
    writeFileSync(join(logDir, first?.name ?? ""), textOf(first?.lines ?? []));
    let away = false;
    const sink = fakeSink(() => (away ? "before" : "no"));
    const shipping = start(sink, { mode: "follow" });
    await until(() => sink.confirmed() === first?.lines.length);
    away = true;
    writeFileSync(join(logDir, second?.name ?? ""), textOf(second?.lines ?? []));
    await until(() => shipping.events.some(({ event }) => event === "retry"));
    putLog(logDir, LOG, 2);
    for (const pruned of [first, second]) rmSync(join(logDir, pruned?.name ?? ""));
    away = false;
    await until(() => sink.kept.at(-1) === ALL.at(-1) && sink.confirmed() === sink.kept.length);
    await shipping.stop();
    expect(sink.kept).toEqual([...(first?.lines ?? []), ...(third?.lines ?? [])]);
    const [from, to] = [first?.lines.length ?? 0, ALL.length - (third?.lines.length ?? 0) - 1];
    expect(shipping.events.filter(({ event }) => event === "gap")).toEqual([{ event: "gap", from, to }]);
  });

  test("a bad tombstone is a fault", async () => {
    putLog(logDir, LOG, 2);
    const path = join(logDir, (LOG.segments[1]?.name ?? "").replace("jsonl", "tombstone"));
    writeFileSync(path, (LOG.segments[1]?.tombstone ?? "").replace('"v":1', '"v":2'));
    expect(await codeOf(() => once(fakeSink()))).toBe("log-broken");
  });
});

describe("a log that was changed", () => {
  test("everything proven before the change is handed over and confirmed, then it is a fault", async () => {
    putLog(logDir, LOG);
    const path = join(logDir, LOG.segments[1]?.name ?? "");
    writeFileSync(path, readFileSync(path, "utf8").replace(/"n":(\d+)\}/, '"n":0}'));
    const sink = fakeSink();
    expect(await codeOf(() => once(sink))).toBe("log-broken");
    const [first] = LOG.segments;
    expect(sink.kept.slice(0, first?.lines.length)).toEqual(first?.lines);
    expect(sink.confirmed()).toBe(sink.kept.length);
    expect(sink.kept.length).toBeLessThan(ALL.length);
  });

  test("a fault that is gone within half a second was a write under way", async () => {
    putLog(logDir, LOG);
    const path = join(logDir, LOG.segments[1]?.name ?? "");
    const good = readFileSync(path);
    writeFileSync(path, good.toString().replace(/"n":(\d+)\}/, '"n":0}'));
    const sink = fakeSink();
    const shipping = start(sink);
    await sleep(500);
    writeFileSync(path, good);
    await shipping.done;
    expect(sink.kept).toEqual(ALL);
  });

  test("one that was moved aside is named, where another one stands in its place", async () => {
    putLog(logDir, OTHER_KEY);
    mkdirSync(join(logDir, "broken-20260102T030405.006Z"));
    const failed = await start(fakeSink()).done.catch((error: unknown) => error);
    expect(String(failed)).toMatch(/another key \(wrong-key\); .+ moved it to broken-20260102T030405.006Z/);
  });

  test("one that was moved aside is named, where another one of the same key stands in its place", async () => {
    putLog(logDir, LOG);
    await once(fakeSink());
    rmSync(logDir, { recursive: true });
    putLog(logDir, OTHER);
    mkdirSync(join(logDir, "broken-20260102T030405.006Z"));
    const [event] = await once(fakeSink());
    expect(event).toMatchObject({ event: "from-start", why: expect.stringContaining("to broken-2026") });
  });

  test("a file that is replaced, or taken away, while it is followed", async () => {
    for (const harm of ["replace", "remove"] as const) {
      rmSync(logDir, { recursive: true, force: true });
      rmSync(cursorFile, { force: true });
      putLog(logDir, LOG);
      const sink = fakeSink();
      const shipping = start(sink, { mode: "follow" });
      await until(() => sink.kept.length === ALL.length);
      const path = join(logDir, LOG.segments[2]?.name ?? "");
      rmSync(path);
      if (harm === "replace") {
        writeFileSync(`${path}.other`, textOf(LOG.segments[2]?.lines.slice(0, 4) ?? []));
        renameSync(`${path}.other`, path);
      }
      expect(await codeOf(() => shipping.done)).toBe("log-broken");
    }
  });
});

describe("--to", () => {
  test.each([
    ["tls://logs.example:1234", { kind: "tls", host: "logs.example", port: 1234 }],
    ["tls://[::1]", { kind: "tls", host: "::1", port: 6514 }],
    ["file:/a/b c", { kind: "file", path: "/a/b c" }],
  ])("%s", (text, destination) => {
    expect(parseDestination(text)).toEqual(destination);
  });

  test.each([
    "",
    "tcp://a:1",
    "tls://",
    "tls://a:0",
    "tls://a:65536",
    "tls://u@a",
    "tls://a/x",
    "file:",
    "file://a",
    "/a",
    "tls://a b",
  ])("%s is refused", async (text) => {
    expect(await codeOf(() => parseDestination(text))).toBe("argument-invalid");
  });

  test("any text is a destination or a usage error", async () => {
    await fc.assert(
      fc.asyncProperty(fc.string(), async (text) => {
        expect(["nothing thrown", "argument-invalid"]).toContain(await codeOf(() => parseDestination(text)));
      }),
    );
  });
});
