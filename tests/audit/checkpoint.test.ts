import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  parseCheckpoint,
  parseNote,
  parseVkey,
  renderCheckpoint,
  renderVkey,
  signNote,
  verifyNote,
} from "../../daemon/audit/checkpoint.ts";
import { EMPTY_ROOT } from "../../daemon/audit/merkle.ts";
import { codeOf, testSigner } from "./fixture.ts";

/** The example of Go's sumdb/note package, where the format comes from. */
const GO_VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
const GO_TEXT =
  "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n";
const GO_NOTE = `${GO_TEXT}\n— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n`;

const signer = testSigner();
const text = renderCheckpoint({ origin: "example.org/log", size: 17, root: "ab".repeat(32) });
const note = signNote(text, signer);

function check(vkey: string, signed: string): string {
  const verifier = parseVkey(vkey);
  if (!verifier.ok) return `vkey: ${verifier.why}`;
  const parsed = parseNote(signed);
  if (!parsed.ok) return `note: ${parsed.why}`;
  const verified = verifyNote(verifier.value, parsed.value);
  return verified.ok ? verified.value : `signature: ${verified.why}`;
}

describe("notes", () => {
  test("the published example verifies", () => {
    expect(check(GO_VKEY, GO_NOTE)).toBe(GO_TEXT);
  });

  test("a signed checkpoint verifies and reads back", () => {
    expect(text).toBe("example.org/log\n17\nq6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s=\n");
    expect(check(signer.vkey, note)).toBe(text);
    expect(parseCheckpoint(text)).toEqual({
      ok: true,
      value: { origin: "example.org/log", size: 17, root: "ab".repeat(32) },
    });
  });

  test("signatures by others neither help nor harm", () => {
    const stranger = signNote(text, testSigner("another"));
    const strangerLine = stranger.slice(text.length + 1);
    expect(check(signer.vkey, note + strangerLine)).toBe(text);
    expect(check(signer.vkey, stranger)).toMatch(/^signature: not signed with this key/);
    expect(check(signer.vkey, note + note.slice(text.length + 1))).toMatch(/^signature: signed twice/);
  });

  test("every changed bit is refused", () => {
    const bytes = Buffer.from(note);
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const changed = Buffer.from(bytes);
      changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      expect(check(signer.vkey, changed.toString("utf8"))).not.toBe(text);
      expect(check(signer.vkey, changed.toString("utf8"))).toMatch(/^(note|signature): /);
    }
  });

  test.each([
    ["no blank line", note.replace("\n\n", "\n")],
    ["no newline at the end", note.slice(0, -1)],
    ["no signature", `${text}\n`],
    ["a carriage return", note.replace("\n", "\r\n")],
    ["a hyphen for the dash", note.replace("—", "-")],
    ["two spaces", note.replace("— ", "—  ")],
    ["unpadded base64", note.replace("=\n\n", "\n\n").replace(/=+\n$/, "\n")],
    ["too many signatures", note + note.slice(text.length + 1).repeat(16)],
    ["too long", "x".repeat(20_000) + note],
    ["a lone surrogate", `\ud800${note}`],
    ["a signature of no bytes", `${text}\n— name AAAAAA==\n`],
    ["nothing", ""],
  ])("a note with %s is refused", (_name, bad) => {
    expect(check(signer.vkey, bad)).toMatch(/^(note|signature): /);
  });

  test("whatever it is given, parsing answers and does not throw", () => {
    const part = fc.oneof(
      fc.string({ unit: "binary" }),
      fc.constantFrom("\n", "\n\n", "— ", " ", "a/b", "AAAAAAAA", "+", "="),
    );
    fc.assert(
      fc.property(fc.array(part, { maxLength: 12 }), (parts) => {
        const noise = parts.join("");
        for (const parse of [parseNote, parseCheckpoint, parseVkey])
          expect(typeof parse(noise).ok).toBe("boolean");
        const parsed = parseNote(`${noise}\n\n— a/b AAAAAAAA\n`);
        if (parsed.ok) expect(`${parsed.value.text}\n`.startsWith(noise)).toBe(true);
      }),
      { numRuns: 1_000 },
    );
  });
});

describe("checkpoints", () => {
  test.each([
    ["an extension line", `${text}ext\n`],
    ["two lines", "o\n1\n"],
    ["no last newline", text.slice(0, -1)],
    ["a leading zero", text.replace("17", "017")],
    ["a sign", text.replace("17", "+17")],
    ["a size that is not safe", text.replace("17", "9007199254740992")],
    ["a short root", "o\n1\nqqo=\n"],
    ["base64 with a stray bit", text.replace("6s=", "6t=")],
    ["an origin with a space", text.replace("example", "exa mple")],
    ["no origin", text.replace("example.org/log", "")],
  ])("one with %s is refused", (_name, bad) => {
    expect(parseCheckpoint(bad).ok).toBe(false);
  });

  test.each([
    [{ origin: "a b", size: 1, root: EMPTY_ROOT }],
    [{ origin: "a\nb", size: 1, root: EMPTY_ROOT }],
    [{ origin: "a", size: -1, root: EMPTY_ROOT }],
    [{ origin: "a", size: 0.5, root: EMPTY_ROOT }],
    [{ origin: "a", size: 1, root: "AB".repeat(32) }],
  ])("%j cannot be rendered", async (checkpoint) => {
    expect(await codeOf(() => renderCheckpoint(checkpoint))).toBe("record-invalid");
  });
});

describe("verifier keys", () => {
  const raw = Buffer.from(signer.vkey.split("+").slice(2).join("+"), "base64").subarray(1);

  test("read back as they were rendered", () => {
    const vkey = renderVkey("name/1", raw);
    const parsed = parseVkey(vkey);
    expect(parsed.ok && [parsed.value.name, parsed.value.key.raw.equals(raw)]).toEqual(["name/1", true]);
  });

  test.each([
    ["another name", signer.vkey.replace("boundary", "bounda")],
    ["another key id", signer.vkey.replace(/\+[0-9a-f]{8}\+/, "+00000000+")],
    ["an upper-case key id", GO_VKEY.replace("c74f20a3", "C74F20A3")],
    ["another type", GO_VKEY.replace("+ARpc", "+Ahpc")],
    ["a cut key", GO_VKEY.slice(0, -4)],
    ["a newline", `${signer.vkey}\n`],
    ["nothing", ""],
  ])("one with %s is refused", (_name, vkey) => {
    expect(parseVkey(vkey).ok).toBe(false);
  });

  test("a bad name or key cannot be rendered", async () => {
    expect(await codeOf(() => renderVkey("a+b", raw))).toBe("key-invalid");
    expect(await codeOf(() => renderVkey("a", raw.subarray(1)))).toBe("key-invalid");
    expect(await codeOf(() => renderVkey("a", Buffer.alloc(32)))).toBe("key-invalid");
    expect(await codeOf(() => signNote("text\n", { vkey: "nonsense", sign: () => Buffer.alloc(64) }))).toBe(
      "key-invalid",
    );
  });
});
