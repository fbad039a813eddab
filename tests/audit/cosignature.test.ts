import { createPrivateKey, createPublicKey, sign } from "node:crypto";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  type Note,
  parseCheckpoint,
  parseNote,
  parseVkey,
  renderCheckpoint,
  renderVkey,
  signNote,
  type VerifierKey,
  verifyNote,
} from "../../daemon/audit/checkpoint.ts";
import {
  cosign,
  parseWitnessVkey,
  readCosigned,
  verifyCosignature,
  WITNESS_KEY_TYPE,
} from "../../daemon/audit/cosignature.ts";
import { verifySignature } from "../../daemon/audit/ed25519.ts";
import type { Signer } from "../../daemon/ports.ts";
import { testWitnessKey } from "../support/witness-key.ts";
import { codeOf, testSigner } from "./fixture.ts";

/** A published test key of sigsum-go: 0x11 and 31 zeros. */
function publishedKey(name: string, type: 0x01 | 0x04): Signer {
  const seed = Buffer.concat([Buffer.of(17), Buffer.alloc(31)]);
  const der = Buffer.concat([Buffer.from("302e020100300506032b657004220420", "hex"), seed]);
  const key = createPrivateKey({ key: der, format: "der", type: "pkcs8" });
  const raw = createPublicKey(key).export({ format: "der", type: "spki" }).subarray(-32);
  return { vkey: renderVkey(name, raw, type), sign: (message) => sign(null, message, key) };
}

function noteOf(text: string): Note {
  const parsed = parseNote(text);
  if (!parsed.ok) throw new Error(parsed.why);
  return parsed.value;
}

function keyOf(vkey: string, type: 0x01 | 0x04): VerifierKey {
  const parsed = parseVkey(vkey, type);
  if (!parsed.ok) throw new Error(parsed.why);
  return parsed.value;
}

/** The examples of c2sp.org/tlog-checkpoint and tlog-cosignature. */
const SOFA_TEXT = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";
const SOFA_LINE =
  "— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=";
const WITNESS_LINE =
  "— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==";
const GO_VKEY = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8";

describe("what C2SP and others published", () => {
  test("the example checkpoint is read, and written again to the byte", () => {
    const note = noteOf(`${SOFA_TEXT}\n${SOFA_LINE}\n${WITNESS_LINE}\n`);
    const checkpoint = parseCheckpoint(note.text);
    if (!checkpoint.ok) throw new Error(checkpoint.why);
    expect(checkpoint.value).toMatchObject({ origin: "example.com/behind-the-sofa", size: 20_852_163 });
    expect(renderCheckpoint(checkpoint.value)).toBe(SOFA_TEXT);
    expect(note.signatures.map(({ name, keyId }) => `${name} ${keyId}`)).toEqual([
      "example.com/behind-the-sofa 033de0ae",
      "witness.example.com/w1 8d66cf3f",
    ]);
    expect(note.signatures[1]?.signature.readBigUInt64BE(0)).toBe(1_679_315_147n);
  });

  test("its signature is the Go checksum database's, of its own checkpoint of that size", () => {
    const key = keyOf(GO_VKEY, 0x01);
    const [signature] = noteOf(`${SOFA_TEXT}\n${SOFA_LINE}\n`).signatures;
    const text = SOFA_TEXT.replace("example.com/behind-the-sofa", "go.sum database tree");
    expect(verifySignature(key.key, Buffer.from(text), signature?.signature ?? Buffer.alloc(0))).toBe(true);
    expect(verifySignature(key.key, Buffer.from(SOFA_TEXT), signature?.signature ?? Buffer.alloc(0))).toBe(
      false,
    );
  });

  test("a checkpoint of sum.golang.org verifies", () => {
    const note = noteOf(
      "go.sum database tree\n30055305\nmXfgRcJ0bG0j3CPdKwgGWtUzBUbX67saZGRmFuJGGsM=\n\n— sum.golang.org Az3grpgEild5qw7+5dtV13Kf1C2Xurm8q4fhdxvcsDHnqNTaxL2AFjBY+2TyGKevucFcAAlWFJJYle3EJlDCrQ+y3A8=\n",
    );
    expect(verifyNote(keyOf(GO_VKEY, 0x01), note).ok).toBe(true);
    expect(verifyNote(keyOf(GO_VKEY, 0x01), { ...note, text: note.text.replace("305", "306") }).ok).toBe(
      false,
    );
  });

  test("sigsum-go's checkpoint comes out of our signer to the byte", () => {
    const name = "sigsum.org/v1/tree/e796172b92befd62d9dc67e41c2f5bc9d3100a3023b20b1ca40288dd1c679e69";
    const root = `1c0e47${"00".repeat(29)}`;
    expect(signNote(renderCheckpoint({ origin: name, size: 10, root }), publishedKey(name, 0x01))).toBe(
      `${name}\n10\nHA5HAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\n— ${name} gJ2ho0n8F8olcerUF1FFdv235A/5as/coWrpLrtE7ovMeP5whgwouYExowG/lTznxu6OUGjjt5yJQ6bXtTcf718MqAQ=\n`,
    );
  });

  test("sigsum-go's cosignature comes out of ours to the byte, and is accepted", () => {
    const text = "example.org/log\n10\nHA5HAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n";
    const line =
      "— example.org/witness ys8uUAAAAAAAAATSftMzceM8zssdZ9jin9SjwIxzx9iADMf63VqirX2hafol9RsqNqbofIz0LVRqHXI2kpEBSki5RTXFtxz1vo9+Cg==";
    const signer = publishedKey("example.org/witness", WITNESS_KEY_TYPE);
    expect(cosign(text, signer, 1_234)).toBe(line);
    const witness = keyOf(signer.vkey, WITNESS_KEY_TYPE);
    expect(verifyCosignature(witness, noteOf(`${text}\n${line}\n`))).toEqual({
      ok: true,
      value: { witness: "example.org/witness", at: 1_234 },
    });
    const longer = line.replace("Cg==", "CgXX");
    expect(verifyCosignature(witness, noteOf(`${text}\n${longer}\n`)).ok).toBe(false);
  });
});

describe("cosignatures", () => {
  const log = testSigner();
  const witness = testWitnessKey("witness.example/w1");
  const other = testWitnessKey("witness.example/w2");
  const key = keyOf(witness.vkey, WITNESS_KEY_TYPE);
  const text = renderCheckpoint({ origin: "boundary-daemon/test", size: 7, root: "ab".repeat(32) });
  const signed = signNote(text, log);
  const withLines = (...lines: readonly string[]) => signed + lines.map((line) => `${line}\n`).join("");

  test("the head counts by the witness's cosignature alone, and says when; the last of several", () => {
    const both = withLines(cosign(text, other, 5), cosign(text, witness, 9), cosign(text, witness, 8));
    expect(readCosigned(both, key)).toEqual({
      ok: true,
      value: {
        head: { origin: "boundary-daemon/test", size: 7, root: "ab".repeat(32) },
        cosigned: { witness: "witness.example/w1", at: 9 },
      },
    });
    expect(readCosigned(withLines(cosign(text, other, 5)), key)).toMatchObject({ ok: false });
    const renamed = cosign(text, witness, 9).replace("w1", "w9"); // the key's id under another name: nobody we know
    expect(readCosigned(withLines(renamed), key)).toMatchObject({ ok: false });
    expect(readCosigned(signed, key)).toEqual({ ok: false, why: "witness.example/w1 has not cosigned it" });
  });

  test("one good and one bad of the same witness: none", () => {
    const bad = cosign(text.replace("\n7\n", "\n8\n"), witness, 9);
    expect(readCosigned(withLines(cosign(text, witness, 9), bad), key).ok).toBe(false);
  });

  test("no byte of text or cosignature can be another one, and no time", () => {
    const line = cosign(text, witness, 1_700_000_000);
    fc.assert(
      fc.property(fc.nat(72 + 4 - 1), fc.integer({ min: 1, max: 255 }), (at, by) => {
        const [dash, name, base64 = ""] = line.split(" ");
        const bytes = Buffer.from(base64, "base64");
        bytes[at] = (bytes[at] ?? 0) ^ by;
        const changed = `${dash} ${name} ${bytes.toString("base64")}`;
        expect(readCosigned(withLines(changed), key).ok).toBe(false);
      }),
    );
    fc.assert(
      fc.property(fc.nat(text.length - 1), (at) => {
        const changed = text.slice(0, at) + String.fromCharCode(text.charCodeAt(at) ^ 1) + text.slice(at + 1);
        expect(readCosigned(`${changed}\n${line}\n`, key).ok).toBe(false);
      }),
    );
  });

  test("a log's key is no witness's key, nor the other way", async () => {
    expect(parseWitnessVkey(log.vkey).ok).toBe(false);
    expect(parseVkey(witness.vkey).ok).toBe(false);
    expect(await codeOf(() => cosign(text, log, 1))).toBe("key-invalid");
    expect(readCosigned(signed, { ...key, name: "boundary-daemon/test" }).ok).toBe(false);
  });

  test("whatever else is given to the reader: a refusal, no exception", () => {
    fc.assert(
      fc.property(fc.string(), (some) => {
        expect(readCosigned(some, key).ok).toBe(false);
        expect(parseWitnessVkey(some).ok).toBe(false);
      }),
    );
  });
});
