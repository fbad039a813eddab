import { appendFileSync, copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { boundaryctl, type Ran } from "../support/boundaryctl.ts";
import { fakeDaemon } from "../support/fake-daemon.ts";
import { type SampleLog, sampleLog } from "../support/sample-log.ts";

let log: SampleLog;
let copy: string;
let file: string;

beforeAll(async () => {
  log = await sampleLog(3);
});
afterAll(() => log.remove());

beforeEach(() => {
  copy = mkdtempSync(join(tmpdir(), "boundary-copy-"));
  file = join(copy, basename(log.file));
  copyFileSync(log.file, file);
});
afterEach(() => rmSync(copy, { recursive: true, force: true }));

const lines = (): string[] => readFileSync(log.file, "utf8").trimEnd().split("\n");
const write = (changed: readonly string[]): void => writeFileSync(file, `${changed.join("\n")}\n`);
const verify = (...more: string[]): Promise<Ran> =>
  boundaryctl(["verify-log", copy, "--key", log.vkey, ...more]);

describe("a sound log", () => {
  test("0, and it says that no head was given", async () => {
    const ran = await verify();
    expect(ran).toMatchObject({ code: 0, stderr: "" });
    expect(ran.stdout).toContain("sound");
    expect(ran.stdout).toContain("no --head given");
  });

  test("with a head by hand, from a file, or as a note", async () => {
    const paper = join(copy, "paper");
    const note = join(copy, "note");
    writeFileSync(paper, `${log.head.size} ${log.head.root}\n`);
    writeFileSync(note, log.head.note);
    for (const head of [`${log.head.size} ${log.head.root}`, paper, note, join(log.stateDir, "log.head")]) {
      const ran = await verify("--head", head);
      expect(ran).toMatchObject({ code: 0, stderr: "" });
      expect(ran.stdout).not.toContain("no --head given");
    }
  });

  test("with the key from a file, or from the state directory", async () => {
    const key = join(copy, "vkey");
    writeFileSync(key, `${log.vkey}\n`);
    expect((await boundaryctl(["verify-log", copy, "--key", `@${key}`])).code).toBe(0);
    expect((await boundaryctl(["verify-log", copy, "--state-dir", log.stateDir])).code).toBe(0);
  });

  test("one segment by its name", async () => {
    expect((await boundaryctl(["verify-log", file, "--key", log.vkey])).code).toBe(0);
  });

  test("--json is one document with the verdict", async () => {
    const ran = await verify("--json");
    expect(JSON.parse(ran.stdout)).toMatchObject({
      verdict: "sound",
      bad: null,
      records: lines().length,
      size: log.head.size,
      root: log.head.root,
      head: "none",
    });
  });
});

describe("a changed log: 1, with the first bad record, file and byte, and what is still good", () => {
  const swap = (all: string[], a: number, b: number): string[] =>
    all.with(a, all[b] ?? "").with(b, all[a] ?? "");
  const rows: readonly [name: string, change: (all: string[]) => string[]][] = [
    ["a byte", (all) => all.with(6, (all[6] ?? "").replace('"batch"', '"botch"'))],
    ["a record deleted", (all) => all.toSpliced(6, 1)],
    ["a record twice", (all) => all.toSpliced(6, 0, all[6] ?? "")],
    ["two swapped", (all) => swap(all, 6, 7)],
    ["the start cut off", (all) => all.slice(1)],
  ];
  test.each(rows)("%s", async (_name, change) => {
    write(change(lines()));
    const ran = await verify();
    expect(ran).toMatchObject({ code: 1, stderr: "" });
    expect(ran.stdout).toMatch(
      /BROKEN .*\([a-z-]+\)\nfirst bad {3}record \d+, 0{20}\.jsonl, byte \d+\ntrustworthy /,
    );
    const told = JSON.parse((await verify("--json")).stdout) as { bad: object };
    expect(told).toMatchObject({ verdict: "broken", bad: { file: basename(file) } });
  });

  test("the tail cut off at a seal: only the head tells", async () => {
    const all = lines();
    const lastSealButOne = all.slice(0, -1).findLastIndex((line) => line.includes('"kind":"seal"'));
    write(all.slice(0, lastSealButOne + 1));
    expect((await verify()).code).toBe(0);
    const ran = await verify("--head", `${log.head.size} ${log.head.root}`);
    expect(ran.code).toBe(1);
    expect(ran.stdout).toContain("(tail-cut)");
  });

  test("another key", async () => {
    const other = await sampleLog(1);
    try {
      const ran = await boundaryctl(["verify-log", copy, "--key", other.vkey]);
      expect(ran.code).toBe(1);
      expect(ran.stdout).toContain("(wrong-key)");
    } finally {
      other.remove();
    }
  });

  test("no log at all", async () => {
    rmSync(file);
    for (const path of [copy, join(copy, "missing")]) {
      const ran = await boundaryctl(["verify-log", path, "--key", log.vkey]);
      expect(ran.code).toBe(1);
      expect(ran.stdout).toContain("(log-empty)");
    }
  });

  test("text in the log cannot steer the terminal", async () => {
    write(lines().with(6, '{"kind":"\u009b2J\u001b[31m"}'));
    expect((await verify()).stdout.replaceAll("\n", "")).not.toMatch(/\p{Cc}/u);
  });
});

describe("a torn end", () => {
  test("one that stays is torn: 1, recoverable, and everything sealed is named", async () => {
    appendFileSync(file, '{"at":"2026-');
    const ran = await verify();
    expect(ran.code).toBe(1);
    expect(ran.stdout).toContain("torn");
    expect(ran.stdout).toMatch(/trustworthy records 0 to \d+/);
    expect(JSON.parse((await verify("--json")).stdout)).toMatchObject({ verdict: "torn", recoverable: true });
  });

  test("one that is sealed while we look is sound", async () => {
    const whole = readFileSync(file);
    writeFileSync(file, whole.subarray(0, -100));
    const looking = verify();
    await sleep(220); // the first look takes longer than this or sees it torn: both have to end well
    writeFileSync(file, whole);
    expect((await looking).code).toBe(0);
  });
});

describe("this host's own log", () => {
  test("log head prints what --head takes, and --json the note", async () => {
    const data = { vkey: log.vkey, size: log.head.size, note: log.head.note };
    const fake = await fakeDaemon({ "key.show": { data } });
    try {
      const ran = await boundaryctl(["log", "head", "--runtime-dir", fake.runtimeDir]);
      expect(ran).toEqual({ code: 0, stdout: `${log.head.size} ${log.head.root}\n`, stderr: "" });
      expect((await verify("--head", ran.stdout.trim())).code).toBe(0);
      const json = await boundaryctl(["log", "head", "--json", "--runtime-dir", fake.runtimeDir]);
      expect(JSON.parse(json.stdout)).toEqual({ ...data, root: log.head.root });
    } finally {
      await fake.stop();
    }
  });

  test("key show --state-dir needs no daemon, and shows the public key only", async () => {
    const ran = await boundaryctl(["key", "show", "--state-dir", log.stateDir]);
    expect(ran).toEqual({ code: 0, stdout: `${log.vkey}\n`, stderr: "" });
  });
});
