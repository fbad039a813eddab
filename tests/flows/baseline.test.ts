import { describe, expect, test } from "vitest";
import type { Entry } from "../../daemon/audit/record.ts";
import { type Baseline, type BaselineParts, createBaseline } from "../../daemon/baseline.ts";
import { BoundaryError } from "../../daemon/core/errors.ts";
import { baselineDigest, type FileState } from "../../daemon/core/fingerprint.ts";
import type { Signal } from "../../daemon/core/signal.ts";
import { MAX_FRAME_BYTES } from "../../daemon/protocol/messages.ts";
import { fileState, settled, trip } from "../support/host.ts";

const OWN = "/opt/daemon/main.ts";
const WATCHED = "/etc/watched";
const WINDOW_MS = 60_000;

type Stored = readonly FileState[] | null;

/** A store as the real one is: what is prepared is beside, and either is found by what the log signed. */
function setUp(stored: Stored, found: readonly FileState[]) {
  const entries: Entry[] = [];
  const told: string[] = [];
  const signals: Signal[] = [];
  const disk = {
    stored,
    beside: null as Stored,
    found,
    unsettled: new Set<string>(),
    saves: 0,
    nowMs: 1_000,
    fails: "nothing" as "nothing" | "prepare" | "append" | "durable" | "commit",
    onPrepare: () => {},
  };
  const quiet = { info: () => undefined, warn: () => undefined };
  const parts: BaselineParts = {
    memory: () => ({ states: disk.found, unsettled: disk.unsettled }),
    snapshot: async () => disk.found,
    store: {
      path: "/state/baseline.json",
      load(isSigned) {
        for (const states of [disk.stored, disk.beside]) {
          if (states !== null && isSigned(states)) return { kind: "states", states };
        }
        return disk.stored === null ? { kind: "missing" } : { kind: "unreadable", why: "is another" };
      },
      async prepare(states) {
        if (disk.fails === "prepare") throw new BoundaryError("state-unwritable", "writing");
        disk.beside = states;
        disk.saves += 1;
        disk.onPrepare();
        return {
          async commit() {
            if (disk.fails === "commit") throw new BoundaryError("state-unwritable", "renaming");
            disk.stored = states;
          },
        };
      },
    },
    self: [{ path: "/opt/daemon/", part: "program" }],
    tripwires: [trip("watched", "file.changed"), trip("own", "self.changed", { acrossStop: "note" })],
    append: (entry) => {
      if (disk.fails === "append") throw new BoundaryError("log-unavailable", "appending");
      entries.push(entry);
      return { durable: disk.fails === "durable" ? Promise.reject(new Error("EIO")) : Promise.resolve() };
    },
    tell: (signal) => void signals.push(signal),
    seenNs: () => BigInt(disk.nowMs) * 1_000_000n,
    renewEveryMs: WINDOW_MS,
    opLog: { ...quiet, error: (_fields, message) => void told.push(message) },
  };
  const digest = stored === null ? "" : baselineDigest(stored);
  const before = { kind: "clean", mode: "OPEN", digest, lastAt: "t", sameBoot: true } as const;
  return { baseline: createBaseline(parts), before, entries, disk, told, signals };
}

const one = fileState(WATCHED, "one");
const program = fileState(OWN, "p1");
const program2 = fileState(OWN, "p2");
const changesNow = async (baseline: Baseline) => (await baseline.compare()).changes;
const kinds = (entries: readonly Entry[]) => entries.map((entry) => entry.kind);
const loosened = async () => "loosened";
/** More than a record or a frame holds: 100 paths of 950 bytes, and one that JSON makes six times as long. */
const LONG = [
  fileState(`/${"\u0001".repeat(4_000)}`, "x"),
  ...Array.from({ length: 100 }, (_, i) => fileState(`/${"p".repeat(945)}${i}`, "x")),
];

async function tickAndSettle(baseline: Baseline): Promise<void> {
  baseline.tick();
  await settled();
}

describe("the gap check", () => {
  test("tells what changed, trips where a tripwire minds it, and accepts the rest", async () => {
    const found = [fileState(WATCHED, "two"), program2];
    const { baseline, before, entries, disk } = setUp([one, program], found);
    const signals = await baseline.begin(before);
    expect(signals.map((signal) => signal.facts["path"])).toEqual([WATCHED]);
    expect(entries).toMatchObject([
      { kind: "gap", data: { count: 2, ended: "clean" } },
      { kind: "baseline.set", data: { changes: [OWN] } },
    ]);
    expect(disk.stored).toEqual([one, found[1]]);
    expect(await changesNow(baseline)).toEqual([`${WATCHED} modified`]);
  });

  test("after a crash accepts nothing: a person will have to", async () => {
    const { baseline, before, entries } = setUp([program], [program2]);
    expect(await baseline.begin({ ...before, kind: "crash" })).toEqual([]);
    baseline.noted(OWN);
    await tickAndSettle(baseline);
    expect(kinds(entries)).toEqual(["gap"]);
    expect(await changesNow(baseline)).toEqual([`${OWN} modified`]);
  });

  test("a baseline that the log did not sign is a signal about ourselves", async () => {
    const { baseline, before } = setUp([one], [one]);
    const signals = await baseline.begin({ ...before, digest: "another" });
    expect(signals).toMatchObject([{ kind: "self.changed", facts: { part: "baseline" } }]);
    expect(await changesNow(baseline)).toHaveLength(1);
  });

  test("inode numbers mean nothing after a reboot", async () => {
    const { baseline, before, entries } = setUp([one], [{ ...one, inode: "9:9" }]);
    expect(await baseline.begin({ ...before, sameBoot: false })).toEqual([]);
    expect(entries).toMatchObject([{ kind: "gap", data: { count: 0 } }]);
  });

  test("what tripped while the sensors started is not taken over, whatever a stop would allow", async () => {
    const { baseline, before, entries } = setUp([program], [program2]);
    baseline.tripped(OWN);
    await baseline.begin(before);
    expect(kinds(entries)).toEqual(["gap"]);
    expect(await changesNow(baseline)).toEqual([`${OWN} modified`]);
  });

  test("a file that does not hold still counts as changed, and is taken over when it does", async () => {
    const { baseline, before, entries, disk } = setUp([program], [program]);
    disk.unsettled.add(OWN);
    await baseline.begin(before);
    expect(entries).toMatchObject([{ kind: "gap", data: { changes: [`${OWN} modified`] } }]);
    disk.unsettled.clear();
    disk.found = [program2];
    await tickAndSettle(baseline);
    expect(disk.stored).toEqual([program2]);
  });

  test("more changes than a record holds are cut off and counted", async () => {
    const { baseline, before, entries } = setUp([], LONG);
    await baseline.begin({ ...before, mode: "OPEN" });
    const [gap] = entries;
    expect(gap?.data["count"]).toBe(LONG.length);
    expect(JSON.stringify(gap).length).toBeLessThan(20_000);
    expect(gap?.data["changes"]).not.toEqual([]);
    expect(JSON.stringify(baseline.pendingChanges())).toMatch(/and \d+ more/);
    expect(JSON.stringify(baseline.pendingChanges()).length).toBeLessThan(20_000);
  });
});

describe("a first start", () => {
  const first = { kind: "first", mode: "OPEN", digest: "", lastAt: "", sameBoot: true } as const;

  test("takes what is there, but not what has tripped already", async () => {
    const { baseline, disk } = setUp(null, [one, program]);
    baseline.tripped(WATCHED);
    expect(await baseline.begin(first)).toEqual([]);
    expect(disk.stored).toEqual([program]);
    expect(await changesNow(baseline)).toEqual([`${WATCHED} created`]);
  });

  test("that was stopped before it had looked is a first start once more", async () => {
    const { baseline, before, entries, disk } = setUp(null, [one]);
    expect(await baseline.begin(before)).toEqual([]);
    expect(kinds(entries)).toEqual(["gap", "baseline.set"]);
    expect(disk.stored).toEqual([one]);
  });

  test.each([
    ["crashed", { kind: "crash", digest: "" }],
    ["had a baseline, which is gone", { kind: "clean", digest: "signed" }],
  ] as const)("that %s is none", async (_what, over) => {
    const { baseline, before, disk } = setUp(null, [one]);
    expect(await baseline.begin({ ...before, ...over })).toMatchObject([{ facts: { change: "missing" } }]);
    expect(disk.stored).toBeNull();
  });

  test.each(["prepare", "append", "durable"] as const)(
    "whose baseline cannot be kept (%s) goes on, closed",
    async (fails) => {
      const { baseline, disk } = setUp(null, [one]);
      disk.fails = fails;
      expect(await baseline.begin(first)).toMatchObject([{ kind: "self.changed" }]);
      expect(await changesNow(baseline)).toHaveLength(1);
    },
  );
});

describe("what is only noted", () => {
  test("is taken over, and nothing else", async () => {
    const { baseline, before, disk } = setUp([one, program], [one, program]);
    await baseline.begin(before);
    disk.found = [fileState(WATCHED, "two"), program2];
    baseline.noted(OWN);
    await tickAndSettle(baseline);
    expect(disk.stored?.map((state) => state.sha256).toSorted()).toEqual(["one", "p2"]);
  });

  test("is taken over once in the window, however often it changes, the first time at once", async () => {
    const { baseline, before, disk } = setUp([program], [program]);
    await baseline.begin(before);
    for (let i = 0; i < 40; i++) {
      disk.found = [fileState(OWN, `content ${i}`)];
      baseline.noted(OWN);
      disk.nowMs += 50;
      await tickAndSettle(baseline);
    }
    expect(disk.saves).toBe(1);
    disk.nowMs += WINDOW_MS;
    await tickAndSettle(baseline);
    expect(disk.saves).toBe(2);
    expect(disk.stored).toEqual(disk.found);
  });

  test("is not asked of a person while it waits", async () => {
    const { baseline, before, disk } = setUp([program], [program]);
    await baseline.begin(before);
    disk.found = [program2];
    baseline.noted(OWN);
    expect(await changesNow(baseline)).toEqual([]);
  });

  test.each([
    ["before", (baseline: Baseline) => baseline.tripped(OWN), (baseline: Baseline) => baseline.noted(OWN)],
    ["after", (baseline: Baseline) => baseline.noted(OWN), (baseline: Baseline) => baseline.tripped(OWN)],
  ] as const)("and tripped %s that is not taken over", async (_when, firstly, then) => {
    const { baseline, before, disk, entries } = setUp([program], [program]);
    await baseline.begin(before);
    disk.found = [program2];
    firstly(baseline);
    then(baseline);
    await tickAndSettle(baseline);
    expect(kinds(entries)).toEqual(["gap"]);
    expect(await changesNow(baseline)).toEqual([`${OWN} modified`]);
  });

  test("and tripped while it is being written is not taken over, and the rest is", async () => {
    const other = fileState("/opt/daemon/other.ts", "o1");
    const { baseline, before, disk } = setUp([program, other], [program, other]);
    await baseline.begin(before);
    disk.found = [program2, { ...other, sha256: "o2" }];
    disk.onPrepare = () => baseline.tripped(OWN);
    for (const { path } of disk.found) baseline.noted(path);
    await tickAndSettle(baseline);
    expect(disk.stored?.map((state) => state.sha256).toSorted()).toEqual(["o2", "p1"]);
  });

  test("is not taken over any more when more has tripped than can be remembered", async () => {
    const { baseline, before, disk, entries } = setUp([program], [program]);
    await baseline.begin(before);
    for (let i = 0; i <= 10_000; i++) baseline.tripped(`/burst/${i}`);
    disk.found = [program2];
    baseline.noted(OWN);
    await tickAndSettle(baseline);
    expect(kinds(entries)).toEqual(["gap"]);
    await baseline.acceptWith(await baseline.compare(), "ana", loosened);
    disk.found = [fileState(OWN, "p3")];
    baseline.noted(OWN);
    await tickAndSettle(baseline);
    expect(disk.stored).toEqual(disk.found);
  });

  test("and cannot be written is told, and tried again", async () => {
    const { baseline, before, disk, told, signals } = setUp([program], [program]);
    await baseline.begin(before);
    disk.found = [program2];
    disk.fails = "prepare";
    baseline.noted(OWN);
    await tickAndSettle(baseline);
    expect(told).toEqual(["the baseline could not be renewed"]);
    baseline.recheck();
    expect(signals).toEqual([]);
    disk.fails = "nothing";
    disk.nowMs += WINDOW_MS;
    await tickAndSettle(baseline);
    expect(disk.stored).toEqual([program2]);
  });
});

describe("a re-hash against the baseline", () => {
  test("signals what no event told of, and only that", async () => {
    const { baseline, before, disk, signals } = setUp([one, program], [one, program]);
    await baseline.begin(before);
    baseline.recheck();
    expect(signals).toEqual([]);
    disk.found = [fileState(WATCHED, "two"), program2];
    baseline.noted(OWN);
    baseline.recheck();
    expect(signals).toMatchObject([{ kind: "file.changed", facts: { path: WATCHED, change: "modified" } }]);
    baseline.tripped(WATCHED);
    baseline.recheck();
    expect(signals).toHaveLength(1);
  });

  test("leaves alone what does not hold still, and what the gap has told", async () => {
    const { baseline, before, disk, signals } = setUp([one, program], [one, program2]);
    await baseline.begin({ ...before, kind: "crash" });
    disk.found = [fileState(WATCHED, "two"), program2];
    disk.unsettled.add(WATCHED);
    baseline.recheck();
    expect(signals).toEqual([]);
  });
});

describe("a person", () => {
  async function changed() {
    const host = setUp([one], [one]);
    await host.baseline.begin(host.before);
    host.disk.found = [fileState(WATCHED, "two")];
    host.baseline.tripped(WATCHED);
    return host;
  }

  test("is asked nothing about a file put back as it was", async () => {
    const { baseline, disk } = await changed();
    disk.found = [{ ...one, inode: "7:7" }];
    expect(await changesNow(baseline)).toEqual([]);
    expect(baseline.pendingChanges()).toEqual([]);
  });

  test("accepts exactly what was shown", async () => {
    const { baseline, disk } = await changed();
    const shown = await baseline.show();
    disk.found = [fileState(WATCHED, "three")];
    await baseline.acceptWith(shown, "ana", loosened);
    expect(await changesNow(baseline)).toEqual([`${WATCHED} modified`]);
  });

  test("is told when it is no longer what was shown", async () => {
    const { baseline, disk } = await changed();
    expect(baseline.isAsShown(await baseline.compare())).toBe(false);
    await baseline.show();
    expect(baseline.isAsShown(await baseline.compare())).toBe(true);
    disk.found = [{ ...one, sha256: "two", inode: "7:7" }];
    expect(baseline.isAsShown(await baseline.compare())).toBe(true);
    disk.found = [fileState(WATCHED, "owt")];
    expect(baseline.isAsShown(await baseline.compare())).toBe(false);
  });

  test("accepts nothing of what trips after the look", async () => {
    const { baseline, disk } = await changed();
    const shown = await baseline.show();
    await baseline.acceptWith(shown, "ana", async () => baseline.tripped(WATCHED));
    disk.found = [fileState(WATCHED, "three")];
    baseline.noted(WATCHED);
    await tickAndSettle(baseline);
    expect(await changesNow(baseline)).toEqual([`${WATCHED} modified`]);
  });

  test("whose baseline cannot be written loosens nothing", async () => {
    const { baseline, disk } = await changed();
    disk.fails = "prepare";
    let asked = 0;
    const accepting = baseline.acceptWith(await baseline.show(), "ana", async () => ++asked);
    await expect(accepting).rejects.toMatchObject({ code: "state-unwritable" });
    expect(asked).toBe(0);
  });

  test("who is refused accepts nothing, and the next start finds the old baseline", async () => {
    const { baseline, before, disk, entries } = await changed();
    const accepting = baseline.acceptWith(await baseline.show(), "ana", async () => {
      throw new Error("wrong code");
    });
    await expect(accepting).rejects.toThrow("wrong code");
    expect(kinds(entries)).toEqual(["gap"]);
    expect(disk.stored).toEqual([one]);
    expect(baselineDigest(disk.stored ?? [])).toBe(before.digest);
    expect(await changesNow(baseline)).toEqual([`${WATCHED} modified`]);
  });

  test.each(["commit", "durable"] as const)(
    "and a failure after the record (%s) leaves both baselines to be found",
    async (fails) => {
      const { baseline, disk } = await changed();
      disk.fails = fails;
      await baseline.acceptWith(await baseline.show(), "ana", loosened).catch(() => undefined);
      disk.fails = "nothing";
      const next = [disk.stored, disk.beside].map((states) => states?.[0]?.sha256);
      expect(next).toEqual(["one", "two"]);
      disk.found = [fileState(WATCHED, "three")];
      const again = baseline.acceptWith(await baseline.show(), "ana", loosened);
      // nobody knows which one the log has: neither may be written over
      if (fails === "durable") await expect(again).rejects.toMatchObject({ code: "log-unavailable" });
      else await again;
    },
  );

  test("accepts more than a record holds", async () => {
    const { baseline, disk, entries } = await changed();
    disk.found = [one, ...LONG];
    const seen = await baseline.show();
    expect(seen.changes).toHaveLength(LONG.length);
    await baseline.acceptWith(seen, "ana", loosened);
    expect(JSON.stringify(entries.at(-1)).length).toBeLessThan(MAX_FRAME_BYTES / 3);
    expect(await changesNow(baseline)).toEqual([]);
  });
});
