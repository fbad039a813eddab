import { renderCanonical } from "../../daemon/audit/canonical.ts";
import { renderCheckpoint, signNote } from "../../daemon/audit/checkpoint.ts";
import { renderLine } from "../../daemon/audit/line.ts";
import { append, emptyFrontier, leafHash, root } from "../../daemon/audit/merkle.ts";
import { type Data, FIRST_PREV } from "../../daemon/audit/record.ts";
import { chunksOf, nameOf, testSigner } from "./fixture.ts";

/** A log of several segments, each under its own key, in memory: written by docs/LOG_FORMAT.md, not by the daemon. */
export type RotatedLog = {
  /** All lines, seals included, without "\n". */
  readonly lines: readonly string[];
  /** File name to bytes. */
  readonly files: Readonly<Record<string, Buffer>>;
  readonly genesis: string;
  /** A segment's key, in order. */
  readonly vkeys: readonly string[];
  /** Every checkpoint as a signed note, oldest first. */
  readonly notes: readonly string[];
};

/** `segments`: for each how many batches of how many records, e.g. [[1, 3], [2]]: the first has two batches, of 1 and 3. */
export function rotatedLog(segments: readonly (readonly number[])[], word = "rotated"): RotatedLog {
  const signers = segments.map((_, at) => testSigner(`${word} ${at}`));
  const frontier = emptyFrontier();
  const all: { segment: number; line: string }[] = [];
  const notes: string[] = [];
  let prev = FIRST_PREV;

  const put = (segment: number, kind: string, data: Data) => {
    const seq = frontier.size;
    const at = new Date(Date.UTC(2026, 0, 2) + (kind === "seal" ? seq - 1 : seq)).toISOString();
    const mono = String(kind === "seal" ? seq - 1 : seq);
    const line = renderLine({ at, mono, boot: "b", kind, prev, seq }, renderCanonical(data));
    prev = leafHash(Buffer.from(line));
    append(frontier, prev);
    all.push({ segment, line });
  };
  const seal = (segment: number) => {
    const signer = signers[segment] ?? testSigner();
    const checkpoint = { origin: nameOf(signer), size: frontier.size, root: root(frontier) };
    const note = signNote(renderCheckpoint(checkpoint), signer);
    notes.push(note);
    put(segment, "seal", { note });
  };

  for (const [segment, batches] of segments.entries()) {
    const key = signers[segment]?.vkey ?? "";
    put(segment, segment === 0 ? "log.genesis" : "log.segment", {
      format: 1,
      key,
      origin: nameOf(testSigner()),
      segment,
    });
    for (const count of batches) {
      for (let n = 0; n < count; n++) put(segment, "decision", { n, text: "ä, and \u0001 more" });
      seal(segment);
    }
    const next = signers[segment + 1];
    if (next) {
      put(segment, "log.rotated", { key: next.vkey, segment: segment + 1 });
      seal(segment);
    }
  }
  return {
    lines: all.map(({ line }) => line),
    files: filesOf(all),
    genesis: signers[0]?.vkey ?? "",
    vkeys: signers.map(({ vkey }) => vkey),
    notes,
  };
}

/** The log's bytes in pieces that end anywhere. */
export function chunksOfLog(log: RotatedLog, size = 700) {
  return chunksOf(log.files, size);
}

function filesOf(all: readonly { segment: number; line: string }[]): Readonly<Record<string, Buffer>> {
  const files: Record<string, Buffer> = {};
  let name = "";
  for (const [seq, { segment, line }] of all.entries()) {
    if (segment !== all[seq - 1]?.segment) name = `${String(seq).padStart(20, "0")}.jsonl`;
    files[name] = Buffer.concat([files[name] ?? Buffer.alloc(0), Buffer.from(`${line}\n`)]);
  }
  return files;
}
