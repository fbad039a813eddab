import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { MAX_BATCH_BYTES } from "../../daemon/audit/log.ts";
import type { LogRecord } from "../../daemon/audit/record.ts";
import { verifyLog } from "../../daemon/audit/verify.ts";
import {
  bytesOf,
  chunksOf,
  codeOf,
  decision,
  fakeLog,
  forge,
  recordOf,
  testClock,
  testSigner,
} from "./fixture.ts";

const { vkey } = testSigner();

async function makeLog(
  batches: number,
  clock = testClock(),
): Promise<{ bytes: Buffer; lines: string[]; notes: string[] }> {
  const fake = fakeLog({ clock });
  await fake.log.drain();
  for (let i = 0; i < batches; i++) {
    fake.log.append(decision(`grün ${i}`));
    await fake.log.drain();
  }
  const bytes = Buffer.concat(fake.store.chunks);
  return { bytes, lines: bytes.toString("utf8").split("\n").slice(0, -1), notes: fake.head.notes };
}
const verify = (bytes: Buffer, head?: string) => verifyLog(chunksOf({ log: bytes }), { vkey, head });

describe("verifyLog", () => {
  test("comes to one verdict however the bytes are cut into chunks", async () => {
    const { bytes } = await makeLog(5);
    const whole = await verify(bytes);
    for (const size of [1, 2, 7, 100, 1000, bytes.length]) {
      expect(await verifyLog(chunksOf({ log: bytes }, size), { vkey })).toEqual(whole);
    }
    expect(whole).toMatchObject({ verdict: "sound", records: 12 });
  });

  test("any prefix is sound at a seal and torn elsewhere, and says what is proven", async () => {
    const { bytes, lines } = await makeLog(3);
    const seals = lines.flatMap((line, index) =>
      recordOf(line).kind === "seal" ? [bytesOf(lines.slice(0, index + 1)).length] : [],
    );
    for (let length = 1; length < bytes.length; length += 7) {
      const verdict = await verify(bytes.subarray(0, length));
      const proven = seals.filter((end) => end <= length).at(-1) ?? 0;
      expect(verdict.verdict).toBe(proven === length ? "sound" : "torn");
      expect(verdict.trustworthyUpTo?.endByte ?? 0).toBe(proven);
      expect(verdict.unsealed.bytes).toBe(length - proven);
      if (proven < length) expect(verdict.unsealed.from).toMatchObject({ file: "log", byte: proven });
    }
  });

  test("every older head of the same log is contained in it; a head it does not reach is a cut tail", async () => {
    const { bytes, notes } = await makeLog(4);
    for (const note of notes) expect((await verify(bytes, note)).verdict).toBe("sound");
    const size = bytes.lastIndexOf("\n", bytes.length - 2) + 1;
    expect((await verify(bytes.subarray(0, size), notes.at(-1))).bad?.code).toBe("tail-cut");
    expect((await verify(bytes.subarray(0, size), notes.at(-2))).verdict).toBe("torn");
  });

  test("a head can be given by hand, as size and root", async () => {
    const { bytes } = await makeLog(2);
    const { size, root } = await verify(bytes);
    expect((await verifyLog(chunksOf({ log: bytes }), { vkey, head: { size, root } })).verdict).toBe("sound");
    const other = { size, root: "0".repeat(64) };
    expect((await verifyLog(chunksOf({ log: bytes }), { vkey, head: other })).bad?.code).toBe(
      "head-mismatch",
    );
  });

  test("a key or a head that cannot be read is an error, not a verdict", async () => {
    const { bytes, notes } = await makeLog(1);
    const run = (key: string, head?: string | { size: number; root: string }) =>
      codeOf(() => verifyLog(chunksOf({ log: bytes }), { vkey: key, head }));
    expect(await run("nonsense")).toBe("key-invalid");
    expect(await run(vkey, "nonsense")).toBe("head-invalid");
    expect(await run(vkey, (notes[0] ?? "").replace("\n1\n", "\n2\n"))).toBe("head-invalid");
    expect(await run(vkey, { size: -1, root: "00" })).toBe("head-invalid");
  });

  test("a clock that goes back is reported and no fault", async () => {
    const clock = testClock();
    const fake = fakeLog({ clock });
    await fake.log.drain();
    clock.moveMs(-60_000);
    fake.log.append(decision("earlier"));
    await fake.log.drain();
    const verdict = await verify(Buffer.concat(fake.store.chunks));
    expect(verdict).toMatchObject({ verdict: "sound", warnings: [expect.stringContaining("record 2")] });
  });

  test("lists the gaps, tells the state, and shows every record in order", async () => {
    const fake = fakeLog();
    fake.log.append({ kind: "daemon.started", data: { wanted: "AIRGAP", epoch: 4 } });
    fake.log.append({ kind: "gap", data: { changed: 2 } });
    await fake.log.drain();
    const seen: LogRecord[] = [];
    const bytes = Buffer.concat(fake.store.chunks);
    const verdict = await verifyLog(chunksOf({ log: bytes }), {
      vkey,
      onRecord: (record) => seen.push(record),
    });
    expect(verdict.gaps).toEqual([{ seq: 2, at: expect.any(String), data: { changed: 2 } }]);
    expect(verdict.state).toMatchObject({ wanted: "AIRGAP", epoch: 4, stop: "running" });
    expect(seen).toEqual(fake.seen);
  });

  test("what is not sealed has no say in the state", async () => {
    const fake = fakeLog();
    fake.log.append({ kind: "daemon.started", data: { wanted: "AIRGAP", epoch: 4 } });
    await fake.log.drain();
    const lines = Buffer.concat(fake.store.chunks).toString("utf8").split("\n").slice(0, -1);
    const loosened = {
      ...recordOf(lines[1] ?? ""),
      kind: "mode.changed",
      data: { wanted: "OPEN", epoch: 4 },
    };
    const forged = forge([...lines.map(recordOf), loosened], { from: lines.length });
    const verdict = await verify(bytesOf(forged));
    expect(verdict).toMatchObject({ verdict: "torn", state: { wanted: "AIRGAP" }, unsealed: { records: 1 } });
  });

  test("more seals than wait for one signature check: the first bad signature is found", async () => {
    const { lines } = await makeLog(150);
    const records = lines.map(recordOf);
    const thief = { vkey, sign: testSigner("thief").sign };
    const forged = forge(records, { from: 161, signer: thief }); // keeps the chain, forges seals from 161 on
    const verdict = await verify(bytesOf(forged));
    expect(verdict.bad).toMatchObject({ code: "seal-signature", seq: 161 });
    expect(verdict.trustworthyUpTo?.seq).toBe(159);
  });

  test("a log of any length is verified in the memory of a few chunks", async () => {
    const { bytes } = await makeLog(1);
    let yielded = 0;
    async function* endless() {
      yield { file: "log", bytes };
      for (; yielded < 200; yielded++) yield { file: "log", bytes: Buffer.alloc(1024 * 1024, "x") };
    }
    expect((await verifyLog(endless(), { vkey })).bad?.code).toBe("line-too-long");
    expect(yielded).toBe(0);
  });

  test("any bytes whatever get a verdict, and none of them is sound", async () => {
    const { bytes } = await makeLog(2);
    await fc.assert(
      fc.asyncProperty(
        fc.nat(bytes.length),
        fc.uint8Array({ minLength: 1, maxLength: 200 }),
        fc.nat(200),
        async (at, noise, cut) => {
          const changed = Buffer.concat([bytes.subarray(0, at), noise, bytes.subarray(at + cut)]);
          if (changed.equals(bytes)) return;
          const { verdict, trustworthyUpTo } = await verify(changed);
          expect(verdict === "sound" && changed.length >= bytes.length).toBe(false);
          expect(trustworthyUpTo?.endByte ?? 0).toBeLessThanOrEqual(
            Math.max(at, commonPrefix(bytes, changed)),
          );
        },
      ),
      { numRuns: 300 },
    );
  });

  test("zeros anywhere in the last batch are torn, as a power cut leaves them; further up they are an edit", async () => {
    const fake = fakeLog();
    await fake.log.drain();
    for (let batch = 0; batch < 3; batch++) {
      for (let n = 0; n < 12; n++) fake.log.append(decision(`${batch}.${n}`));
      await fake.log.drain();
    }
    const bytes = Buffer.concat(fake.store.chunks);
    const last = bytes.length - (fake.store.chunks.at(-1)?.length ?? 0);
    for (let at = last; at < bytes.length; at += 97) {
      const harmed = Buffer.from(bytes).fill(0, at, Math.min(bytes.length, at + 512));
      const verdict = await verify(harmed);
      expect(verdict.verdict, `byte ${at}`).toBe("torn");
      expect(verdict.trustworthyUpTo?.endByte).toBe(last);
      expect(verdict.unsealed.bytes).toBe(bytes.length - last);
      expect((await verify(harmed, fake.head.notes.at(-1))).bad?.code, `byte ${at}`).toBe("tail-cut");
    }
    const inner = last - (fake.store.chunks.at(-2)?.length ?? 0);
    for (let at = inner; at < last - 600; at += 97)
      expect((await verify(Buffer.from(bytes).fill(0, at, at + 512))).verdict, `byte ${at}`).toBe("broken");
  });

  test("one batch that filled the whole queue is still within what a crash may leave", async () => {
    const fake = fakeLog();
    // what the machine itself records may fill it; one record more would be a failure of the log
    const entry = { kind: "sensor.blind", data: { why: "x".repeat(60_000) } } as const;
    for (let i = 0; i < 68; i++) fake.log.append(entry);
    await fake.log.drain();
    const bytes = Buffer.concat(fake.store.chunks);
    expect(bytes.length).toBeGreaterThan(MAX_BATCH_BYTES - 140_000);
    expect((await verify(bytes)).verdict).toBe("sound");
    expect((await verify(bytes.subarray(0, -1))).verdict).toBe("torn");
  });
});

function commonPrefix(a: Buffer, b: Buffer): number {
  let length = 0;
  while (length < Math.min(a.length, b.length) && a[length] === b[length]) length++;
  return length;
}
