import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { renderCanonical } from "../../daemon/audit/canonical.ts";
import { renderCheckpoint, signNote } from "../../daemon/audit/checkpoint.ts";
import { emptyFold, fold } from "../../daemon/audit/fold.ts";
import { renderLine } from "../../daemon/audit/line.ts";
import { append, copyFrontier, emptyFrontier, leafHash, root } from "../../daemon/audit/merkle.ts";
import { type Data, FIRST_PREV, type LogRecord } from "../../daemon/audit/record.ts";
import { renderSnapshot } from "../../daemon/audit/snapshot.ts";
import type { Signer } from "../../daemon/ports.ts";

/**
 * Writes a log by hand as docs/LOG_FORMAT.md has it, right or, where a test asks for it, wrong: several segments, each
 * with its own key, snapshots, tombstones.
 */
export type SegmentedLog = {
  add(kind: string, data?: Data): void;
  seal(by?: Signer): void;
  /** log.rotated and its seal. `says` is what log.rotated holds; the segment's own key signs. */
  announce(next: Signer, says?: Data): void;
  /** log.segment, in a file of its own; from here on `next` signs. `says` is laid over what it should hold. */
  begin(next: Signer, says?: Data): void;
  /** What a snapshot has to hold now. */
  snapshot(): { fold: Data; frontier: string[] };
  head(): { readonly size: number; readonly root: string };
  readonly segments: readonly Segment[];
  /** The tombstone of a segment, its three lines. */
  tombstone(segment: number): string;
};

export type Segment = { readonly first: number; readonly lines: readonly string[] };

export function createSegmentedLog(genesis: Signer): SegmentedLog {
  const origin = genesis.vkey.split("+")[0] ?? "";
  const frontier = emptyFrontier();
  const segments: { first: number; lines: string[]; rotatedAt: ReturnType<typeof emptyFrontier> | null }[] =
    [];
  let key = genesis;
  let prev = FIRST_PREV;
  let state = emptyFold();
  let stamp = { at: "", mono: "", boot: "" };
  let passedMs = 0;

  function write(kind: string, data: Data): void {
    const seq = frontier.size;
    const record: LogRecord = { v: 1, seq, ...stamp, kind, data, prev };
    const line = renderLine(record, renderCanonical(data));
    prev = leafHash(Buffer.from(line));
    append(frontier, prev);
    state = fold(state, record);
    segments.at(-1)?.lines.push(line);
  }

  function add(kind: string, data: Data = {}): void {
    if (kind === "log.pruned") passedMs += 91 * 86_400_000; // what is pruned has to be old
    const ms = Date.UTC(2026, 0, 2, 3, 4, 5) + passedMs + frontier.size;
    stamp = { at: new Date(ms).toISOString(), mono: `${ms}000000`, boot: "5a0e6c1e-b007" };
    write(kind, data);
  }

  function seal(by: Signer = key): void {
    write("seal", { note: signNote(renderCheckpoint({ origin, ...head() }), by) });
  }

  function head() {
    return { size: frontier.size, root: root(frontier) };
  }

  function snapshot() {
    const { fold: rendered } = renderSnapshot({ fold: state, frontier });
    return { fold: rendered as Data, frontier: [...frontier.subtrees] };
  }

  function announce(next: Signer, says: Data = {}): void {
    const segment = segments.at(-1);
    if (segment) segment.rotatedAt = copyFrontier(frontier);
    add("log.rotated", { key: next.vkey, segment: segments.length, ...says });
    seal();
  }

  function begin(next: Signer, says: Data = {}): void {
    const segment = segments.length;
    segments.push({ first: frontier.size, lines: [], rotatedAt: null });
    add("log.segment", { format: 1, key: next.vkey, origin, segment, snapshot: snapshot(), ...says });
    key = next;
  }

  function tombstone(which: number): string {
    const segment = segments[which];
    if (!segment?.rotatedAt) throw new Error(`segment ${which} has not been rotated`);
    const { size, subtrees } = segment.rotatedAt;
    const stone = { first: segment.first, frontier: [...subtrees], segment: which, size, v: 1 };
    return [renderCanonical(stone), ...segment.lines.slice(-2)].map((line) => `${line}\n`).join("");
  }

  segments.push({ first: 0, lines: [], rotatedAt: null });
  add("log.genesis", { format: 1, key: genesis.vkey, origin, segment: 0 });
  seal();
  return { add, seal, announce, begin, snapshot, head, segments, tombstone };
}

/** Writes the files; of the first `pruned` segments only their tombstones. */
export function writeSegmented(log: SegmentedLog, directory: string, pruned = 0): string {
  mkdirSync(directory, { recursive: true });
  for (const [index, { first, lines }] of log.segments.entries()) {
    const name = join(directory, String(first).padStart(20, "0"));
    if (index < pruned) writeFileSync(`${name}.tombstone`, log.tombstone(index));
    else writeFileSync(`${name}.jsonl`, lines.map((line) => `${line}\n`).join(""));
  }
  return directory;
}
