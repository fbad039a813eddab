import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { renderCanonical } from "../../daemon/audit/canonical.ts";
import {
  type Certificate,
  checkCertificate,
  genesisStanding,
  parseCertificate,
  renderCertificate,
  type Standing,
} from "../../daemon/audit/certificate.ts";
import { renderCheckpoint, signNote } from "../../daemon/audit/checkpoint.ts";
import { renderLine } from "../../daemon/audit/line.ts";
import { append, copyFrontier, leafHash, root } from "../../daemon/audit/merkle.ts";
import { createProver } from "../../daemon/audit/prove.ts";
import type { Data } from "../../daemon/audit/record.ts";
import { type RealLog, realLog } from "../support/real-log.ts";
import { ORIGIN, recordOf, testSigner } from "./fixture.ts";

const LOG = await realLog([[2, 1], [3], [1, 1], [1]]);
const CERTIFICATES = certificatesOf(LOG);
const [FIRST, SECOND] = CERTIFICATES as [Certificate, Certificate];

function certificatesOf(log: RealLog): readonly Certificate[] {
  const prover = createProver({ kind: "older", size: 0, root: null });
  for (const [file, bytes] of Object.entries(log.files)) prover.feed({ file, bytes });
  const made = prover.finish(log.vkey);
  if (!made.ok) throw new Error(made.why);
  return made.proof.keys;
}

function genesis(log: RealLog = LOG): Standing {
  const standing = genesisStanding(log.vkey);
  if (!standing.ok) throw new Error(standing.why);
  return standing.value;
}

function good(text: string, before: Standing): boolean {
  const parsed = parseCertificate(text);
  return parsed.ok && checkCertificate(before, parsed.value).ok;
}

/** A certificate made of parts, everything fitting but what was asked to be other. */
function forged(
  parts: { kind?: string; data?: Data; sealAt?: string; more?: Data; signer?: string } = {},
): Certificate {
  const { seq, prev } = recordOf(FIRST.rotated);
  const data = { ...(parts.data ?? { key: LOG.vkeys[1] ?? "", segment: 1 }), ...parts.more };
  const time = { at: "2026-01-02T00:00:00.000Z", boot: "b", mono: "1" };
  const rotated = renderLine(
    { ...time, kind: parts.kind ?? "log.rotated", prev, seq },
    renderCanonical(data),
  );
  const leaf = leafHash(Buffer.from(rotated));
  const sealed = copyFrontier(FIRST.tree);
  append(sealed, leaf);
  const text = renderCheckpoint({ origin: ORIGIN, size: sealed.size, root: root(sealed) });
  const note = signNote(text, testSigner(parts.signer ?? "rotated 0"));
  const at = parts.sealAt ?? time.at;
  const seal = renderLine({ ...time, at, kind: "seal", prev: leaf, seq: seq + 1 }, renderCanonical({ note }));
  return { ...FIRST, rotated, seal };
}

describe("a certificate", () => {
  test("reads back as it was written, and leads from key to key to where the next segment begins", () => {
    let standing = genesis();
    for (const [at, certificate] of CERTIFICATES.entries()) {
      const text = renderCertificate(certificate);
      expect(text.split("\n")).toHaveLength(4);
      expect(parseCertificate(text)).toEqual({ ok: true, value: certificate });
      const next = checkCertificate(standing, certificate);
      if (!next.ok) throw new Error(next.why);
      standing = next.value;
      expect(standing).toMatchObject({ vkey: LOG.vkeys[at + 1], segment: at + 1 });
      expect(recordOf(LOG.lines[standing.tree.size] ?? "").kind).toBe("log.segment");
    }
  });

  test("has the first line of docs/LOG_FORMAT.md", () => {
    const [line = ""] = renderCertificate(FIRST).split("\n");
    expect(line).toMatch(
      /^\{"first":0,"frontier":\["[0-9a-f]{64}"(,"[0-9a-f]{64}")*\],"segment":0,"size":\d+,"v":1\}$/,
    );
  });

  test("of another shape of log verifies as well", async () => {
    const shapes = fc.array(fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 3 }), {
      minLength: 2,
      maxLength: 4,
    });
    await fc.assert(
      fc.asyncProperty(shapes, async (shape) => {
        const log = await realLog(shape, { word: "shaped" });
        let standing = genesis(log);
        for (const certificate of certificatesOf(log)) {
          const next = checkCertificate(standing, certificate);
          if (!next.ok) throw new Error(next.why);
          standing = next.value;
        }
        expect(standing.vkey).toBe(log.vkeys.at(-1));
      }),
      { numRuns: 40 },
    );
  });
});

describe("no certificate", () => {
  test("is one with any byte changed", () => {
    const standing = genesis();
    const bytes = Buffer.from(renderCertificate(FIRST));
    expect(good(bytes.toString(), standing)).toBe(true);
    const survivors = [];
    for (let at = 0; at < bytes.length; at++) {
      for (const bit of [0, 3, 6]) {
        const changed = Buffer.from(bytes);
        changed[at] = (bytes[at] ?? 0) ^ (1 << bit);
        if (good(changed.toString("utf8"), standing)) survivors.push([at, bit]);
      }
    }
    expect(survivors).toEqual([]);
  });

  test("is one in another's place, or of another log", async () => {
    const after = checkCertificate(genesis(), FIRST);
    if (!after.ok) throw new Error(after.why);
    expect(checkCertificate(genesis(), SECOND).ok).toBe(false);
    expect(checkCertificate(after.value, FIRST).ok).toBe(false);
    expect(checkCertificate({ ...after.value, tree: FIRST.tree }, SECOND).ok).toBe(false);
    expect(checkCertificate(genesis(await realLog([[2, 1], [1]], { word: "another" })), FIRST).ok).toBe(
      false,
    );
  });

  test("is one that somebody forged who can make everything fit but the signature, nor one whose parts do not", () => {
    expect(checkCertificate(genesis(), forged()).ok).toBe(true); // the control: the forger has the key
    const other = testSigner("rotated 1", "somebody/else").vkey;
    const bad = [
      forged({ signer: "rotated 1" }),
      forged({ kind: "decision" }),
      forged({ data: { key: LOG.vkeys[1] ?? "", segment: 2 } }),
      forged({ data: { key: "nonsense", segment: 1 } }),
      forged({ data: { key: other, segment: 1 } }),
      forged({ more: { also: "this" } }),
      forged({ sealAt: "2026-01-02T00:00:00.001Z" }),
      { ...FIRST, first: 1 },
      { ...FIRST, seal: SECOND.seal },
      { ...FIRST, tree: { ...FIRST.tree, size: FIRST.tree.size + 1 } },
    ];
    for (const each of bad) expect(checkCertificate(genesis(), each).ok).toBe(false);
  });

  test("is any other text: a refusal, no exception", () => {
    const head = renderCertificate(FIRST).split("\n")[0] ?? "";
    const lines = fc.oneof(fc.string(), fc.json(), fc.constant(head), fc.constant(FIRST.rotated));
    fc.assert(
      fc.property(fc.array(lines, { maxLength: 4 }), (some) => {
        expect(good(some.map((line) => `${line}\n`).join(""), genesis())).toBe(false);
      }),
    );
    expect(parseCertificate("x".repeat(200_000)).ok).toBe(false);
  });
});
