import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { makeProof } from "../../cli/make-proof.ts";
import { renderCertificate } from "../../daemon/audit/certificate.ts";
import { checkProof, parseProof, renderProof } from "../../daemon/audit/proof.ts";
import { tempDirectory } from "../audit/fixture.ts";
import { linesIn, vkey, type Written, writeSegments } from "../audit/segmented.ts";
import { boundaryctl } from "../support/boundaryctl.ts";
import { startWitness } from "../support/witness.ts";

const linesOf = (log: Written): readonly string[] => log.files.flatMap((_, n) => linesIn(log, n));

describe("proofs from segments that the daemon's own appender wrote", () => {
  test("every sealed record, and every checkpoint, checked with the genesis key alone", async () => {
    const log = await writeSegments(3);
    const lines = linesOf(log);
    for (let seq = 0; seq < lines.length - 1; seq++) {
      const { proof } = await makeProof(log.directory, { kind: "record", seq }, vkey);
      const parsed = parseProof(renderProof(proof));
      expect(parsed.ok && checkProof(parsed.value, vkey)).toMatchObject({
        ok: true,
        value: { record: { seq }, segment: 2 },
      });
      const older = await makeProof(log.directory, { kind: "older", size: seq, root: null }, vkey);
      expect(checkProof(older.proof, vkey).ok).toBe(true);
    }
  });

  test("with tombstones in the place of the first two segments, the proof is the same", async () => {
    const log = await writeSegments(4);
    const seq = linesOf(log).length - 3;
    const whole = await makeProof(log.directory, { kind: "record", seq }, vkey);
    for (const [n, certificate] of whole.proof.keys.slice(0, 2).entries()) {
      const file = join(log.directory, log.files[n] ?? "");
      rmSync(file);
      writeFileSync(file.replace(".jsonl", ".tombstone"), renderCertificate(certificate));
    }
    expect(readdirSync(log.directory).filter((name) => name.endsWith(".tombstone"))).toHaveLength(2);
    const pruned = await makeProof(log.directory, { kind: "record", seq }, vkey);
    expect(renderProof(pruned.proof)).toBe(renderProof(whole.proof));
  });

  test("a witness follows it over its segments, and verify-log finds a cut by the note", async () => {
    const log = await writeSegments(3);
    const temp = tempDirectory();
    const witness = await startWitness({ genesis: [vkey], file: join(temp.path, "state") });
    onTestFinished(async () => {
      await witness.stop();
      temp[Symbol.dispose]();
    });
    const note = join(temp.path, "note");
    const where = ["--url", witness.url, "--witness", witness.vkey, "--out", note];
    expect(await boundaryctl(["log", "witness", log.directory, ...where])).toMatchObject({
      code: 0,
      stderr: "",
    });
    expect(witness.seen.at(-1)).toBe("/add-checkpoint 200");
    const verify = ["verify-log", log.directory, "--key", vkey, "--witness", witness.vkey, "--head", note];
    expect((await boundaryctl(verify)).code).toBe(0);
    const last = join(log.directory, log.files.at(-1) ?? "");
    writeFileSync(last, `${readFileSync(last, "utf8").split("\n").slice(0, 3).join("\n")}\n`);
    const cut = await boundaryctl([...verify, "--json"]);
    expect(cut.code).toBe(1);
    expect(JSON.parse(cut.stdout)).toMatchObject({
      bad: { code: "tail-cut" },
      witness: { witness: "witness.example/w1" },
    });
  });
});
