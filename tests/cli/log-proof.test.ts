import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { renderCertificate } from "../../daemon/audit/certificate.ts";
import { parseProof } from "../../daemon/audit/proof.ts";
import { tempDirectory } from "../audit/fixture.ts";
import { boundaryctl } from "../support/boundaryctl.ts";
import { fakeDaemon } from "../support/fake-daemon.ts";
import { type RealLog, realLog } from "../support/real-log.ts";
import { sampleLog } from "../support/sample-log.ts";

const LOG = await realLog([[1, 3, 2], [4], [2, 1]]);
const OTHER = await realLog([[1, 3, 2], [4], [2, 1]], { word: "another" });
let base: ReturnType<typeof tempDirectory>;
let dir: string;
const at = (name: string): string => join(base.path, name);

beforeEach(() => {
  base = tempDirectory();
  dir = write("log", LOG);
});
afterEach(() => base[Symbol.dispose]());

function write(name: string, log: RealLog): string {
  mkdirSync(at(name));
  for (const [file, bytes] of Object.entries(log.files)) writeFileSync(join(at(name), file), bytes);
  return at(name);
}

/** The oldest checkpoint as "SIZE ROOT", from a copy that ends there. */
async function firstHead(): Promise<string> {
  const short = write("short", await realLog([[1]]));
  return (await boundaryctl(["log", "head", short])).stdout.trim();
}

describe("log prove and log check-proof", () => {
  test("a record, by --out: a good proof is 0 and shows the record", async () => {
    const made = await boundaryctl(["log", "prove", "3", dir, "--out", at("3.proof")]);
    expect(made).toEqual({ code: 0, stdout: "", stderr: "" });
    rmSync(dir, { recursive: true }); // the log is not needed any more
    const checked = await boundaryctl(["log", "check-proof", at("3.proof"), "--key", LOG.vkey]);
    expect(checked).toMatchObject({ code: 0, stderr: "" });
    for (const part of [
      "good",
      "record      3, 2026-01-02T",
      "decision",
      '"n":3',
      "checkpoint  ",
      LOG.vkeys[2] ?? "",
    ])
      expect(checked.stdout).toContain(part);
    expect(checked.stdout.replaceAll("\n", "")).not.toMatch(/\p{Cc}/u);
  });

  test("on stdout it is the same bytes, and --json of the check is one document", async () => {
    await boundaryctl(["log", "prove", "5", dir, "--out", at("5.proof")]);
    const made = await boundaryctl(["log", "prove", "5", dir]);
    expect(made.stdout).toBe(readFileSync(at("5.proof"), "utf8"));
    const json = await boundaryctl(["log", "prove", "5", dir, "--json"]);
    expect(json.stdout).toBe(made.stdout);
    const checked = await boundaryctl(["log", "check-proof", at("5.proof"), "--key", LOG.vkey, "--json"]);
    expect(JSON.parse(checked.stdout)).toMatchObject({
      good: true,
      segment: 2,
      vkey: LOG.vkeys[2],
      from: null,
      record: { seq: 5 },
      checkpoint: { origin: "boundary-daemon/test" },
    });
  });

  test("that the log goes on from an older head: a line, a file with a note", async () => {
    const head = await firstHead();
    writeFileSync(at("note"), LOG.notes[0] ?? "");
    for (const from of [head, at("note")]) {
      const made = await boundaryctl(["log", "prove", "--from", from, dir, "--out", at("older.proof")]);
      expect(made).toMatchObject({ code: 0, stderr: "" });
      const checked = await boundaryctl(["log", "check-proof", at("older.proof"), "--key", LOG.vkey]);
      expect(checked).toMatchObject({ code: 0 });
      expect(checked.stdout).toContain(`goes on     from ${head}`);
    }
  });

  test("--format c2sp is a tlog-proof, checked with the key of its segment", async () => {
    await boundaryctl(["log", "prove", "3", dir, "--format", "c2sp", "--out", at("3.tlog-proof")]);
    const text = readFileSync(at("3.tlog-proof"), "utf8");
    expect(text.startsWith("c2sp.org/tlog-proof@v1\nextra ")).toBe(true);
    const vkey = LOG.vkeys[2] ?? "";
    expect((await boundaryctl(["log", "check-proof", at("3.tlog-proof"), "--key", vkey])).code).toBe(0);
    expect((await boundaryctl(["log", "check-proof", at("3.tlog-proof"), "--key", LOG.vkey])).code).toBe(1);
    const json = await boundaryctl(["log", "prove", "3", dir, "--format", "c2sp", "--json"]);
    expect(JSON.parse(json.stdout)).toEqual({ format: "c2sp", proof: text });
  });

  test("1 for a changed proof, another log's, garbage and what is not UTF-8, and it says why", async () => {
    await boundaryctl(["log", "prove", "3", dir, "--out", at("3.proof")]);
    const good = readFileSync(at("3.proof"), "utf8");
    writeFileSync(at("changed"), good.replace('\\"n\\":3', '\\"n\\":4'));
    writeFileSync(at("garbage"), "{}\n");
    writeFileSync(at("binary"), Buffer.of(0xff, 0x0a));
    for (const file of ["changed", "garbage", "binary"]) {
      const ran = await boundaryctl(["log", "check-proof", at(file), "--key", LOG.vkey]);
      expect(ran).toMatchObject({ code: 1, stderr: "" });
      expect(ran.stdout).toMatch(/^NOT GOOD {4}.+\n$/);
    }
    const foreign = await boundaryctl(["log", "check-proof", at("3.proof"), "--key", OTHER.vkey, "--json"]);
    expect(foreign.code).toBe(1);
    expect(JSON.parse(foreign.stdout)).toMatchObject({ good: false });
  });

  test("of a log that the daemon's own appender wrote, and one byte of which is torn off", async () => {
    const sample = await sampleLog(3);
    try {
      const whole = readFileSync(sample.file);
      for (const bytes of [whole, whole.subarray(0, -1)]) {
        writeFileSync(sample.file, bytes);
        const made = await boundaryctl(["log", "prove", "3", sample.logDir, "--out", at("sample.proof")]);
        expect(made).toMatchObject({ code: 0, stderr: "" });
        const checked = await boundaryctl(["log", "check-proof", at("sample.proof"), "--key", sample.vkey]);
        expect(checked).toMatchObject({ code: 0, stderr: "" });
      }
      expect((await boundaryctl(["log", "head", sample.logDir])).stdout).not.toContain(
        `${sample.head.size} `,
      );
    } finally {
      sample.remove();
    }
  });

  test("what cannot be proven is 1 with a code, and leaves no file", async () => {
    const rows: readonly (readonly [string, readonly string[]])[] = [
      ["proof-impossible", ["log", "prove", "999", dir]],
      ["proof-impossible", ["log", "prove", "0", at("nowhere")]],
      ["proof-impossible", ["log", "prove", "--from", `4 ${"ab".repeat(32)}`, dir]],
      ["log-broken", ["log", "prove", "3", dir, "--key", OTHER.vkey]],
    ];
    for (const [code, args] of rows) {
      const ran = await boundaryctl([...args, "--out", at("none")]);
      expect(ran).toMatchObject({ code: 1, stdout: "" });
      expect(ran.stderr).toContain(`code: ${code}\n`);
      expect(existsSync(at("none"))).toBe(false);
    }
  });

  test("a pruned log: with its tombstones and --key; without the key it asks for it", async () => {
    await boundaryctl(["log", "prove", "22", dir, "--out", at("whole")]);
    const whole = readFileSync(at("whole"), "utf8");
    const parsed = parseProof(whole);
    if (!parsed.ok) throw new Error(parsed.why);
    for (const certificate of parsed.value.keys) {
      const name = join(dir, String(certificate.first).padStart(20, "0"));
      rmSync(`${name}.jsonl`);
      writeFileSync(`${name}.tombstone`, renderCertificate(certificate));
    }
    expect(readdirSync(dir)).toHaveLength(3);
    const made = await boundaryctl(["log", "prove", "22", dir, "--key", LOG.vkey]);
    expect(made).toEqual({ code: 0, stdout: whole, stderr: "" });
    const keyless = await boundaryctl(["log", "prove", "22", dir]);
    expect(keyless.code).toBe(1);
    expect(keyless.stderr).toContain("give its key with --key");
    const pruned = await boundaryctl(["log", "prove", "3", dir, "--key", LOG.vkey]);
    expect(pruned.stderr).toContain("record 3 has been pruned");
    writeFileSync(join(dir, `${"0".repeat(20)}.tombstone`), "nonsense");
    const bad = await boundaryctl(["log", "prove", "22", dir, "--key", LOG.vkey]);
    expect(bad.stderr).toContain("code: log-broken");
  });

  test("a file is replaced whole, a symbolic link not followed, nothing left beside it", async () => {
    writeFileSync(at("precious"), "precious");
    symlinkSync(at("precious"), at("out"));
    expect((await boundaryctl(["log", "prove", "3", dir, "--out", at("out")])).code).toBe(0);
    expect(readFileSync(at("precious"), "utf8")).toBe("precious");
    expect(readdirSync(base.path).toSorted()).toEqual(["log", "out", "precious"]);
    const ran = await boundaryctl(["log", "prove", "3", dir, "--out", at("no/such/place")]);
    expect(ran.stderr).toContain("code: state-unwritable");
  });
});

describe("log head", () => {
  const size = LOG.lines.length - 1;

  test("of a directory: one line that verify-log takes, and the note by --drop", async () => {
    const ran = await boundaryctl(["log", "head", dir, "--drop", at("head.note")]);
    expect(ran).toMatchObject({ code: 0, stderr: "" });
    expect(ran.stdout).toMatch(new RegExp(`^${size} [0-9a-f]{64}\n$`));
    expect(readFileSync(at("head.note"), "utf8")).toBe(LOG.notes.at(-1));
    const json = await boundaryctl(["log", "head", dir, "--json"]);
    expect(JSON.parse(json.stdout)).toMatchObject({ size, note: LOG.notes.at(-1) });
  });

  test("of the daemon, with --drop", async () => {
    const note = LOG.notes[0] ?? "";
    const fake = await fakeDaemon({ "key.show": { data: { vkey: LOG.vkey, size: 2, note } } });
    try {
      const ran = await boundaryctl(["log", "head", "--drop", at("n"), "--runtime-dir", fake.runtimeDir]);
      expect(ran).toMatchObject({ code: 0, stderr: "" });
      expect(readFileSync(at("n"), "utf8")).toBe(note);
    } finally {
      await fake.stop();
    }
  });

  test("there is none of a log that its key has not signed", async () => {
    const ran = await boundaryctl(["log", "head", dir, "--key", OTHER.vkey]);
    expect(ran).toMatchObject({ code: 1, stdout: "" });
    expect(ran.stderr).toContain("code: log-broken");
  });
});
