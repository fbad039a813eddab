import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import {
  createSegment,
  cutTail,
  openSegment,
  prepareLogDirectory,
  quarantine,
  readLog,
  segmentName,
  writeAll,
} from "../../daemon/adapters/log-file.ts";
import { lockLogDirectory } from "../../daemon/adapters/log-lock.ts";
import type { LogStore } from "../../daemon/ports.ts";
import { codeOf, tempDirectory } from "../audit/fixture.ts";

const isRoot = process.geteuid?.() === 0;
const FILE = segmentName(0);
const AT_MS = Date.UTC(2026, 0, 2, 3, 4, 5, 678);

let temp: ReturnType<typeof tempDirectory>;
let directory: string;
let path: string;
let open: LogStore[];

beforeEach(() => {
  temp = tempDirectory();
  directory = join(temp.path, "log");
  prepareLogDirectory(directory);
  path = join(directory, FILE);
  open = [];
});
afterEach(() => {
  for (const store of open) store.close();
  temp[Symbol.dispose]();
});

function keep(store: LogStore): LogStore {
  open.push(store);
  return store;
}
const modeOf = (of: string) => fs.statSync(of).mode & 0o777;

async function readAll(): Promise<Record<string, string>> {
  const files: Record<string, string> = {};
  for await (const { file, bytes } of readLog(directory))
    files[file] = (files[file] ?? "") + Buffer.from(bytes).toString();
  return files;
}

describe("the directory", () => {
  test("is made for us alone, and an existing one of ours is taken", () => {
    expect(modeOf(directory)).toBe(0o700);
    prepareLogDirectory(directory);
  });

  test.each([
    ["writable by its group", () => fs.chmodSync(directory, 0o770)],
    ["writable by all", () => fs.chmodSync(directory, 0o707)],
    [
      "a symbolic link",
      () => {
        fs.rmdirSync(directory);
        fs.symlinkSync(temp.path, directory);
      },
    ],
    [
      "a file",
      () => {
        fs.rmdirSync(directory);
        fs.writeFileSync(directory, "");
      },
    ],
  ])("is refused when it is %s", async (_name, harm) => {
    harm();
    expect(await codeOf(() => prepareLogDirectory(directory))).toBe("log-unsafe");
  });

  test.skipIf(!isRoot)(
    `is refused when it is somebody else's${isRoot ? "" : " (skipped: only root can give it away)"}`,
    async () => {
      fs.chownSync(directory, 1, 1);
      expect(await codeOf(() => prepareLogDirectory(directory))).toBe("log-unsafe");
    },
  );
});

describe("the lock", () => {
  test("is held by one at a time, and free again when released", async () => {
    const lock = lockLogDirectory(directory);
    expect(await codeOf(() => lockLogDirectory(directory))).toBe("log-locked");
    lock.release();
    lockLogDirectory(directory).release();
  });

  test("is refused to another process, and survives a program that we start", () => {
    const lock = lockLogDirectory(directory);
    const busy = spawnSync("flock", [
      "--nonblock",
      "--conflict-exit-code",
      "75",
      join(directory, "lock"),
      "true",
    ]);
    lock.release();
    const free = spawnSync("flock", [
      "--nonblock",
      "--conflict-exit-code",
      "75",
      join(directory, "lock"),
      "true",
    ]);
    expect([busy.status, free.status]).toEqual([75, 0]);
  });

  test("is not made through a symbolic link", async () => {
    fs.symlinkSync(join(temp.path, "elsewhere"), join(directory, "lock"));
    expect(await codeOf(() => lockLogDirectory(directory))).toBe("log-unavailable");
    expect(fs.existsSync(join(temp.path, "elsewhere"))).toBe(false);
  });
});

describe("a segment", () => {
  test("is ours alone, and holds what was written, in order", async () => {
    const store = keep(createSegment(directory, 0));
    expect(modeOf(path)).toBe(0o600);
    await store.write(Buffer.from("one\n"));
    await store.write(Buffer.from("two\n"));
    expect(fs.readFileSync(path, "utf8")).toBe("one\ntwo\n");
    expect(store.damage()).toBeNull();
  });

  test("is not made where one with records stands; an empty one, left by a crash, is taken", async () => {
    keep(createSegment(directory, 0));
    const store = keep(createSegment(directory, 0));
    await store.write(Buffer.from("x\n"));
    expect(await codeOf(() => createSegment(directory, 0))).toBe("log-broken");
    expect(fs.readFileSync(path, "utf8")).toBe("x\n");
  });

  test("goes on behind what is there, when that is as long as was verified", async () => {
    await keep(createSegment(directory, 0)).write(Buffer.from("one\n"));
    await keep(openSegment(directory, FILE, 4)).write(Buffer.from("two\n"));
    expect(fs.readFileSync(path, "utf8")).toBe("one\ntwo\n");
    expect(await codeOf(() => openSegment(directory, FILE, 4))).toBe("log-broken");
    expect(await codeOf(() => openSegment(directory, FILE, 9))).toBe("log-broken");
  });

  test.each([
    ["readable by others", () => fs.chmodSync(path, 0o644), "log-unsafe"],
    ["known under two names", () => fs.linkSync(path, `${path}.2`), "log-unsafe"],
    [
      "a symbolic link",
      () => {
        fs.renameSync(path, `${path}.real`);
        fs.symlinkSync(`${path}.real`, path);
      },
      "log-unavailable",
    ],
    ["gone", () => fs.unlinkSync(path), "log-unavailable"],
  ])("is not opened when it is %s", async (_name, harm, code) => {
    keep(createSegment(directory, 0));
    harm();
    expect(await codeOf(() => openSegment(directory, FILE, 0))).toBe(code);
  });

  test.each(["../x.jsonl", "1.jsonl", `${FILE}.bak`, ""])("is not opened under the name %j", async (name) => {
    expect(await codeOf(() => openSegment(directory, name, 0))).toBe("log-broken");
  });
});

describe("damage", () => {
  test("of a closed store is none: its file's number may be another file's by then", () => {
    const store = createSegment(directory, 0);
    store.close();
    expect(store.damage()).toBeNull();
  });

  test.each([
    [
      "replaced",
      "renamed over",
      () => {
        fs.writeFileSync(`${path}.new`, "one\n");
        fs.renameSync(`${path}.new`, path);
      },
    ],
    ["replaced", "deleted", () => fs.unlinkSync(path)],
    ["replaced", "moved away", () => fs.renameSync(path, `${path}.old`)],
    ["replaced", "given a second name", () => fs.linkSync(path, `${path}.2`)],
    ["truncated", "cut", () => fs.truncateSync(path, 2)],
    ["grown", "written by somebody else", () => fs.appendFileSync(path, "x")],
  ])("is %s when the file was %s", async (what, _how, harm) => {
    const store = keep(createSegment(directory, 0));
    await store.write(Buffer.from("one\n"));
    expect(store.damage()).toBeNull();
    harm();
    expect(store.damage()?.what).toBe(what);
  });

  test("is not what a write under way does", async () => {
    const store = keep(createSegment(directory, 0));
    const writing = store.write(Buffer.alloc(4 * 1024 * 1024));
    const seen: unknown[] = [];
    for (let i = 0; i < 50; i++) {
      seen.push(store.damage());
      await new Promise(setImmediate);
    }
    await writing;
    expect([...seen, store.damage()].filter((each) => each !== null)).toEqual([]);
  });
});

describe("writing", () => {
  test("goes on after a short write and an interrupted one", async () => {
    const from: number[] = [];
    await writeAll(async (at) => {
      from.push(at);
      if (from.length === 2) throw Object.assign(new Error("interrupted"), { code: "EINTR" });
      return 3;
    }, 9);
    expect(from).toEqual([0, 3, 3, 6]);
  });

  test("rejects any other failure", async () => {
    const failing = writeAll(() => Promise.reject(Object.assign(new Error("full"), { code: "ENOSPC" })), 9);
    await expect(failing).rejects.toThrow("full");
  });

  test("what does not fit rejects after what did: a real short write, at a file size limit", () => {
    const module = new URL("../../daemon/adapters/log-file.ts", import.meta.url);
    const script = `
      const { createSegment } = await import(${JSON.stringify(module.href)});
      const store = createSegment(${JSON.stringify(directory)}, 0);
      await store.write(Buffer.alloc(1000));
      await store.write(Buffer.alloc(1000)).then(() => process.exit(3), (error) => console.log(error.code));`;
    // With SIGXFSZ ignored, the write that reaches the limit is short and the next one fails with EFBIG.
    const limited = 'trap "" XFSZ; ulimit -f 1; exec "$0" --input-type=module -e "$1"';
    const child = spawnSync("bash", ["-c", limited, process.execPath, script], { encoding: "utf8" });
    expect({ out: child.stdout.trim(), status: child.status }).toEqual({ out: "EFBIG", status: 0 });
    expect(fs.statSync(path).size).toBe(1024);
  });
});

describe("reading", () => {
  test("gives the segments in order and passes over what is not one", async () => {
    for (const [name, text] of [
      [segmentName(10), "b"],
      [FILE, "a"],
      ["lock", "x"],
      ["torn-1.bin", "x"],
      ["1.jsonl", "x"],
    ] as const) {
      fs.writeFileSync(join(directory, name), text);
    }
    fs.mkdirSync(join(directory, "broken-1"));
    expect(await readAll()).toEqual({ [FILE]: "a", [segmentName(10)]: "b" });
    expect(Object.keys(await readAll())).toEqual([FILE, segmentName(10)]);
  });

  test("gives all bytes of a large file", async () => {
    const bytes = Buffer.from(Array.from({ length: 300_000 }, (_, i) => `line ${i}\n`).join(""));
    fs.writeFileSync(path, bytes);
    expect(Buffer.from((await readAll())[FILE] ?? "").equals(bytes)).toBe(true);
  });

  test("stops at the size a segment had when it was opened", async () => {
    fs.writeFileSync(path, "one\n");
    const reading = readLog(directory);
    const first = await reading.next();
    fs.appendFileSync(path, "two\n");
    expect(Buffer.from(first.value?.bytes ?? []).toString()).toBe("one\n");
    expect((await reading.next()).done).toBe(true);
  });

  test("of no directory is nothing; of one that cannot be read is an error", async () => {
    fs.rmSync(directory, { recursive: true });
    expect(await readAll()).toEqual({});
    fs.writeFileSync(directory, "");
    await expect(readAll()).rejects.toThrow(/ENOTDIR/);
    fs.unlinkSync(directory);
    fs.mkdirSync(directory);
    fs.mkdirSync(path);
    await expect(readAll()).rejects.toThrow(/EISDIR/);
    fs.rmdirSync(path);
    fs.symlinkSync("/etc/passwd", path);
    await expect(readAll()).rejects.toThrow(/ELOOP/);
  });
});

describe("what a crash left", () => {
  test("is cut off, and kept", () => {
    fs.writeFileSync(path, "sealed\ntorn");
    const savedAs = cutTail(directory, { file: FILE, byte: 7, seq: 1 }, AT_MS);
    expect(savedAs).toBe("torn-00000000000000000001-20260102T030405.678Z.bin");
    expect(fs.readFileSync(path, "utf8")).toBe("sealed\n");
    expect(fs.readFileSync(join(directory, savedAs), "utf8")).toBe("torn");
    expect(modeOf(join(directory, savedAs))).toBe(0o600);
  });

  test("is not cut where it cannot be kept, nor in a segment that another follows", async () => {
    fs.writeFileSync(path, "sealed\ntorn");
    cutTail(directory, { file: FILE, byte: 7, seq: 1 }, AT_MS);
    fs.appendFileSync(path, "again");
    expect(() => cutTail(directory, { file: FILE, byte: 7, seq: 1 }, AT_MS)).toThrow(/EEXIST/);
    expect(fs.readFileSync(path, "utf8")).toBe("sealed\nagain");
    fs.writeFileSync(join(directory, segmentName(9)), "");
    expect(await codeOf(() => cutTail(directory, { file: FILE, byte: 7, seq: 1 }, AT_MS + 1))).toBe(
      "log-broken",
    );
  });

  test("or somebody broke is moved aside whole, and nothing is lost", async () => {
    fs.writeFileSync(path, "a");
    fs.writeFileSync(join(directory, segmentName(9)), "b");
    const name = quarantine(directory, AT_MS);
    expect(name).toBe("broken-20260102T030405.678Z");
    expect(fs.readdirSync(join(directory, name)).sort()).toEqual([FILE, segmentName(9)]);
    expect(modeOf(join(directory, name))).toBe(0o700);
    expect(await readAll()).toEqual({});
  });
});
