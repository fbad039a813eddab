import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  baselineDigest,
  diffStates,
  type FileState,
  fileSignal,
  missingState,
} from "../../daemon/core/fingerprint.ts";

const file: FileState = {
  path: "/f",
  kind: "file",
  sha256: "aa",
  size: 1,
  mode: 0o644,
  uid: 0,
  gid: 0,
  inode: "1:2",
};

const state = fc.record<FileState>({
  path: fc.constantFrom("/a", "/b", "/c", '/d"\n'),
  kind: fc.constantFrom("file", "directory", "link", "missing", "other", "unreadable"),
  sha256: fc.constantFrom("", "aa", "bb"),
  size: fc.nat(3),
  mode: fc.nat(3),
  uid: fc.nat(2),
  gid: fc.nat(2),
  inode: fc.constantFrom("1:1", "1:2"),
});
const states = fc.uniqueArray(state, { selector: (one) => one.path });

describe("diffStates", () => {
  test.each([
    ["nothing", {}, null],
    ["the content", { sha256: "bb" }, "modified"],
    ["the size", { size: 2 }, "modified"],
    ["the mode", { mode: 0o600 }, "metadata"],
    ["the owner", { uid: 1 }, "metadata"],
    ["the group", { gid: 1 }, "metadata"],
    ["the inode", { inode: "1:3" }, "replaced"],
    ["a link in its place", { kind: "link" }, "replaced"],
    ["content and inode", { sha256: "bb", inode: "1:3" }, "replaced"],
    ["that it cannot be read", { kind: "unreadable", sha256: "" }, "modified"],
  ] as const)("tells %s", (_what, difference, change) => {
    const found = diffStates([file], [{ ...file, ...difference }]);
    expect(found).toEqual(change === null ? [] : [{ path: "/f", change }]);
  });

  test("a path that one side lacks is created or deleted, like one that is missing there", () => {
    expect(diffStates([], [file])).toEqual([{ path: "/f", change: "created" }]);
    expect(diffStates([missingState("/f")], [file])).toEqual([{ path: "/f", change: "created" }]);
    expect(diffStates([file], [])).toEqual([{ path: "/f", change: "deleted" }]);
    expect(diffStates([missingState("/f")], [])).toEqual([]);
  });

  test("inodes of another boot may be ignored, contents not", () => {
    expect(diffStates([file], [{ ...file, inode: "9:9" }], "ignore")).toEqual([]);
    expect(diffStates([file], [{ ...file, inode: "9:9", sha256: "bb" }], "ignore")).toHaveLength(1);
  });

  test("is empty for a set and itself, and finds the same paths both ways", () => {
    fc.assert(
      fc.property(states, states, (a, b) => {
        expect(diffStates(a, a)).toEqual([]);
        expect(diffStates(a, b).map((one) => one.path)).toEqual(diffStates(b, a).map((one) => one.path));
      }),
    );
  });
});

describe("baselineDigest", () => {
  test("does not depend on the order, and on everything else", () => {
    fc.assert(
      fc.property(states, states, (a, b) => {
        expect(baselineDigest(a.toReversed())).toBe(baselineDigest(a));
        const same = JSON.stringify(sorted(a)) === JSON.stringify(sorted(b));
        expect(baselineDigest(a) === baselineDigest(b)).toBe(same);
      }),
    );
  });

  test("has one frozen form", () => {
    expect(baselineDigest([file])).toBe("6dba4b7545fc36f0f72ae9edb0cfad689c8974d409e9b98b90e8d4a711af6763");
  });
});

function sorted(list: readonly FileState[]): unknown {
  return list
    .toSorted((a, b) => (a.path < b.path ? -1 : 1))
    .map((s) => [s.path, s.kind, s.sha256, s.size, s.mode, s.uid, s.gid, s.inode]);
}

test("a change of one of our own files is self.changed, also a directory of ours itself and what is below it", () => {
  const self = [
    { path: "/etc/b.yaml", part: "config" },
    { path: "/opt/b/", part: "program" },
  ] as const;
  const kinds = ["/etc/b.yaml", "/opt/b/main.ts", "/opt/b", "/etc/b.yaml2", "/opt/b2"].map((path) => {
    const signal = fileSignal({ path, change: "modified" }, self, 7n);
    return [signal.kind, signal.facts["part"]];
  });
  expect(kinds).toEqual([
    ["self.changed", "config"],
    ["self.changed", "program"],
    ["self.changed", "program"],
    ["file.changed", undefined],
    ["file.changed", undefined],
  ]);
});
