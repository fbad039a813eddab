import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { renderCheckpoint, signNote } from "../../daemon/audit/checkpoint.ts";
import { cosign, parseWitnessVkey } from "../../daemon/audit/cosignature.ts";
import {
  checkpointRequest,
  readCertificateAnswer,
  readCheckpointAnswer,
} from "../../daemon/audit/witness-exchange.ts";
import { testWitnessKey } from "../support/witness-key.ts";
import { testSigner } from "./fixture.ts";

const signer = testWitnessKey("witness.example/w1");
const parsed = parseWitnessVkey(signer.vkey);
if (!parsed.ok) throw new Error(parsed.why);
const text = renderCheckpoint({ origin: "boundary-daemon/test", size: 9, root: "ab".repeat(32) });
const asked = { witness: parsed.value, note: signNote(text, testSigner()), sent: 5 };
const read = (status: number, body: string) => readCheckpointAnswer({ status, body }, asked);

describe("what is sent", () => {
  test("has the form of the example of c2sp.org/tlog-witness", () => {
    const from = { size: 20_852_014, root: "00".repeat(32) };
    const consistency = ["3e544d0abc07a6a846aeea6e7b42fb8316e36cc88a03db5e9afb996430e991ac"];
    const claim = { kind: "older", from, consistency } as const;
    expect(checkpointRequest({ keys: [], checkpoint: asked.note, claim })).toEqual({
      path: "/add-checkpoint",
      body: `old 20852014\nPlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=\n\n${asked.note}`,
    });
  });
});

describe("what an answer to a checkpoint means", () => {
  const line = `${cosign(text, signer, 7)}\n`;

  test("200: the witness's own lines alone are added to the note", () => {
    const other = `${cosign(text, testWitnessKey("witness.example/w2"), 7)}\n`;
    const newerKind = `— witness.example/w1 ${Buffer.alloc(2_432, 7).toString("base64")}\n`;
    expect(read(200, other + newerKind + line)).toEqual({ kind: "cosigned", note: asked.note + line, at: 7 });
    expect(read(200, other)).toMatchObject({ kind: "refused" });
  });

  test("200 with a cosignature of something else: refused", () => {
    const elsewhere = text.replace("\n9\n", "\n10\n");
    expect(read(200, `${cosign(elsewhere, signer, 7)}\n`)).toMatchObject({ kind: "refused" });
  });

  test("409: another size, or the same size and so another tree", () => {
    expect(read(409, "7\n")).toEqual({ kind: "other-size", size: 7 });
    expect(read(409, "5\n")).toMatchObject({
      kind: "refused",
      why: "it has cosigned another tree of 5 records",
    });
    for (const body of ["", "7", "07\n", "-1\n", "7\n7\n", "9007199254740993\n", "7 \n"])
      expect(read(409, body)).toEqual({ kind: "refused", why: "it named no size" });
  });

  test("403 asks for keys; all others are a refusal", () => {
    expect(read(403, "")).toEqual({ kind: "key-unknown" });
    for (const status of [0, 201, 204, 302, 400, 404, 422, 500])
      expect(read(status, line)).toMatchObject({ kind: "refused" });
  });

  test("whatever it is, it is no exception, and no cosigned note without the witness's key", () => {
    const bodies = fc.oneof(
      fc.string(),
      fc.constant(line).map((good) => good.replace("/w1", "/w2")),
    );
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 999 }), bodies, (status, body) => {
        expect(read(status, body).kind).not.toBe("cosigned");
      }),
    );
  });
});

test("what an answer to a certificate means: taken, an older one first, or refused", () => {
  const answer = (status: number, body = "") => readCertificateAnswer({ status, body }, 4).kind;
  expect([answer(200), answer(409, "2\n"), answer(409, "0\n")]).toEqual(["taken", "wants", "wants"]);
  for (const body of ["4\n", "5\n", "", "x\n"]) expect(answer(409, body)).toBe("refused");
  for (const status of [400, 404, 405, 422, 500]) expect(answer(status)).toBe("refused");
});
