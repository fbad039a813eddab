import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { renderCanonical } from "../../daemon/audit/canonical.ts";
import { renderCheckpoint, signNote } from "../../daemon/audit/checkpoint.ts";
import { renderLine } from "../../daemon/audit/line.ts";
import {
  append,
  copyFrontier,
  emptyFrontier,
  type Frontier,
  leafHash,
  root,
} from "../../daemon/audit/merkle.ts";
import { type Data, FIRST_PREV } from "../../daemon/audit/record.ts";
import type { Signer } from "../../daemon/ports.ts";
import { nameOf, ORIGIN, testSigner } from "../audit/fixture.ts";

/** A log of several segments, written from docs/LOG_FORMAT.md alone: a second opinion on the appender. */
export type LongLog = {
  readonly vkey: string;
  readonly segments: readonly Segment[];
  /** All lines in order, and the notes of all seals. */
  lines(): readonly string[];
  notes(): readonly string[];
};

export type Segment = {
  readonly name: string;
  readonly lines: readonly string[];
  /** What is left of it when it is pruned; "" for the last one. */
  readonly tombstone: string;
};

export type LongShape = {
  readonly segments: number;
  readonly batches: number;
  readonly perBatch: number;
  /** The data of a decision; by default its number. */
  readonly data?: (seq: number) => Data;
};

/** The key of a segment. */
export function segmentSigner(segment: number): Signer {
  return testSigner(`the key of segment ${segment}, worth nothing`);
}

export function longLog(shape: LongShape): LongLog {
  const writer = createWriter();
  const segments = Array.from({ length: shape.segments }, (_, segment) =>
    writeSegment(writer, segment, shape),
  );
  return {
    vkey: segmentSigner(0).vkey,
    segments,
    lines: () => segments.flatMap((one) => one.lines),
    notes: () => writer.notes,
  };
}

/** Writes a log's files into a directory; the first `pruned` segments as tombstones. */
export function writeLongLog(directory: string, log: LongLog, pruned = 0): void {
  mkdirSync(directory, { recursive: true });
  log.segments.forEach((segment, n) => {
    if (n < pruned)
      writeFileSync(join(directory, segment.name.replace("jsonl", "tombstone")), segment.tombstone);
    else writeFileSync(join(directory, segment.name), textOf(segment.lines));
  });
}

export function textOf(lines: readonly string[]): string {
  return lines.map((line) => `${line}\n`).join("");
}

/** A directory for a test; gone with `remove`. */
export function shipDirectory(): { readonly path: string; remove(): void } {
  const path = mkdtempSync(join(tmpdir(), "boundary-ship-"));
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) };
}

type Writer = {
  readonly frontier: Frontier;
  readonly notes: string[];
  lines: string[];
  write(kind: string, data: Data): void;
  seal(signer: Signer): void;
};

function createWriter(): Writer {
  const frontier = emptyFrontier();
  let prev = FIRST_PREV;
  let at = Date.UTC(2026, 0, 2, 3, 4, 5);
  const writer: Writer = {
    frontier,
    notes: [],
    lines: [],
    write(kind, data) {
      if (kind !== "seal") at += 7;
      const where = {
        at: new Date(at).toISOString(),
        mono: String(at),
        boot: "b-1",
        prev,
        seq: frontier.size,
      };
      const line = renderLine({ ...where, kind }, renderCanonical(data));
      prev = leafHash(Buffer.from(line));
      append(frontier, prev);
      writer.lines.push(line);
    },
    seal(signer) {
      const checkpoint = { origin: nameOf(signer), size: frontier.size, root: root(frontier) };
      const note = signNote(renderCheckpoint(checkpoint), signer);
      writer.notes.push(note);
      writer.write("seal", { note });
    },
  };
  return writer;
}

function writeSegment(writer: Writer, segment: number, shape: LongShape): Segment {
  const signer = segmentSigner(segment);
  const first = writer.frontier.size;
  writer.lines = [];
  const start = { format: 1, key: signer.vkey, origin: ORIGIN, segment };
  writer.write(segment === 0 ? "log.genesis" : "log.segment", start);
  writer.seal(signer);
  for (let batch = 0; batch < shape.batches; batch++) {
    for (let n = 0; n < shape.perBatch; n++) {
      writer.write("decision", shape.data?.(writer.frontier.size) ?? { n: writer.frontier.size });
    }
    writer.seal(signer);
  }
  const name = `${String(first).padStart(20, "0")}.jsonl`;
  if (segment === shape.segments - 1) return { name, lines: writer.lines, tombstone: "" };
  return { name, tombstone: rotate(writer, segment, first, signer), lines: writer.lines };
}

function rotate(writer: Writer, segment: number, first: number, signer: Signer): string {
  const { size, subtrees } = copyFrontier(writer.frontier);
  const head = JSON.stringify({ first, frontier: subtrees, segment, size, v: 1 });
  writer.write("log.rotated", { key: segmentSigner(segment + 1).vkey, segment: segment + 1 });
  writer.seal(signer);
  return textOf([head, ...writer.lines.slice(-2)]);
}
