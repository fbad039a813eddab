import { spawn } from "node:child_process";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { createClock } from "../../daemon/adapters/clock.ts";
import { createDirectoryWatch } from "../../daemon/adapters/directory-watch.ts";
import { createFileReader } from "../../daemon/adapters/file-state.ts";
import {
  createFileSensor,
  type FileSensor,
  type FileSensorOptions,
} from "../../daemon/adapters/file-watch.ts";
import type { FileReader } from "../../daemon/core/file-look.ts";
import { baselineDigest } from "../../daemon/core/fingerprint.ts";
import type { Signal } from "../../daemon/core/signal.ts";

const clock = createClock();
const reader = createFileReader({ maxHashBytes: 4_194_304, hashConcurrency: 2 });

let root: string;
let signals: Signal[];
let sensors: FileSensor[];

beforeEach(() => {
  root = fs.mkdtempSync(join(tmpdir(), "boundary-files-"));
  signals = [];
  sensors = [];
});

afterEach(async () => {
  for (const sensor of sensors) await sensor.stop();
  fs.rmSync(root, { recursive: true, force: true });
});

async function watching(
  paths: readonly string[],
  more: Partial<FileSensorOptions> & {
    maxDirectories?: number;
    sweepMs?: number;
    watch?: typeof fs.watch;
  } = {},
): Promise<FileSensor> {
  const { maxDirectories = 500, sweepMs = 100, watch = fs.watch, ...options } = more;
  const sensor = createFileSensor({
    paths: paths.map((path) => join(root, path)),
    self: [],
    rehashMs: 60_000,
    clock,
    limits: { maxFiles: 5_000 },
    reader,
    directories: createDirectoryWatch({ maxDirectories, sweepMs, watch }),
    ...options,
  });
  sensors.push(sensor);
  await sensor.start((signal) => signals.push(signal));
  return sensor;
}

function changesOf(path: string): string[] {
  return signals
    .filter((signal) => signal.facts["path"] === join(root, path))
    .map((signal) => String(signal.facts["change"]));
}

function blind(): string[] {
  return signals
    .filter((signal) => signal.kind === "sensor.blind")
    .map((signal) => String(signal.facts["why"]));
}

/** How long to wait for what must come. */
const patience = { timeout: 15_000, interval: 5 };

/** Watches, but a directory where nothing happens: like a file system that has no events. */
function deafWatch(): typeof fs.watch {
  const quiet = fs.mkdtempSync(join(root, "quiet-"));
  return () => fs.watch(quiet, { persistent: false });
}

function write(path: string, text = "x"): void {
  fs.writeFileSync(join(root, path), text);
}

describe("everyday life above a watched file", () => {
  test.each([
    ["a chmod that changes nothing", () => fs.chmodSync(join(root, "a"), 0o755)],
    ["a chmod", () => fs.chmodSync(join(root, "a"), 0o700)],
    ["a touch", () => fs.utimesSync(join(root, "a/b"), 1, 1)],
    ["a new neighbour of its directory", () => write("a/other")],
  ])("%s is nothing to it", async (_name, act) => {
    fs.mkdirSync(join(root, "a/b"), { recursive: true });
    fs.chmodSync(join(root, "a"), 0o755);
    write("a/b/f");
    await watching(["a/b/f"]);
    act();
    // what comes after it in the same queue has been heard, and so has it
    write("a/b/f", "changed");
    await expect.poll(() => changesOf("a/b/f"), patience).toContain("modified");
    expect(signals.filter((signal) => signal.facts["change"] === "touched")).toEqual([]);
  });

  test("a watched path that is a symbolic link is said to be no good", async () => {
    write("target");
    fs.symlinkSync(join(root, "target"), join(root, "lnk"));
    const sensor = await watching(["lnk"]);
    expect(sensor.health()).toMatchObject({ state: "blind", why: expect.stringContaining("symbolic link") });
  });
});

describe("a watched file", () => {
  beforeEach(async () => {
    fs.mkdirSync(join(root, "d"));
    write("d/f", "first");
    write("elsewhere", "first");
  });

  const cases: readonly [string, string, () => void][] = [
    ["a write", "modified", () => write("d/f", "second")],
    ["an append", "modified", () => fs.appendFileSync(join(root, "d/f"), "more")],
    ["a truncation", "modified", () => fs.truncateSync(join(root, "d/f"), 0)],
    ["a chmod", "metadata", () => fs.chmodSync(join(root, "d/f"), 0o600)],
    ["a delete", "deleted", () => fs.unlinkSync(join(root, "d/f"))],
    ["a rename away", "deleted", () => fs.renameSync(join(root, "d/f"), join(root, "d/g"))],
    ["a rename over it", "replaced", () => fs.renameSync(join(root, "elsewhere"), join(root, "d/f"))],
    [
      "a link in its place",
      "replaced",
      () => {
        fs.symlinkSync(join(root, "elsewhere"), join(root, "d/new"));
        fs.renameSync(join(root, "d/new"), join(root, "d/f"));
      },
    ],
    ["a touch", "modified", () => fs.utimesSync(join(root, "d/f"), 1, 1)],
    ["its directory renamed away", "deleted", () => fs.renameSync(join(root, "d"), join(root, "away"))],
    ["its directory deleted", "deleted", () => fs.rmSync(join(root, "d"), { recursive: true })],
    [
      "its directory replaced by another",
      "replaced",
      () => {
        fs.mkdirSync(join(root, "other"));
        write("other/f", "first");
        fs.renameSync(join(root, "d"), join(root, "away"));
        fs.renameSync(join(root, "other"), join(root, "d"));
      },
    ],
    [
      "its directory renamed away and back",
      "touched",
      () => {
        fs.renameSync(join(root, "d"), join(root, "away"));
        fs.renameSync(join(root, "away"), join(root, "d"));
      },
    ],
    [
      "a delete and the same name made again",
      "replaced",
      () => {
        write("d/keep-the-inode-busy");
        fs.renameSync(join(root, "d/f"), join(root, "gone"));
        write("d/f", "first");
      },
    ],
  ];

  test.each(cases)("%s is signalled as %s", async (_what, change, act) => {
    await watching(["d/f"]);
    act();
    await expect.poll(() => changesOf("d/f").includes(change), patience).toBe(true);
    expect(signals.every((signal) => signal.kind === "file.changed")).toBe(true);
  });

  test("a content change with the modification time put back is signalled as modified", async () => {
    await watching(["d/f"]);
    const before = fs.statSync(join(root, "d/f"));
    write("d/f", "FIRST");
    fs.utimesSync(join(root, "d/f"), before.atime, before.mtime);
    await expect.poll(() => changesOf("d/f").includes("modified"), patience).toBe(true);
  });

  test("reading it, hashing everything and watching it again signals nothing", async () => {
    const sensor = await watching(["d/f", "d/"], { rehashMs: 60 });
    fs.readFileSync(join(root, "d/f"));
    fs.readdirSync(join(root, "d"));
    await sensor.snapshot();
    await sleep(400);
    expect(signals).toEqual([]);
    expect(sensor.health().state).toBe("watching");
  });

  test("a neighbour's change signals nothing", async () => {
    await watching(["d/f"]);
    write("d/other");
    write("d/f", "second");
    await expect.poll(() => changesOf("d/f").length > 0, patience).toBe(true);
    expect(changesOf("d/other")).toEqual([]);
  });

  test("a change that no event told is found by the re-hash, once", async () => {
    const deaf = deafWatch();
    await watching(["d/f"], { watch: deaf, rehashMs: 50, sweepMs: 60_000 });
    write("d/f", "second");
    await expect.poll(() => changesOf("d/f").length > 0, patience).toBe(true);
    await sleep(200);
    expect(changesOf("d/f")).toEqual(["modified"]);
  });

  test("a directory that changes without an event is signalled, and makes the sensor blind for a while", async () => {
    const deaf = deafWatch();
    await watching(["d/f"], { watch: deaf });
    write("d/g");
    fs.unlinkSync(join(root, "d/g"));
    await expect.poll(() => changesOf("d").includes("touched"), patience).toBe(true);
    expect(blind().some((why) => why.includes("no event"))).toBe(true);
  });
});

describe("a path that is not there yet", () => {
  test("is signalled when the file is made, also in directories made on the way", async () => {
    const sensor = await watching(["a/b/f"]);
    expect(sensor.health().state).toBe("watching");
    fs.mkdirSync(join(root, "a/b"), { recursive: true });
    write("a/b/f");
    await expect.poll(() => changesOf("a/b/f").includes("created"), patience).toBe(true);
    write("a/b/f", "second");
    await expect.poll(() => changesOf("a/b/f").includes("modified"), patience).toBe(true);
  });

  test("is signalled again after its directory went away and came back", async () => {
    fs.mkdirSync(join(root, "a"));
    write("a/f");
    await watching(["a/f"]);
    fs.rmSync(join(root, "a"), { recursive: true });
    await expect.poll(() => changesOf("a/f").includes("deleted"), patience).toBe(true);
    fs.mkdirSync(join(root, "a"));
    write("a/f");
    await expect.poll(() => changesOf("a/f").includes("created"), patience).toBe(true);
    signals.length = 0;
    write("a/f", "changed");
    await expect.poll(() => changesOf("a/f").includes("modified"), patience).toBe(true);
  });
});

describe("a tree", () => {
  beforeEach(() => {
    fs.mkdirSync(join(root, "t/sub"), { recursive: true });
    write("t/sub/f");
  });

  test("signals what happens in a directory made after the start", async () => {
    await watching(["t/"]);
    fs.mkdirSync(join(root, "t/new/deep"), { recursive: true });
    write("t/new/deep/f");
    await expect.poll(() => changesOf("t/new/deep/f").includes("created"), patience).toBe(true);
    write("t/new/deep/f", "second");
    await expect.poll(() => changesOf("t/new/deep/f").includes("modified"), patience).toBe(true);
    fs.unlinkSync(join(root, "t/new/deep/f"));
    await expect.poll(() => changesOf("t/new/deep/f").includes("deleted"), patience).toBe(true);
  });

  test("signals every file of a directory that is moved out, and of one moved in", async () => {
    await watching(["t/"]);
    fs.renameSync(join(root, "t/sub"), join(root, "sub"));
    await expect.poll(() => changesOf("t/sub/f").includes("deleted"), patience).toBe(true);
    fs.renameSync(join(root, "sub"), join(root, "t/again"));
    await expect.poll(() => changesOf("t/again/f").includes("created"), patience).toBe(true);
  });

  test("signals itself and its files when its root is deleted, and again when it is back", async () => {
    await watching(["t/"]);
    fs.renameSync(join(root, "t"), join(root, "away"));
    await expect
      .poll(() => changesOf("t").includes("deleted") && changesOf("t/sub/f").includes("deleted"), patience)
      .toBe(true);
    fs.mkdirSync(join(root, "t"));
    write("t/f");
    await expect
      .poll(() => changesOf("t").includes("created") && changesOf("t/f").includes("created"), patience)
      .toBe(true);
  });

  test("a directory's own metadata is signalled on the directory, not on a name below it", async () => {
    await watching(["t/"]);
    fs.chmodSync(join(root, "t/sub"), 0o700);
    await expect.poll(() => changesOf("t/sub").includes("metadata"), patience).toBe(true);
    await sleep(100);
    expect(changesOf("t/sub/sub")).toEqual([]);
  });

  test("a link is fingerprinted and not followed", async () => {
    fs.symlinkSync(root, join(root, "t/loop"));
    const sensor = await watching(["t/"]);
    const states = await sensor.snapshot();
    expect(states.map((state) => [state.path.slice(root.length), state.kind])).toEqual([
      ["/t", "directory"],
      ["/t/loop", "link"],
      ["/t/sub", "directory"],
      ["/t/sub/f", "file"],
    ]);
  });
});

describe("nothing goes unnoticed", () => {
  const many = 1_000;
  const names = Array.from({ length: many }, (_, index) => `t/n${index}`);

  function burst(): void {
    for (const name of names) {
      write(name);
      fs.unlinkSync(join(root, name));
    }
  }

  function replaceAll(): void {
    for (const name of names) {
      fs.writeFileSync(join(root, "tmp"), name);
      fs.renameSync(join(root, "tmp"), join(root, name));
    }
  }

  test(`${many} create-and-delete pairs while the loop is blocked are all signalled by name`, async () => {
    fs.mkdirSync(join(root, "t"));
    await watching(["t/"]);
    burst();
    await expect.poll(() => names.every((name) => changesOf(name).length > 0), patience).toBe(true);
    expect(blind()).toEqual([]);
  });

  test(`${many} replaced files while the loop is blocked are all signalled as replaced`, async () => {
    fs.mkdirSync(join(root, "t"));
    for (const name of names) write(name);
    await watching(["t/"]);
    replaceAll();
    await expect.poll(() => names.every((name) => changesOf(name).includes("replaced")), patience).toBe(true);
    expect(blind()).toEqual([]);
  });

  test(`${many} create-and-delete pairs by another process are all signalled by name`, async () => {
    fs.mkdirSync(join(root, "t"));
    await watching(["t/"]);
    const loop = `i=0; while [ $i -lt ${many} ]; do : > n$i; rm n$i; i=$((i+1)); done`;
    const child = spawn("/bin/sh", ["-c", loop], { cwd: join(root, "t") });
    await new Promise((resolve) => child.once("exit", resolve));
    await expect.poll(() => names.every((name) => changesOf(name).length > 0), patience).toBe(true);
  });

  test("more events than the kernel's queue holds make the sensor say that it may have missed some", async () => {
    fs.mkdirSync(join(root, "t"));
    await watching(["t/"]);
    for (let count = 0; count < 6_000; count += 1) {
      write("t/a");
      fs.renameSync(join(root, "t/a"), join(root, "t/b"));
    }
    await expect.poll(() => blind().some((why) => why.includes("events at once")), patience).toBe(true);
  });
});

describe("our own files", () => {
  test("are signalled as self.changed with their part", async () => {
    write("config");
    fs.mkdirSync(join(root, "program"));
    await watching([], {
      self: [
        { path: join(root, "config"), part: "config" },
        { path: `${join(root, "program")}/`, part: "program" },
      ],
    });
    write("config", "changed");
    write("program/new.ts");
    await expect
      .poll(
        () => changesOf("config").includes("modified") && changesOf("program/new.ts").includes("created"),
        patience,
      )
      .toBe(true);
    const parts = signals.map((signal) => [signal.kind, signal.facts["part"]].join(" "));
    expect(new Set(parts)).toEqual(new Set(["self.changed config", "self.changed program"]));
  });
});

describe("a sensor that cannot see says so", () => {
  test("when the kernel has no watches left, and that it sees again", async () => {
    let full = true;
    const refusing = ((path: string, options: { persistent: boolean }) => {
      if (full) throw Object.assign(new Error("no space"), { code: "ENOSPC" });
      return fs.watch(path, options);
    }) as typeof fs.watch;
    write("f");
    const sensor = await watching(["f"], { watch: refusing });
    expect(blind().some((why) => why.includes("max_user_watches"))).toBe(true);
    expect(sensor.health().state).toBe("blind");
    full = false;
    await expect.poll(() => sensor.health().state === "watching", patience).toBe(true);
    write("f", "second");
    await expect.poll(() => changesOf("f").includes("modified"), patience).toBe(true);
  });

  test("when a file cannot be read, which is not the same as missing", async () => {
    write("f");
    const forbidden: FileReader = {
      ...reader,
      read: async (path) => ({
        ...reader.look(path),
        kind: "unreadable",
        sha256: "",
        why: `${path}: EACCES`,
      }),
    };
    const sensor = await watching(["f", "absent"], { reader: forbidden });
    expect(blind()).toContain(`${join(root, "f")}: EACCES`);
    expect(sensor.health().state).toBe("blind");
  });

  test("when there are more directories or files than it may watch", async () => {
    for (const name of ["t/a", "t/b", "t/c"]) fs.mkdirSync(join(root, name), { recursive: true });
    await watching(["t/"], { maxDirectories: 5 });
    expect(blind().some((why) => why.includes("directories"))).toBe(true);
    signals.length = 0;
    await watching(["t/"], { limits: { maxFiles: 2 } });
    expect(blind().some((why) => why.includes("files"))).toBe(true);
  });

  test("when the root of a tree is a link", async () => {
    fs.symlinkSync(tmpdir(), join(root, "t"));
    await watching(["t/"]);
    expect(blind().some((why) => why.includes("symbolic link"))).toBe(true);
  });
});

describe("a snapshot", () => {
  test("tells the missing from the present, is sorted, and has the same digest twice", async () => {
    fs.mkdirSync(join(root, "t"));
    write("t/f", "text");
    const sensor = await watching(["t/", "absent"]);
    const states = await sensor.snapshot();
    expect(states.map((state) => [state.path.slice(root.length), state.kind, state.size])).toEqual([
      ["/absent", "missing", 0],
      ["/t", "directory", 0],
      ["/t/f", "file", 4],
    ]);
    expect(states[2]?.sha256).toBe("982d9e3eb996f559e633f4d194def3761d909f5a3b647d1a851fead67c32c9d1");
    expect(baselineDigest(await sensor.snapshot())).toBe(baselineDigest(states.toReversed()));
  });

  test("of a file beyond the limit says that it is partial", async () => {
    write("big", "x".repeat(200));
    const short = createFileReader({ maxHashBytes: 100, hashConcurrency: 1 });
    const sensor = await watching(["big"], { reader: short });
    expect((await sensor.snapshot())[0]?.sha256).toMatch(/^partial:[0-9a-f]{64}$/);
    write("big", `${"x".repeat(199)}y`);
    await expect.poll(() => changesOf("big").includes("modified"), patience).toBe(true);
  });
});

test("a stopped sensor signals nothing and can be started again", async () => {
  write("f");
  const sensor = await watching(["f"]);
  await sensor.stop();
  expect(sensor.health()).toEqual({ state: "blind", why: "not started" });
  write("f", "second");
  await sleep(50);
  expect(signals).toEqual([]);
  await sensor.start((signal) => signals.push(signal));
  write("f", "third");
  await expect.poll(() => changesOf("f").includes("modified"), patience).toBe(true);
});

describe("what it knows", () => {
  beforeEach(() => {
    fs.mkdirSync(join(root, "d"));
    write("d/f", "first");
  });

  const known = (sensor: FileSensor) =>
    sensor.memory()?.states.toSorted((a, b) => (a.path < b.path ? -1 : 1));

  test("is nothing before the first look and after the stop, and what is on disk between", async () => {
    let sensor = createFileSensor({
      paths: [],
      self: [],
      rehashMs: 60_000,
      clock,
      limits: { maxFiles: 5 },
      reader,
      directories: createDirectoryWatch({ maxDirectories: 5, sweepMs: 100, watch: fs.watch }),
    });
    expect(sensor.memory()).toBeNull();
    sensor = await watching(["d/f", "absent", "d/"]);
    expect(sensor.memory()?.unsettled).toEqual(new Set());
    expect(known(sensor)).toEqual(await sensor.snapshot());
    await sensor.stop();
    expect(sensor.memory()).toBeNull();
  });

  test("follows what it has signalled, also what was deleted", async () => {
    const sensor = await watching(["d/f", "d/g"]);
    write("d/g", "second");
    fs.unlinkSync(join(root, "d/f"));
    await expect.poll(() => changesOf("d/f").concat(changesOf("d/g")), patience).toContain("created");
    await expect.poll(() => sensor.memory()?.unsettled.size, patience).toBe(0);
    expect(known(sensor)).toEqual(await sensor.snapshot());
  });

  test("never holds a state that it has not told of", async () => {
    const sensor = await watching(["d/f"]);
    const first = sensor.memory()?.states[0]?.sha256;
    let before = first;
    for (let i = 0; i < 200; i++) {
      write("d/f", `content ${i}`);
      await sleep(1);
      const memory = sensor.memory();
      const now = memory?.states[0]?.sha256;
      if (memory?.unsettled.size === 0 && now !== before) {
        expect(changesOf("d/f")).not.toEqual([]);
        before = now;
        signals.length = 0;
      }
    }
    await expect.poll(() => sensor.memory()?.unsettled.size, patience).toBe(0);
    expect(sensor.memory()?.states[0]?.sha256).not.toBe(first);
  });

  test("is unsettled at a path from its event until its content is hashed", async () => {
    const gate = Promise.withResolvers<void>();
    let isHeld = false;
    const slow: FileReader = {
      ...reader,
      read: async (path) => {
        if (isHeld) await gate.promise;
        return reader.read(path);
      },
    };
    const sensor = await watching(["d/f"], { reader: slow });
    isHeld = true;
    write("d/f", "second");
    await expect.poll(() => changesOf("d/f"), patience).toContain("modified");
    expect(sensor.memory()?.unsettled).toEqual(new Set([join(root, "d/f")]));
    gate.resolve();
    await expect.poll(() => sensor.memory()?.unsettled.size, patience).toBe(0);
    expect(known(sensor)).toEqual(await sensor.snapshot());
  });

  test("is complete when a re-hash says so", async () => {
    const seen: (number | undefined)[] = [];
    const sensor: FileSensor = await watching(["d/f"], {
      rehashMs: 20,
      onRehashed: () => seen.push(sensors[0]?.memory()?.states.length),
    });
    await expect.poll(() => seen, patience).toContain(1);
    await sensor.stop();
  });
});
