import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { renderCheckpoint, signNote } from "../../daemon/audit/checkpoint.ts";
import type { Data } from "../../daemon/audit/record.ts";
import { verifyLog } from "../../daemon/audit/verify.ts";
import type { Signer } from "../../daemon/ports.ts";
import { bytesOf, chunksOf, forge, recordOf, testSigner } from "../audit/fixture.ts";
import { directoryOfFile } from "../support/directory-of-file.ts";
import { foreignVerify, NO_PYTHON, PYTHON, VERIFY_PY } from "../support/foreign.ts";
import { createSegmentedLog, type SegmentedLog, writeSegmented } from "../support/segmented-log.ts";

/** verify.py, on the frozen log, on logs with several segments made by hand, and against our own verifier. */
const VECTOR = "tests/vectors/log-v1.jsonl";
const VKEY = "boundary-daemon/vector-1+3a49790f+AWA6Zxkan4LwIfKVuue3bQzgVmkZXjTNP/SZy7vDK6uD";
const HEAD = "16 281c71f127aafc61e7fc095799a5dec7a592b18144477e0b926df0a61c62010a";
const LENGTH = 17;

const genesis = testSigner("genesis");
const second = testSigner("second");
const third = testSigner("third");
const thief = testSigner("the thief's key");
const MODE = { wanted: "RESTRICTED", epoch: 1, frozen: "" };

const temp = directoryOfFile("foreign");
let made = 0;

function fresh(): string {
  made += 1;
  const directory = join(temp, String(made));
  mkdirSync(directory);
  return directory;
}

/** Three segments with records of all kinds that the fold knows, and a log.pruned that covers the first. */
function story(): SegmentedLog {
  const log = createSegmentedLog(genesis);
  log.add("daemon.started", MODE);
  log.add("tripwire.fired", { ...MODE, epoch: 2, tripwire: "net" });
  log.add("baseline.set", { digest: "9f".repeat(32) });
  log.add("log.snapshot", log.snapshot());
  log.seal();
  log.announce(second);
  log.begin(second);
  log.add("clock.frozen", { ...MODE, why: "a step" });
  log.add("mode.changed", { ...MODE, epoch: "three" });
  log.seal();
  log.announce(third);
  log.begin(third);
  log.add("clock.cleared", { ...MODE, epoch: 4 });
  log.add("log.pruned", { by: 0, keptDays: 90, segments: 2, through: log.segments[1]?.first ?? 0 });
  log.add("daemon.stopped", { ...MODE, epoch: 4 });
  log.seal();
  return log;
}

function verdictOf(log: SegmentedLog, pruned = 0, head?: string) {
  return foreignVerify(writeSegmented(log, fresh(), pruned), genesis.vkey, head);
}

const headOf = (log: SegmentedLog, size: number): string => {
  const wanted = log.segments.flatMap(({ lines }) => lines).find((line) => recordOf(line).seq === size);
  const [, , base64 = ""] =
    /^[^\n]*\n([^\n]*)\n([^\n]*)\n/.exec(String(recordOf(wanted ?? "").data["note"])) ?? [];
  return `${size} ${Buffer.from(base64, "base64").toString("hex")}`;
};

describe.skipIf(PYTHON === null)(`verify.py ${NO_PYTHON}`, () => {
  test("takes the frozen log, and its head", () => {
    expect(foreignVerify(VECTOR, VKEY, HEAD)).toMatchObject({ exit: 0, verdict: "sound" });
    expect(foreignVerify(VECTOR, VKEY, HEAD.replace("16 ", "18 "))).toMatchObject({
      exit: 1,
      code: "tail-cut",
    });
    expect(foreignVerify(VECTOR, VKEY, HEAD.replace("16 ", "15 "))).toMatchObject({ code: "head-mismatch" });
    expect(foreignVerify(VECTOR, genesis.vkey)).toMatchObject({ exit: 1, code: "wrong-key" });
  });

  test.each([
    ["no key", [VECTOR]],
    ["a key that is none", [VECTOR, "--key", "a+b+c"]],
    ["a key of small order", [VECTOR, "--key", smallOrderKey()]],
    ["a head that is none", [VECTOR, "--key", VKEY, "--head", "17"]],
    ["a log that is not there", ["/nonexistent", "--key", VKEY]],
  ])("%s is a matter of usage: exit 2", (_name, args) => {
    expect(spawnSync(PYTHON ?? "", [VERIFY_PY, ...args]).status).toBe(2);
  });

  test("takes several segments, each with its own key, whole and pruned, and as one file", () => {
    const log = story();
    expect(verdictOf(log)).toMatchObject({ verdict: "sound" });
    expect(verdictOf(log, 1)).toMatchObject({ verdict: "sound" });
    expect(verdictOf(log, 1, headOf(log, log.head().size - 1))).toMatchObject({ verdict: "sound" });
    const one = join(fresh(), "all");
    writeFileSync(one, bytesOf(log.segments.flatMap(({ lines }) => lines)));
    expect(foreignVerify(one, genesis.vkey)).toMatchObject({ verdict: "sound" });
  });

  test.each([
    ["shadow", [{ to: "shadow", lasts: "always" }]],
    ["released by the boot parameter, after a stop", [{ to: "released", lasts: "boot" }]],
    [
      "enforced again by a person",
      [
        { to: "released", lasts: "boot" },
        { to: "enforcing", lasts: "always" },
      ],
    ],
    [
      "unreadable",
      [
        { to: "released", lasts: "always" },
        { to: "ajar", lasts: "always" },
      ],
    ],
    [
      "released again by the boot's parameter, over what was before it",
      [
        { to: "shadow", lasts: "always" },
        { to: "enforcing", lasts: "always" },
        { to: "released", lasts: "boot", base: "shadow" },
      ],
    ],
    ["released over what is no hold", [{ to: "released", lasts: "boot", base: "ajar" }]],
    ["for a boot, and no release", [{ to: "shadow", lasts: "boot" }]],
  ])("agrees on the hold in a segment's snapshot, whole and pruned: %s", (_name, changes) => {
    const log = createSegmentedLog(genesis);
    log.add("daemon.started", MODE);
    log.add("daemon.stopped", MODE);
    for (const change of changes) log.add("hold.changed", change);
    log.seal();
    log.announce(second);
    log.begin(second);
    log.add("log.pruned", { by: 0, keptDays: 90, segments: 1, through: log.segments[1]?.first ?? 0 });
    log.add("log.snapshot", log.snapshot());
    log.seal();
    expect(verdictOf(log)).toMatchObject({ verdict: "sound" });
    expect(verdictOf(log, 1)).toMatchObject({ verdict: "sound" });
  });

  const asked = (id: unknown) => ["approval.requested", { id, what: "to curl" }] as const;
  test.each([
    [
      "a state, and blocks after it",
      [
        ["limit.state", { keys: [], blocks: [{ name: "a" }] }],
        ["limit.blocked", { name: "b" }],
      ],
    ],
    [
      "blocks without a state",
      [
        ["limit.blocked", { name: "a" }],
        ["limit.blocked", { name: "b" }],
      ],
    ],
    [
      "a state that says nothing, and one of another form",
      [
        ["limit.state", {}],
        ["limit.state", { blocks: "x" }],
        ["limit.blocked", {}],
      ],
    ],
    [
      "a state emptied",
      [
        ["limit.state", { keys: [] }],
        ["limit.state", {}],
      ],
    ],
    ["more blocks than are kept", Array.from({ length: 60 }, (_, n) => ["limit.blocked", { n }])],
    [
      "a question, answered",
      [
        asked("a"),
        asked("b"),
        ["approval.approved", { id: "a", by: "eve" }],
        ["approval.denied", { id: "b" }],
      ],
    ],
    [
      "questions that ended",
      [asked("a"), asked("b"), ["approval.used", { id: "a" }], ["approval.expired", { id: "b" }]],
    ],
    [
      "answers to nothing, and ids of another type",
      [asked(3), ["approval.approved", { id: "z" }], ["approval.denied", {}], asked("a")],
    ],
    ["more questions than are kept", Array.from({ length: 20 }, (_, n) => asked(`q${n}`))],
    [
      "what Cedar disagreed about, and policies after it",
      [
        ["policy.loaded", { digest: "a", kept: "k" }],
        ["policy.disagreed", { digest: "a", compiled: "c" }],
        ["policy.disagreed", { digest: "b" }],
        ["policy.disagreed", { compiled: ["no text"] }],
        ["policy.loaded", { digest: "b", compiled: "d" }],
      ],
    ],
    [
      "more disagreements than are kept",
      Array.from({ length: 12 }, (_, n) => ["policy.disagreed", { compiled: `c${n}` }]),
    ],
    [
      "a list of them that is none",
      [
        ["policy.loaded", { disputed: "x" }],
        ["policy.disagreed", { compiled: "c" }],
      ],
    ],
    [
      "one of other things",
      [
        ["policy.loaded", { disputed: [3, "x", {}] }],
        ["policy.disagreed", { compiled: "c" }],
      ],
    ],
  ] as const)(
    "agrees on limits, approvals and policies in a segment's snapshot, whole and pruned: %s",
    (_name, entries) => {
      const log = createSegmentedLog(genesis);
      log.add("daemon.started", MODE);
      for (const [kind, data] of entries) log.add(kind as string, data as Data);
      log.seal();
      log.announce(second);
      log.begin(second);
      log.add("log.pruned", { by: 0, keptDays: 90, segments: 1, through: log.segments[1]?.first ?? 0 });
      log.add("log.snapshot", log.snapshot());
      log.seal();
      expect(verdictOf(log)).toMatchObject({ verdict: "sound" });
      expect(verdictOf(log, 1)).toMatchObject({ verdict: "sound" });
    },
  );

  test("a head within what was pruned is not compared, and that is said", () => {
    const found = verdictOf(story(), 1, headOf(story(), 6));
    expect(found).toMatchObject({ verdict: "sound", line: expect.stringContaining("1 heads not compared") });
  });

  test("a head may be a signed note, in a file as the daemon keeps it, under the key of its segment", () => {
    const log = story();
    const note = (head: { size: number; root: string }, signer: Signer) =>
      signNote(renderCheckpoint({ origin: genesis.vkey.split("+")[0] ?? "", ...head }), signer);
    const file = join(fresh(), "log.head");
    const given = (text: string) => {
      writeFileSync(file, Buffer.concat([Buffer.from(text), Buffer.alloc(20)]));
      return verdictOf(log, 0, file);
    };
    const [size = "", root = ""] = headOf(log, log.head().size - 1).split(" ");
    const head = { size: Number(size), root };
    expect(given(note(head, third))).toMatchObject({ verdict: "sound" });
    expect(given(note(log.head(), third))).toMatchObject({ verdict: "sound" });
    expect(given(note(head, second))).toMatchObject({ code: "head-mismatch" });
    expect(given(note({ ...head, size: head.size - 1 }, third))).toMatchObject({ code: "head-mismatch" });
    expect(given(note({ ...head, size: head.size + 9 }, third))).toMatchObject({ code: "tail-cut" });
    const others = signNote(renderCheckpoint({ origin: "another", ...head }), testSigner("third", "another"));
    expect(verdictOf(log, 0, others)).toMatchObject({ exit: 2 });
  });

  test("a segment counts before the tombstone that has its number", () => {
    const log = story();
    const directory = writeSegmented(log, fresh());
    cpSync(writeSegmented(log, fresh(), 1), directory, { recursive: true });
    expect(foreignVerify(directory, genesis.vkey)).toMatchObject({ verdict: "sound" });
  });

  test.each([
    ["after the seal that covers a log.rotated", (log: SegmentedLog) => log.announce(third), "sound"],
    [
      "in a log.rotated without a seal",
      (log: SegmentedLog) => log.add("log.rotated", { nothing: "good" }),
      "torn",
    ],
    ["in a record without a seal", (log: SegmentedLog) => log.add("daemon.note"), "torn"],
  ])("a log that ends %s", (_name, end, verdict) => {
    const log = createSegmentedLog(genesis);
    end(log);
    expect(verdictOf(log)).toMatchObject({ verdict });
  });

  const attacks: readonly (readonly [
    string,
    string,
    () => { log: SegmentedLog; pruned?: number; head?: string },
  ])[] = [
    [
      "a snapshot with another fold",
      "snapshot-lies",
      () => withSnapshot((shot) => ({ ...shot, fold: { ...shot.fold, epoch: 9 } })),
    ],
    [
      "a snapshot with another frontier",
      "snapshot-lies",
      () => withSnapshot((shot) => ({ ...shot, frontier: [...shot.frontier].reverse() })),
    ],
    ["a snapshot without a fold", "snapshot-lies", () => withSnapshot(({ frontier }) => ({ frontier }))],
    [
      "a segment's snapshot with another fold",
      "snapshot-lies",
      () => withSegment((log) => ({ snapshot: { ...log.snapshot(), fold: {} } })),
    ],
    ["a segment that names another key", "segment-start", () => withSegment(() => ({ key: thief.vkey }))],
    ["a segment with another number", "segment-start", () => withSegment(() => ({ segment: 2 }))],
    ["a segment signed by the key before", "seal-key", () => withSegment(() => ({}), genesis)],
    ["a segment under a key that nobody certified", "seal-key", () => withSegment(() => ({}), thief)],
    [
      "a seal forged under the next key",
      "seal-key",
      () => {
        const log = createSegmentedLog(genesis);
        log.add("decision");
        log.seal(second);
        log.announce(second);
        return { log };
      },
    ],
    ["a next key of small order", "segment-start", () => rotated({ key: smallOrderKey() })],
    [
      "a next key with another name",
      "segment-start",
      () => rotated({ key: testSigner("second", "another").vkey }),
    ],
    ["a rotation to another number", "segment-start", () => rotated({ segment: 7 })],
    [
      "another record after a rotation",
      "segment-start",
      () => {
        const log = createSegmentedLog(genesis);
        log.announce(second);
        log.add("decision");
        return { log };
      },
    ],
    [
      "a log.segment without a rotation",
      "segment-start",
      () => {
        const log = createSegmentedLog(genesis);
        log.begin(second);
        return { log };
      },
    ],
    [
      "a rotation that is not the last before its seal",
      "segment-start",
      () => {
        const log = createSegmentedLog(genesis);
        log.add("log.rotated", { key: second.vkey, segment: 1 });
        log.add("decision");
        log.seal();
        return { log };
      },
    ],
    ["a tombstone that nothing records", "pruned-unrecorded", () => ({ log: story(), pruned: 2 })],
    [
      "the tail cut at a seal",
      "tail-cut",
      () => {
        const log = createSegmentedLog(genesis);
        return { log, head: `12 ${log.head().root}` };
      },
    ],
    ["S not below L", "seal-signature", () => sealedBy((signature) => plusL(signature))],
    [
      "R of small order",
      "seal-signature",
      () => sealedBy((signature) => Buffer.concat([Buffer.alloc(32), signature.subarray(32)])),
    ],
  ];
  test.each(attacks)("%s → %s", (_name, code, make) => {
    const { log, pruned, head } = make();
    expect(verdictOf(log, pruned, head)).toMatchObject({ exit: 1, verdict: "broken", code });
  });

  const onFiles: readonly (readonly [string, string, (directory: string) => void])[] = [
    ["the first segment removed", "start-missing", (at) => rmSync(join(at, nth(at, 0)))],
    ["a middle segment removed", "segment-misnamed", (at) => rmSync(join(at, nth(at, 1)))],
    [
      "a segment under another name",
      "segment-misnamed",
      (at) => renameSync(join(at, nth(at, 1)), join(at, "00000000000000000011.jsonl")),
    ],
    [
      "two segments in one file",
      "segment-start",
      (at) => {
        writeFileSync(join(at, nth(at, 0)), readFileSync(join(at, nth(at, 1))), { flag: "a" });
        rmSync(join(at, nth(at, 1)));
      },
    ],
    [
      "a segment in two files",
      "segment-start",
      (at) => {
        const lines = readFileSync(join(at, nth(at, 2)), "utf8")
          .split("\n")
          .slice(0, -1);
        const seq = recordOf(lines[2] ?? "").seq;
        writeFileSync(join(at, nth(at, 2)), bytesOf(lines.slice(0, 2)));
        writeFileSync(join(at, `${String(seq).padStart(20, "0")}.jsonl`), bytesOf(lines.slice(2)));
      },
    ],
    [
      "a first segment that ends within a line",
      "line-unfinished",
      (at) => {
        writeFileSync(join(at, nth(at, 0)), readFileSync(join(at, nth(at, 0))).subarray(0, -5));
      },
    ],
    [
      "no file with a byte in it",
      "log-empty",
      (at) => {
        for (const name of readdirSync(at)) writeFileSync(join(at, name), "");
      },
    ],
  ];
  test.each(onFiles)("%s → %s", (_name, code, tamper) => {
    const directory = writeSegmented(story(), fresh());
    tamper(directory);
    expect(foreignVerify(directory, genesis.vkey)).toMatchObject({ exit: 1, code });
  });

  test("no byte of a tombstone can be changed unseen", () => {
    const directory = writeSegmented(story(), fresh(), 1);
    const path = join(directory, nth(directory, 0));
    const whole = readFileSync(path);
    const places = Array.from({ length: 40 }, (_, i) => Math.floor((i * whole.length) / 40));
    for (const at of places) {
      const changed = Buffer.from(whole);
      changed[at] = (changed[at] ?? 0) ^ 1;
      writeFileSync(path, changed);
      expect(foreignVerify(directory, genesis.vkey), `byte ${at}`).toMatchObject({ verdict: "broken" });
    }
  });

  // no hash covers the last line yet: its form alone shows that it was touched
  test.each([
    ["a space in it", "json-invalid", (line: string) => line.replace('{"at":', '{"at": ')],
    ["an escape in it", "json-invalid", (line: string) => line.replace("seal", "\\u0073eal")],
    ["another time", "seal-form", (line: string) => line.replace("2026-", "2027-")],
    ["another boot", "seal-form", (line: string) => line.replace("5a0e", "5a0f")],
    ["a field more", "record-shape", (line: string) => line.replace('"v":1}', '"v":1,"w":1}')],
  ])("the last seal with %s → %s", (_name, code, change) => {
    const file = join(fresh(), "log");
    const lines = readFileSync(VECTOR, "utf8").split("\n").slice(0, -1);
    writeFileSync(file, bytesOf(lines.with(LENGTH - 1, change(lines.at(-1) ?? ""))));
    expect(foreignVerify(file, VKEY)).toMatchObject({ exit: 1, code });
  });

  test("says sound, torn or broken as our own verifier does, of any change to a log", async () => {
    const directory = fresh();
    const changed = fc.sample(changedLog(), 600);
    for (const [index, bytes] of changed.entries()) writeFileSync(join(directory, String(index)), bytes);
    const theirs = verdictsOf(directory, changed.length);
    const seen = new Set<string>();
    for (const [index, bytes] of changed.entries()) {
      const { verdict, bad } = await verifyLog(chunksOf({ log: bytes }), { vkey: VKEY });
      seen.add(verdict);
      expect(theirs[index], `${bad?.code}\n${Buffer.from(bytes).toString("latin1")}`).toBe(verdict);
    }
    expect([...seen].sort()).toEqual(["broken", "sound", "torn"]);
  });
});

function nth(directory: string, index: number): string {
  return readdirSync(directory).sort()[index] ?? "";
}

function withSnapshot(change: (shot: ReturnType<SegmentedLog["snapshot"]>) => Data) {
  const log = createSegmentedLog(genesis);
  log.add("daemon.started", MODE);
  log.add("log.snapshot", change(log.snapshot()));
  log.seal();
  return { log };
}

function withSegment(says: (log: SegmentedLog) => Data, by: Signer = second) {
  const log = createSegmentedLog(genesis);
  log.announce(second);
  log.begin(second, says(log));
  log.seal(by);
  return { log };
}

function rotated(says: Data) {
  const log = createSegmentedLog(genesis);
  log.announce(second, says);
  return { log };
}

/** A seal by the right key, its signature changed. */
function sealedBy(change: (signature: Buffer) => Buffer) {
  const log = createSegmentedLog(genesis);
  log.add("decision");
  log.seal({ vkey: genesis.vkey, sign: (message) => change(genesis.sign(message)) });
  return { log };
}

function plusL(signature: Buffer): Buffer {
  const order = 2n ** 252n + 27_742_317_777_372_353_535_851_937_790_883_648_493n;
  const s = BigInt(`0x${Buffer.from(signature.subarray(32)).reverse().toString("hex")}`) + order;
  const bytes = Buffer.from(s.toString(16).padStart(64, "0"), "hex").reverse();
  return Buffer.concat([signature.subarray(0, 32), bytes]);
}

/** A verifier key whose point is the neutral one: it "verifies" signatures that nobody made. */
function smallOrderKey(): string {
  const point = Buffer.concat([Buffer.from([1]), Buffer.alloc(31)]);
  return keyOf(genesis.vkey.split("+")[0] ?? "", point);
}

function keyOf(name: string, point: Buffer): string {
  const typed = Buffer.concat([Buffer.from([1]), point]);
  const hash = spawnSync(PYTHON ?? "python3", [
    "-c",
    "import hashlib,sys; print(hashlib.sha256(sys.argv[1].encode()+b'\\n'+bytes.fromhex(sys.argv[2])).hexdigest()[:8])",
    name,
    typed.toString("hex"),
  ]);
  return `${name}+${hash.stdout.toString().trim()}+${typed.toString("base64")}`;
}

/** The frozen log, changed: bytes, lines, its end, or records hashed anew by somebody without the key. */
function changedLog(): fc.Arbitrary<Uint8Array> {
  const whole = readFileSync(VECTOR);
  const lines = whole.toString("utf8").split("\n").slice(0, -1);
  const line = fc.nat(LENGTH - 1);
  return fc.oneof(
    fc.constant(whole),
    fc.nat(whole.length).map((size) => whole.subarray(0, size)),
    line.map((seq) => bytesOf(lines.slice(0, seq + 1))),
    fc.tuple(fc.nat(whole.length - 1), fc.integer({ min: 1, max: 255 })).map(([at, mask]) => {
      const changed = Buffer.from(whole);
      changed[at] = (changed[at] ?? 0) ^ mask;
      return changed;
    }),
    fc
      .tuple(fc.nat(whole.length), fc.uint8Array({ maxLength: 20 }))
      .map(([at, more]) => Buffer.concat([whole.subarray(0, at), more, whole.subarray(at)])),
    fc.uint8Array({ maxLength: 60 }).map((more) => Buffer.concat([whole, more])),
    fc.tuple(line, line).map(([from, to]) => bytesOf(lines.toSpliced(to, 0, lines[from] ?? ""))),
    line.map((seq) => bytesOf(lines.toSpliced(seq, 1))),
    fc.tuple(line, fc.json({ maxDepth: 2 })).map(([seq, text]) => bytesOf(lines.toSpliced(seq, 0, text))),
    fc.tuple(line, fc.string()).map(([seq, text]) => {
      const records = lines.map(recordOf);
      const record = records[seq];
      if (!record) return whole;
      return bytesOf(
        forge(records.with(seq, { ...record, data: { text: text.toWellFormed() } }), { from: seq }),
      );
    }),
  );
}

/** verify.py's own verdicts, of many files in one process. */
function verdictsOf(directory: string, files: number): readonly string[] {
  const script = [
    "import sys",
    `sys.path.insert(0, ${JSON.stringify(join(VERIFY_PY, ".."))})`,
    "import verify",
    "key = verify.Key(sys.argv[2])",
    "for i in range(int(sys.argv[3])): print(verify.verify(f'{sys.argv[1]}/{i}', key, [])[0])",
  ].join("\n");
  const ran = spawnSync(PYTHON ?? "", ["-B", "-c", script, directory, VKEY, String(files)], {
    encoding: "utf8",
  });
  if (ran.status !== 0) throw new Error(ran.stderr);
  return ran.stdout.trim().split("\n");
}
