import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Data, RecordKind, Value } from "../../daemon/audit/record.ts";
import { verifyLog } from "../../daemon/audit/verify.ts";
import { SECRETS } from "../support/secrets.ts";
import { chunksOf, fakeLog, testSigner } from "./fixture.ts";

const KINDS = [
  "decision",
  "mode.changed",
  "tripwire.noted",
  "gap",
  "log.recovered",
  "baseline.set",
] as const satisfies readonly RecordKind[];

describe("the appender", () => {
  test("writes no secret, wherever in a record it was given, and what it wrote verifies", async () => {
    await fc.assert(
      fc.asyncProperty(
        SECRETS,
        fc.constantFrom(...KINDS),
        fc.array(fc.constantFrom("array", "value", "key"), { maxLength: 6 }),
        async ({ text, secret }, kind, nest) => {
          const fake = fakeLog();
          const { durable } = fake.log.append({
            kind,
            data: { reason: nest.reduce<Value>(wrap, text), uid: 7 },
          });
          await durable;
          const written = fake.store.text();
          expect(written).toContain('"uid":7');
          expect(written).not.toContain(secret);
          expect(JSON.stringify(fake.seen)).not.toContain(secret);
          const log = Buffer.concat(fake.store.chunks);
          expect(await verifyLog(chunksOf({ log }), { vkey: testSigner().vkey })).toMatchObject({
            verdict: "sound",
          });
        },
      ),
      { numRuns: 300 },
    );
  });

  test("leaves alone what the log says about itself, whose bytes a verifier compares", async () => {
    const fake = fakeLog({ origin: "token=of/sorts", signer: testSigner("x", "token=of/sorts") });
    await fake.log.drain();
    const log = Buffer.concat(fake.store.chunks);
    expect(log.toString()).not.toContain("[redacted");
    const { vkey } = testSigner("x", "token=of/sorts");
    expect(await verifyLog(chunksOf({ log }), { vkey })).toMatchObject({ verdict: "sound", records: 2 });
  });

  test("a record without secrets is written as it was given", async () => {
    const fake = fakeLog();
    const data: Data = {
      digest: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
      key: "log+0123abcd+AAAA",
    };
    await fake.log.append({ kind: "baseline.set", data }).durable;
    expect(fake.seen.find((record) => record.kind === "baseline.set")?.data).toBe(data);
  });
});

function wrap(inner: Value, how: string): Value {
  if (how === "array") return ["x", inner, 1];
  return how === "key" && typeof inner === "string" ? { [inner]: 1 } : { why: inner, n: 1 };
}
