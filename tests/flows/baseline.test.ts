import { describe, expect, test } from "vitest";
import type { Entry } from "../../daemon/audit/record.ts";
import { type BaselineParts, createBaseline } from "../../daemon/baseline.ts";
import { baselineDigest, type FileState } from "../../daemon/core/fingerprint.ts";
import { fileState, settled, trip } from "../support/host.ts";

const OWN = "/opt/daemon/main.ts";
const WATCHED = "/etc/watched";

function setUp(stored: readonly FileState[], found: readonly FileState[]) {
  const entries: Entry[] = [];
  const disk = { stored, found };
  const parts: BaselineParts = {
    snapshot: async () => disk.found,
    store: {
      path: "/state/baseline.json",
      load: () => ({ kind: "states", states: disk.stored }),
      save: (states) => {
        disk.stored = states;
      },
    },
    self: [{ path: "/opt/daemon/", part: "program" }],
    tripwires: [trip("watched", "file.changed"), trip("own", "self.changed", { acrossStop: "note" })],
    append: (entry) => void entries.push(entry),
    seenNs: () => 1n,
  };
  const before = {
    kind: "clean",
    mode: "OPEN",
    digest: baselineDigest(stored),
    lastAt: "t",
    sameBoot: true,
  } as const;
  return { baseline: createBaseline(parts), before, entries, disk };
}

const one = fileState(WATCHED, "one");
const program = fileState(OWN, "p1");

describe("the gap check", () => {
  test("tells what changed, trips where a tripwire minds it, and accepts the rest", async () => {
    const found = [fileState(WATCHED, "two"), fileState(OWN, "p2")];
    const { baseline, before, entries, disk } = setUp([one, program], found);
    const signals = await baseline.begin(before);
    expect(signals.map((signal) => signal.facts["path"])).toEqual([WATCHED]);
    expect(entries).toMatchObject([
      { kind: "gap", data: { count: 2, ended: "clean" } },
      { kind: "baseline.set", data: { changes: [OWN] } },
    ]);
    expect(disk.stored).toEqual([one, found[1]]);
    expect((await baseline.compare()).changes).toEqual([`${WATCHED} modified`]);
  });

  test("after a crash accepts nothing: a person will have to", async () => {
    const { baseline, before, entries } = setUp([program], [fileState(OWN, "p2")]);
    expect(await baseline.begin({ ...before, kind: "crash" })).toEqual([]);
    expect(entries.map((entry) => entry.kind)).toEqual(["gap"]);
    expect((await baseline.compare()).changes).toEqual([`${OWN} modified`]);
  });

  test("a baseline that the log did not sign is a signal about ourselves", async () => {
    const { baseline, before } = setUp([one], [one]);
    const signals = await baseline.begin({ ...before, digest: "another" });
    expect(signals).toMatchObject([{ kind: "self.changed", facts: { part: "baseline" } }]);
    expect((await baseline.compare()).changes).toHaveLength(1);
  });

  test("inode numbers mean nothing after a reboot", async () => {
    const { baseline, before, entries } = setUp([one], [{ ...one, inode: "9:9" }]);
    expect(await baseline.begin({ ...before, sameBoot: false })).toEqual([]);
    expect(entries).toMatchObject([{ kind: "gap", data: { count: 0 } }]);
  });
});

describe("the baseline", () => {
  test("takes over what was only noted, and nothing else", async () => {
    const { baseline, before, disk } = setUp([one, program], [one, program]);
    await baseline.begin(before);
    disk.found = [fileState(WATCHED, "two"), fileState(OWN, "p2")];
    baseline.noted(OWN);
    baseline.tick();
    await settled();
    expect(disk.stored.map((state) => state.sha256).toSorted()).toEqual(["one", "p2"]);
  });

  test("a file put back as it was is no change", async () => {
    const { baseline, before, disk } = setUp([one], [one]);
    await baseline.begin(before);
    baseline.tripped(WATCHED);
    disk.found = [{ ...one, inode: "7:7" }];
    expect((await baseline.compare()).changes).toEqual([]);
    expect(baseline.pendingChanges()).toEqual([]);
  });

  test("accepts exactly what was shown", async () => {
    const { baseline, before, disk } = setUp([one], [one]);
    await baseline.begin(before);
    disk.found = [fileState(WATCHED, "two")];
    const shown = await baseline.compare();
    disk.found = [fileState(WATCHED, "three")];
    await baseline.accept(shown, "ana");
    expect((await baseline.compare()).changes).toEqual([`${WATCHED} modified`]);
  });
});
