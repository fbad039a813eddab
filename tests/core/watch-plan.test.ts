import { describe, expect, test } from "vitest";
import { changeOnEvent, type Look } from "../../daemon/core/file-look.ts";
import { directoriesAbove, planWatch, treeOf } from "../../daemon/core/watch-plan.ts";

describe("planWatch", () => {
  test("keeps entries and trees apart and knows every directory on the way", () => {
    const plan = planWatch(["/etc/passwd", "/opt/app/", "/etc/ssh/sshd_config"]);
    expect([...plan.entries]).toEqual(["/etc/passwd", "/etc/ssh/sshd_config"]);
    expect(plan.trees).toEqual(["/opt/app"]);
    expect([...plan.above]).toEqual(["/", "/opt", "/etc", "/etc/ssh"]);
  });

  test("a path belongs to a tree when it is its root or below, not when it only begins alike", () => {
    const plan = planWatch(["/opt/app/"]);
    expect(["/opt/app", "/opt/app/x/y", "/opt/apple", "/opt"].map((path) => treeOf(plan, path))).toEqual([
      "/opt/app",
      "/opt/app",
      undefined,
      undefined,
    ]);
  });

  test.each([
    ["/", []],
    ["/a", ["/"]],
    ["/a/b/c", ["/", "/a", "/a/b"]],
  ])("above %s", (path, above) => expect(directoriesAbove(path)).toEqual(above));
});

describe("changeOnEvent", () => {
  const known: Look = {
    path: "/f",
    kind: "file",
    size: 1,
    mode: 0o644,
    uid: 0,
    gid: 0,
    inode: "1:2",
    mtimeNs: 1n,
    ctimeNs: 1n,
    why: "",
  };
  const missing: Look = { ...known, kind: "missing", inode: "" };
  test.each<[string, Look | undefined, Look, string]>([
    ["known, the same", known, known, "touched"],
    ["never there", undefined, missing, "touched"],
    ["still not there", missing, missing, "touched"],
    ["new", undefined, known, "created"],
    ["back", missing, known, "created"],
    ["gone", known, missing, "deleted"],
    ["another inode", known, { ...known, inode: "1:3" }, "replaced"],
    ["another kind", known, { ...known, kind: "link" }, "replaced"],
    ["longer", known, { ...known, size: 2 }, "modified"],
    ["newer", known, { ...known, mtimeNs: 2n, ctimeNs: 2n }, "modified"],
    ["only its inode changed", known, { ...known, ctimeNs: 2n }, "metadata"],
    ["other bits", known, { ...known, mode: 0o600, ctimeNs: 2n }, "metadata"],
    ["closed to us", known, { ...known, kind: "unreadable" }, "modified"],
    [
      "a directory with newer entries",
      { ...known, kind: "directory" },
      { ...known, kind: "directory", mtimeNs: 9n },
      "touched",
    ],
  ])("%s", (_what, before, now, change) => expect(changeOnEvent(before, now)).toBe(change));
});
