import { describe, expect, test } from "vitest";
import { parseCheckpoint, parseNote, parseVkey, verifyNote } from "../../daemon/audit/checkpoint.ts";
import { emptyTail, MAX_BATCH_BYTES, openLog } from "../../daemon/audit/log.ts";
import { leafHash } from "../../daemon/audit/merkle.ts";
import { FIRST_PREV, MAX_RECORD_BYTES, type RecordKind } from "../../daemon/audit/record.ts";
import { verifyLog } from "../../daemon/audit/verify.ts";
import {
  chunksOf,
  codeOf,
  decision,
  type FakeLog,
  fakeHead,
  fakeLog,
  fakeStore,
  ORIGIN,
  recordOf,
  testClock,
  testSigner,
} from "./fixture.ts";

const { vkey } = testSigner();
const linesIn = (fake: FakeLog) => fake.store.text().split("\n").slice(0, -1);
const kindsIn = (fake: FakeLog) => linesIn(fake).map((line) => recordOf(line).kind);
const verify = (fake: FakeLog) =>
  verifyLog(chunksOf({ log: Buffer.concat(fake.store.chunks) }), { vkey, head: fake.head.notes.at(-1) });

describe("the appender", () => {
  test("a new log begins with a genesis record that names its key, and is sealed", async () => {
    const fake = fakeLog();
    await fake.log.drain();
    const [genesis, seal] = linesIn(fake).map(recordOf);
    expect(genesis).toMatchObject({
      v: 1,
      seq: 0,
      kind: "log.genesis",
      prev: FIRST_PREV,
      data: { format: 1, origin: ORIGIN, key: vkey, segment: 0 },
    });
    expect(seal).toMatchObject({ seq: 1, kind: "seal", at: genesis?.at });
    expect(await verify(fake)).toMatchObject({ verdict: "sound", records: 2, seals: 1, size: 1 });
  });

  test("numbers, times and chains at the call, before anything is written", async () => {
    const fake = fakeLog();
    const receipts = [decision("a"), decision("b"), decision("c")].map((entry) => fake.log.append(entry));
    expect(receipts.map((receipt) => receipt.seq)).toEqual([1, 2, 3]);
    expect(receipts.map((receipt) => receipt.at)).toEqual([...receipts].map((receipt) => receipt.at).sort());
    expect(fake.store.chunks.length).toBe(0);
    await fake.log.drain();
    const lines = linesIn(fake);
    for (const [index, line] of lines.entries()) {
      const before = lines[index - 1];
      expect(recordOf(line).prev).toBe(before === undefined ? FIRST_PREV : leafHash(Buffer.from(before)));
    }
  });

  test("what is appended while a write is under way is the next batch, in order and with one seal", async () => {
    const fake = fakeLog();
    fake.store.behave = "hang";
    const first = fake.log.append(decision("first"));
    await new Promise(setImmediate);
    const others = Array.from({ length: 50 }, (_, i) => fake.log.append(decision(String(i))));
    await new Promise(setImmediate);
    expect(fake.store.chunks.length).toBe(0);
    fake.store.release();
    await first.durable;
    await Promise.all(others.map((other) => other.durable));
    expect(fake.store.chunks.length).toBe(2);
    expect(kindsIn(fake)).toEqual([
      "log.genesis",
      "decision",
      "seal",
      ...others.map(() => "decision"),
      "seal",
    ]);
    expect(await verify(fake)).toMatchObject({ verdict: "sound", records: 54, seals: 2 });
  });

  test("durable only after the write, the remembered head and its seal", async () => {
    const events: string[] = [];
    const store = fakeStore();
    const write = store.write.bind(store);
    const log = openLog({
      store: { ...store, write: (chunk) => write(chunk).then(() => void events.push("written")) },
      signer: testSigner(),
      head: {
        async remember() {
          events.push("remembered");
        },
      },
      clock: testClock(),
      tail: emptyTail(),
      origin: ORIGIN,
      onRecord: (record) => events.push(record.kind),
      onFailed: () => events.push("failed"),
    });
    const durable = log.append(decision("x")).durable.then(() => events.push("durable"));
    expect(events).toEqual([]);
    await durable;
    await log.close();
    expect(events).toEqual(["written", "remembered", "log.genesis", "decision", "seal", "durable"]);
  });

  test("head() is the newest seal on disk, and its note verifies", async () => {
    const fake = fakeLog();
    expect(fake.log.head()).toMatchObject({ size: 0, note: "", sealedAt: "" });
    const { at } = fake.log.append(decision("x"));
    await fake.log.drain();
    const { size, root, sealedAt, note } = fake.log.head();
    const parsed = parseNote(note);
    const verifier = parseVkey(vkey);
    if (!parsed.ok || !verifier.ok) throw new Error("the note does not parse");
    const text = verifyNote(verifier.value, parsed.value);
    expect(text.ok && parseCheckpoint(text.value)).toEqual({
      ok: true,
      value: { origin: ORIGIN, size, root },
    });
    expect({ size, sealedAt, remembered: fake.head.notes.at(-1) }).toEqual({
      size: 2,
      sealedAt: at,
      remembered: note,
    });
  });

  test("seal() writes a sign of life when nothing is pending, and none when something is", async () => {
    const fake = fakeLog();
    await fake.log.seal();
    expect(kindsIn(fake)).toEqual(["log.genesis", "seal"]);
    await fake.log.seal();
    fake.log.append(decision("x"));
    await fake.log.seal();
    expect(kindsIn(fake)).toEqual(["log.genesis", "seal", "log.alive", "seal", "decision", "seal"]);
    expect(await verify(fake)).toMatchObject({ verdict: "sound" });
  });

  test("goes on where a log ended, and the whole verifies as one", async () => {
    const fake = fakeLog();
    fake.log.append(decision("before"));
    await fake.log.close();
    const verdict = await verify(fake);
    const tail = verdict.trustworthyUpTo?.tail;
    if (!tail) throw new Error("nothing proven");
    expect(tail.head).toEqual(fake.log.head());
    const again = fakeLog({ store: fake.store, tail });
    expect(again.log.head()).toEqual(fake.log.head());
    again.log.append(decision("after"));
    await again.log.drain();
    expect(kindsIn(fake)).toEqual(["log.genesis", "decision", "seal", "decision", "seal"]);
    expect(await verify({ ...fake, head: again.head })).toMatchObject({
      verdict: "sound",
      records: 5,
      size: 4,
    });
  });

  test("text from outside with lone surrogates is made well-formed, in the file and for the listener", async () => {
    const fake = fakeLog();
    fake.log.append({ kind: "decision", data: { "k\ud800": ["x\udc00"] } });
    await fake.log.drain();
    expect(fake.seen[1]?.data).toEqual({ "k\ufffd": ["x\ufffd"] });
    expect(await verify(fake)).toMatchObject({ verdict: "sound" });
  });
});

describe("what it refuses", () => {
  test("a record over 65,535 bytes, without using up a number", async () => {
    const fake = fakeLog();
    const empty = fake.log.append(decision(""));
    await fake.log.drain();
    const overhead = (linesIn(fake)[1] ?? "").length;
    const fits = "é".repeat((MAX_RECORD_BYTES - overhead - 1) / 2);
    expect(await codeOf(() => fake.log.append(decision("x".repeat(MAX_RECORD_BYTES))))).toBe(
      "record-too-large",
    );
    expect(await codeOf(() => fake.log.append(decision(`${fits}ééé`)))).toBe("record-too-large");
    expect(fake.log.append(decision(fits)).seq).toBe(empty.seq + 2); // the seal took one
    await fake.log.drain();
    expect(await verify(fake)).toMatchObject({ verdict: "sound" });
  });

  test("what cannot be recorded", async () => {
    const fake = fakeLog();
    expect(await codeOf(() => fake.log.append({ kind: "decision", data: { a: 0.5 } }))).toBe(
      "record-invalid",
    );
    expect(fake.log.append(decision("x")).seq).toBe(1);
    await fake.log.drain();
    expect(await verify(fake)).toMatchObject({ verdict: "sound" });
  });

  /** Appends until it throws; the code, and the bytes that were taken. */
  async function flood(fake: FakeLog, kind: RecordKind): Promise<{ code: string; bytes: number }> {
    const text = "x".repeat(60_000);
    for (let bytes = 0; ; bytes += text.length) {
      const code = await codeOf(() => fake.log.append({ kind, data: { text } }));
      if (code !== "nothing thrown") return { code, bytes };
    }
  }

  test.each([
    "decision",
    "decision.repeated",
    "request.refused",
    "tripwire.noted",
    "tripwire.repeated",
    "ceremony.refused",
  ] as const)(
    "a flood of %s while the disk hangs, with room left for the machine's records; afterwards it goes on",
    async (kind) => {
      const fake = fakeLog();
      fake.store.behave = "hang";
      const { code, bytes } = await flood(fake, kind);
      expect(code).toBe("log-unavailable");
      expect(Math.abs(bytes - 0.75 * MAX_BATCH_BYTES)).toBeLessThan(180_000);
      const next = fake.log.append({ kind: "tripwire.fired", data: { wanted: "LOCKDOWN" } });
      expect(next.seq).toBe(1 + bytes / 60_000);
      expect([fake.log.state(), fake.failures]).toEqual(["writing", []]);
      fake.store.release();
      await next.durable;
      await fake.log.append(decision("and on")).durable;
      expect(await verify(fake)).toMatchObject({ verdict: "sound" });
    },
  );

  test("a machine's record that finds no room is a failure of the log, told after the append", async () => {
    const fake = fakeLog();
    fake.store.behave = "hang";
    const genesis = codeOf(() => fake.log.drain());
    await new Promise(setImmediate);
    await flood(fake, "decision");
    let bytes = 0;
    while (fake.log.state() === "writing" && bytes < MAX_BATCH_BYTES) {
      bytes += 60_000;
      try {
        fake.log.append({ kind: "mode.changed", data: { text: "x".repeat(60_000) } });
      } catch {
        expect(fake.failures).toEqual([]); // not from within the append
      }
    }
    expect(bytes).toBeGreaterThan(MAX_BATCH_BYTES / 4 - 120_000);
    expect(await genesis).toBe("log-unavailable");
    expect(fake.failures.map((failure) => failure.code)).toEqual(["log-unavailable"]);
    expect(await codeOf(() => fake.log.append(decision("small")))).toBe("log-unavailable");
    await fake.log.close();
    expect(fake.store.closed).toBe(false); // a write is under way in it
    fake.store.release();
    await new Promise(setImmediate);
    expect([fake.failures.length, fake.seen.length]).toEqual([1, 0]);
  });

  test("anything after close, which writes what was pending", async () => {
    const fake = fakeLog();
    fake.log.append(decision("pending"));
    await fake.log.close();
    expect(fake.store.closed).toBe(true);
    expect(kindsIn(fake)).toEqual(["log.genesis", "decision", "seal"]);
    expect(await codeOf(() => fake.log.append(decision("late")))).toBe("log-unavailable");
  });
});

describe("when writing fails", () => {
  test.each(["fail", "fail-after-writing"] as const)(
    "(%s) it is failed for good: pending and later appends are refused, and it is told once",
    async (behave) => {
      const fake = fakeLog();
      await fake.log.drain();
      const head = fake.log.head();
      fake.store.behave = behave;
      const first = fake.log.append(decision("first"));
      await new Promise(setImmediate);
      fake.store.behave = "write";
      expect(await codeOf(() => first.durable)).toBe("log-unavailable");
      expect(fake.log.state()).toBe("failed");
      expect(await codeOf(() => fake.log.append(decision("later")))).toBe("log-unavailable");
      expect(await codeOf(() => fake.log.seal())).toBe("log-unavailable");
      expect(await codeOf(() => fake.log.drain())).toBe("log-unavailable");
      await fake.log.close();
      expect(fake.failures.map((failure) => failure.code)).toEqual(["log-unavailable"]);
      expect(fake.log.head()).toEqual(head);
      expect(fake.head.notes.length).toBe(1);
    },
  );

  test("records that wait behind the failing write are refused too, and nothing more is written", async () => {
    const fake = fakeLog();
    await fake.log.drain();
    fake.store.behave = "hang";
    const first = fake.log.append(decision("first"));
    await new Promise(setImmediate);
    const second = fake.log.append(decision("second"));
    const written = fake.store.chunks.length;
    fake.store.harm = { what: "truncated", detail: "0 bytes" };
    fake.store.release();
    expect(await codeOf(() => first.durable)).toBe("log-unavailable");
    expect(await codeOf(() => second.durable)).toBe("log-unavailable");
    await new Promise(setImmediate);
    expect(fake.store.chunks.length).toBe(written + 1);
    expect(fake.failures.length).toBe(1);
  });

  test("a head that cannot be remembered fails the log, but not the records that are on disk", async () => {
    const fake = fakeLog({
      head: {
        remember: () => Promise.reject(new Error("no space left on device")),
      },
    });
    expect(await codeOf(() => fake.log.drain())).toBe("nothing thrown");
    await new Promise(setImmediate);
    expect(fake.log.state()).toBe("failed");
    expect(fake.failures.length).toBe(1);
  });

  test("a signer that fails fails the log", async () => {
    const signer = {
      vkey,
      sign: () => {
        throw new Error("no key");
      },
    };
    const fake = fakeLog({ signer, head: fakeHead() });
    expect(await codeOf(() => fake.log.drain())).toBe("log-unavailable");
    expect(fake.store.chunks.length).toBe(0);
  });
});
