import { type Certificate, treeAfter } from "./certificate.ts";
import { readLine } from "./line.ts";
import { append, copyFrontier, EMPTY_ROOT, emptyFrontier, type Frontier, root } from "./merkle.ts";
import {
  advance,
  type Climb,
  climbFromEdge,
  climbFromNextLeaf,
  consistencyProof,
  copyClimb,
  inclusionProof,
} from "./merkle-proof.ts";
import { type Claim, checkProof, type LogProof } from "./proof.ts";
import { createTombstones, type Tombstone } from "./pruned.ts";
import { type Chunk, createSplitter, type Line } from "./split.ts";

/** What to prove of the log's newest checkpoint. `size` alone: of the tree that the log had then. */
export type Wanted =
  | { readonly kind: "record"; readonly seq: number }
  | { readonly kind: "older"; readonly size: number; readonly root: string | null };

export type Made =
  | { readonly ok: true; readonly proof: LogProof; readonly genesis: string }
  | { readonly ok: false; readonly code: "proof-impossible" | "log-broken"; readonly why: string };

export type Prover = {
  /** Takes the log's bytes, those of its tombstones before all others. */
  feed(chunk: Chunk): "go-on" | "stop";
  /** The proof, checked with `genesis`, or with the key that the log's first record names where that is null. */
  finish(genesis: string | null): Made;
};

/** A seal as it was met: enough to make the proof from, when no newer one comes. */
type Sealed = {
  readonly note: string;
  readonly tree: Frontier;
  readonly climb: Climb | null;
  readonly keys: readonly Certificate[];
};

/**
 * Makes a proof in one pass over a log, holding the tree's right edge, one certificate a segment, and the record
 * asked for. It verifies no more than its own result: a broken log gives no proof, but only verify-log says where.
 */
export function createProver(wanted: Wanted): Prover {
  const splitter = createSplitter(onLine);
  const tombstones = createTombstones(skip);
  let tree = emptyFrontier(); // the climb's own, once there is one
  let climb: Climb | null = null;
  let keys: readonly Certificate[] = [];
  let first = 0;
  let begins = 0; // the first line that is there
  let rotated: { readonly line: string; readonly tree: Frontier } | null = null;
  let genesis: string | null = null;
  let record: string | null = null;
  let olderRoot = "";
  let newest: Sealed | null = null;
  let broken: string | null = null;
  let begun = false; // tombstones are before all segments

  function skip({ file, certificate }: Tombstone): void {
    if (!certificate.ok) {
      broken ??= `${file}: ${certificate.why}`;
      return;
    }
    keys = [...keys, certificate.value];
    tree = treeAfter(certificate.value);
    first = tree.size;
    begins = tree.size;
  }

  function onLine(line: Line): "go-on" | "stop" {
    if (line.text === null) return stop(`line ${tree.size} is not UTF-8`);
    begin();
    const seq = tree.size;
    const kind = marked(line.text);
    if (seq === 0) genesis = keyIn(line.text);
    if (wanted.kind === "record" && wanted.seq === seq) record = line.text;
    if (kind === "seal") seal(line.text);
    rotated = kind === "log.rotated" ? { line: line.text, tree: copyFrontier(tree) } : null;
    if (climb) advance(climb, line.leaf);
    else append(tree, line.leaf);
    return "go-on";
  }

  function begin(): void {
    if (climb) return;
    if (wanted.kind === "record" && wanted.seq === tree.size) climb = climbFromNextLeaf(tree);
    if (wanted.kind === "older" && wanted.size === tree.size && tree.size > 0) climb = climbFromEdge(tree);
    if (!climb) return;
    olderRoot = root(tree);
    tree = climb.frontier;
  }

  function seal(line: string): void {
    const note = noteIn(line);
    if (note !== null) newest = { note, tree: copyFrontier(tree), climb: climb && copyClimb(climb), keys };
    if (rotated === null) return;
    keys = [...keys, { segment: keys.length, first, tree: rotated.tree, rotated: rotated.line, seal: line }];
    first = tree.size + 1;
  }

  function stop(why: string): "stop" {
    broken = why;
    return "stop";
  }

  function feed(chunk: Chunk): "go-on" | "stop" {
    if (!begun && tombstones.take(chunk)) return "go-on";
    tombstones.close();
    begun = true;
    if (broken !== null) return "stop";
    const result = splitter.push(chunk);
    return typeof result === "object" ? stop(`line ${tree.size}: ${result.code}`) : result;
  }

  function claimIn(sealed: Sealed): Claim | string {
    return wanted.kind === "record" ? recordClaim(sealed, wanted.seq) : olderClaim(sealed, wanted);
  }

  function recordClaim(sealed: Sealed, index: number): Claim | string {
    if (index < begins) return `record ${index} has been pruned`;
    if (record === null || sealed.climb === null || sealed.tree.size <= index)
      return `record ${index} is not there, or not sealed yet`;
    return { kind: "record", record, index, inclusion: inclusionProof(sealed.climb) };
  }

  function olderClaim(sealed: Sealed, older: Extract<Wanted, { kind: "older" }>): Claim | string {
    const { size } = older;
    if (size > sealed.tree.size) return `the log has ${sealed.tree.size} sealed records, not ${size}`;
    if (size > 0 && size < begins) return `the records of the tree of ${size} have been pruned`;
    const from = { size, root: size === 0 ? EMPTY_ROOT : olderRoot };
    if (older.root !== null && older.root !== from.root) return `the log's first ${size} records are others`;
    const consistency = sealed.climb === null ? [] : consistencyProof(sealed.climb, size);
    return { kind: "older", from, consistency };
  }

  function finish(known: string | null): Made {
    tombstones.close();
    if (broken !== null) return { ok: false, code: "log-broken", why: broken };
    if (newest === null) return { ok: false, code: "proof-impossible", why: "there is no sealed record" };
    const key = known ?? genesis;
    if (key === null)
      return {
        ok: false,
        code: "proof-impossible",
        why: "the log's first record is not there: give its key with --key",
      };
    const claim = claimIn(newest);
    if (typeof claim === "string") return { ok: false, code: "proof-impossible", why: claim };
    const proof = { keys: newest.keys, checkpoint: newest.note, claim };
    const checked = checkProof(proof, key);
    return checked.ok
      ? { ok: true, proof, genesis: key }
      : { ok: false, code: "log-broken", why: `the proof does not hold: ${checked.why}` };
  }

  return { feed, finish };
}

/** The kind of a line, where it is one of the two that matter. Most lines are not, and need not be read. */
function marked(text: string): "seal" | "log.rotated" | null {
  if (!text.includes(',"kind":"seal",') && !text.includes(',"kind":"log.rotated",')) return null;
  const read = readLine(text);
  const kind = read.ok ? read.record.kind : null;
  return kind === "seal" || kind === "log.rotated" ? kind : null;
}

function noteIn(line: string): string | null {
  const read = readLine(line);
  const note = read.ok ? read.record.data["note"] : null;
  return typeof note === "string" ? note : null;
}

function keyIn(line: string): string | null {
  const read = readLine(line);
  const key = read.ok && read.record.kind === "log.genesis" ? read.record.data["key"] : null;
  return typeof key === "string" ? key : null;
}
