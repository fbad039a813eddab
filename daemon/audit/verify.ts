import { classify, type Seen } from "./anomaly.ts";
import { renderCanonical } from "./canonical.ts";
import { type VerifierKey, verifyNote } from "./checkpoint.ts";
import { emptyFold, type Fold, fold } from "./fold.ts";
import { type KnownHead, readHead, readKey } from "./known.ts";
import { readLine } from "./line.ts";
import { MAX_BATCH_BYTES, MAX_STATE_BYTES } from "./log.ts";
import {
  append as appendLeaf,
  copyFrontier,
  EMPTY_ROOT,
  emptyFrontier,
  type Frontier,
  root,
} from "./merkle.ts";
import { createPruned, createRetention, type PrunedEnd } from "./pruned.ts";
import { FIRST_PREV, type LogRecord } from "./record.ts";
import { checkSeal, createSignatures, type SecondOpinion } from "./seal.ts";
import { renderSnapshot, snapshotIn } from "./snapshot.ts";
import { type Chunk, createSplitter, type Line } from "./split.ts";
import { createSuccession, type KeyEpoch, type Next } from "./succession.ts";
import type { Bad, BadCode, Gap, Place, Proven, Verdict } from "./verdict.ts";

/** A head as the caller knows it. */
export type Head = KnownHead;

export type VerifyOptions = {
  /** The genesis key. Nothing in the log is believed about keys but what the key before has certified. */
  readonly vkey: string;
  /** Where reading begins, when that is not the log's beginning: the chunks begin there too. */
  readonly begin?: Begin | undefined;
  /** Heads remembered outside the log: the log has to contain those trees. A string is a signed note. */
  readonly head?: Head | string | readonly (Head | string)[] | undefined;
  /**
   * Every record as it is read, in order, and the fold up to it; with a `log.rotated`, the tree of the lines before it.
   * None of it is proven before the verdict says so.
   */
  readonly onRecord?: (record: LogRecord, state: Fold, treeBefore: Frontier | null) => void;
  /** The verifier's clock, CLOCK_REALTIME: what was pruned later than now was not pruned in time. */
  readonly nowMs?: number | undefined;
  /** Every line as it is taken, in order, and every seal of good form with what it proves when its signature is good. */
  readonly onLine?: ((seen: Seen, line: Line) => void) | undefined;
  readonly onSeal?: ((proves: Proven) => void) | undefined;
  /** Is asked about a sample of the signatures, and has to agree. */
  readonly secondOpinion?: SecondOpinion | undefined;
};

/** What is known of a log before the first line that is read. */
export type Begin = {
  readonly frontier: Frontier;
  /** Leaf hash of the line before. */
  readonly prev: string;
  readonly fold: Fold;
  /** The key in force, and its segment. */
  readonly epoch: KeyEpoch;
  /** In the middle of a segment: the line before, and the next segment's key where a seal has just certified it. */
  readonly last?: Seen;
  readonly due?: Next | null;
};

/** A verification that goes on as chunks come. */
export type Verification = {
  /** "stop": there is a fault, and nothing more is taken. */
  feed(chunk: Chunk): "go-on" | "stop";
  /** Checks the signatures that wait. */
  settle(): "go-on" | "stop";
  /** The newest that is proven; not more than at the last `settle`. */
  proven(): Proven | null;
  /** What it comes to, if this is the end. */
  finish(): Verdict;
};

export const MAX_GAPS = 1_000;
export const MAX_WARNINGS = 100;

/**
 * Verifies a log from its bytes, in one pass and constant memory. Throws BoundaryError("key-invalid") and
 * ("head-invalid") when the key or the head given cannot be read; whatever is wrong with the log is the verdict.
 */
export async function verifyLog(chunks: AsyncIterable<Chunk>, options: VerifyOptions): Promise<Verdict> {
  const verifier = readKey(options.vkey);
  const heads = [options.head ?? []].flat().map((head) => readHead(head, verifier));
  const verification = createVerification(verifier, options, heads);
  for await (const chunk of chunks) {
    if (verification.feed(chunk) === "stop") break;
  }
  return verification.finish();
}

/** `verifier` is the genesis key, as in the options. The heads there are not looked at: `heads` are they, as they were read. */
export function createVerification(
  verifier: VerifierKey,
  options: VerifyOptions,
  heads: readonly KnownHead[] = [],
): Verification {
  const { begin } = options;
  let frontier = begin ? copyFrontier(begin.frontier) : emptyFrontier();
  const signatures = createSignatures(options.secondOpinion);
  let succession = begin
    ? createSuccession(begin.epoch, readKey(begin.epoch.vkey), begin.due ?? null)
    : createSuccession({ vkey: options.vkey, segment: 0, firstSeq: 0, since: "" }, verifier);
  const splitter = createSplitter(onLine);
  const gaps: Gap[] = [];
  const warnings: string[] = [];
  const graves = createPruned(options.vkey);
  let pruned: PrunedEnd | null = null;
  let retention = createRetention([], null);
  let firstPrev = begin?.prev ?? FIRST_PREV;
  let state = begin?.fold ?? emptyFold();
  let snapshotSeq = 0;
  let bad: Bad | null = null;
  let last: Seen | null = begin?.last ?? null;
  let hole: Hole | null = null;
  let odd: Seen | null = null; // a line that does not follow; the next one tells why
  let seals = 0;
  let firstAt = "";
  let unsealed: { records: number; bytes: number; from: Place | null } = { records: 0, bytes: 0, from: null };
  let stateBytes = 0; // of the unsealed lines, those that go with a snapshot
  let headFault: Bad | null = null;
  let somethingRead = false;

  function feed(chunk: Chunk): "go-on" | "stop" {
    if (chunk.bytes.length > 0) {
      if (!somethingRead && graves.take(chunk)) return "go-on";
      if (!somethingRead && !begin && takePruned() === "stop") return "stop";
      somethingRead = true;
    }
    const result = splitter.push(chunk);
    if (typeof result !== "object") return result;
    return stop({ ...result, seq: frontier.size, what: SPLIT_FAULTS[result.code] });
  }

  /** The log goes on from what its tombstones come to. */
  function takePruned(): "go-on" | "stop" {
    const end = graves.end();
    if (end === null) return "go-on";
    if ("code" in end) return stop(end);
    const { standing, prev } = end;
    pruned = end;
    retention = createRetention(end.graves, options.nowMs ?? null);
    frontier = copyFrontier(standing.tree);
    firstPrev = prev;
    const before = { vkey: "", segment: standing.segment - 1, firstSeq: 0, since: "" };
    succession = createSuccession(before, standing.key, { vkey: standing.vkey, verifier: standing.key });
    return "go-on";
  }

  function onLine(line: Line): "go-on" | "stop" {
    const place = { seq: frontier.size, file: line.file, byte: line.byte };
    if (hole) return inHole(hole, line);
    const seen = readSeen(line, place);
    if ("code" in seen && !odd && contains(line, "\0")) {
      hole = { fault: { ...seen, ...unopened(line) }, sealed: false };
      return unopened(line) ? stop(hole.fault) : inHole(hole, line);
    }
    if (odd) return stop(classify(last, odd, "code" in seen ? null : seen, last?.record.kind === "seal"));
    if ("code" in seen) return stop(seen);
    const { record } = seen;
    if (record.seq !== frontier.size || record.prev !== (last?.leaf ?? firstPrev)) {
      odd = { ...seen, place: { ...place, seq: record.seq } };
      return "go-on";
    }
    return follows(seen, line);
  }

  /**
   * A power cut may leave zeros where the last batch was to be. That batch is torn as a whole, as long as it can be one:
   * in one file, within its size, and with nothing behind its seal.
   */
  function inHole(at: Hole, line: Line): "go-on" | "stop" {
    const place = at.fault;
    unsealed = {
      records: unsealed.records,
      bytes: unsealed.bytes + line.length + 1,
      from: unsealed.from ?? { seq: place.seq, file: place.file, byte: place.byte },
    };
    const another = line.file !== place.file;
    // which lines the zeros are in the place of, nobody knows
    if (another || at.sealed || unsealed.bytes > MAX_BATCH_BYTES + MAX_STATE_BYTES) return stop(place);
    at.sealed = contains(line, SEAL_MARK);
    return "go-on";
  }

  /**
   * What is wrong with a segment's file that begins with something that is no record: a crash leaves that only where the
   * segment had to begin. Null when nothing is, or it does not begin here.
   */
  function unopened({ file, byte }: Omit<Place, "seq">): { code: BadCode; what: string } | null {
    if (byte !== 0 || !SEGMENT_NAME.test(file) || (begin && !last)) return null;
    const due = frontier.size === 0 || succession.certified() !== null;
    const what = `${file} does not begin with a segment's first record, and none was due`;
    return misnamed(file, frontier.size) ?? (due ? null : { code: "segment-start", what });
  }

  /** A line with the right number, chained to the one before. */
  function follows(seen: Seen, line: Line): "go-on" | "stop" {
    const { record, place } = seen;
    const first = !last && !begin && !pruned;
    const opens = last?.place.file !== line.file && SEGMENT_NAME.test(line.file);
    const fault =
      (first ? genesisFault(record, verifier.name, options.vkey) : null) ??
      (opens && line.byte === 0 ? misnamed(line.file, record.seq) : null) ??
      (record.kind === "log.segment" ? inside(line) : null) ??
      succession.fault(record, last?.record ?? null, opens) ??
      (last || pruned ? snapshotFault(record) : null);
    if (fault) return stop({ ...place, ...fault });
    // a key counts from here on, if the seal that certified it is good
    const unproven = record.kind === "log.segment" ? signatures.settle() : null;
    if (unproven) return stop(unproven);
    checkHeads(place);
    notice(record);
    return last && record.kind === "seal" ? seal(seen, last, line) : plain(seen, line);
  }

  function plain(seen: Seen, line: Line): "go-on" | "stop" {
    take(seen, line);
    unsealed = {
      records: unsealed.records + 1,
      bytes: unsealed.bytes + line.length + 1,
      from: unsealed.from ?? seen.place,
    };
    if (seen.record.kind === "token.state") stateBytes += line.length + 1;
    if (unsealed.bytes <= MAX_BATCH_BYTES + Math.min(stateBytes, MAX_STATE_BYTES)) return "go-on";
    return stop({
      ...(unsealed.from ?? seen.place),
      code: "sealing-off",
      what: "more records than one batch holds have no seal",
    });
  }

  function seal(seen: Seen, before: Seen, line: Line): "go-on" | "stop" {
    const rootBefore = root(frontier);
    const sealer = succession.verifier();
    const form = checkSeal(seen.record, before.record, rootBefore, sealer);
    if (!form.ok) {
      // What was rewritten stands somewhere after the last good seal: its first line is the first unproven one.
      const place = form.code === "records-rewritten" ? (unsealed.from ?? seen.place) : seen.place;
      return stop({ ...place, code: form.code, what: `${form.what} (seal ${seen.record.seq})` });
    }
    const { seq, at } = seen.record;
    take(seen, line);
    seals++;
    retention.sealed();
    unsealed = { records: 0, bytes: 0, from: null };
    stateBytes = 0;
    const sealedHead = { size: seq, root: rootBefore, sealedAt: at, note: String(seen.record.data["note"]) };
    const { vkey: key, segment: number, firstSeq, since } = succession.now();
    const endByte = line.byte + line.length + 1;
    const tail = {
      size: frontier.size,
      prev: seen.leaf,
      frontier: copyFrontier(frontier),
      fold: state,
      head: sealedHead,
      segment: { number, firstSeq, since, bytes: endByte },
      certified: succession.certified(),
      snapshotSeq,
    };
    const proves = { seq, at, file: line.file, endByte, tail, key };
    options.onSeal?.(proves);
    const fault = signatures.add({ note: form.note, place: seen.place, verifier: sealer, proves });
    return fault ? stop(fault) : "go-on";
  }

  function take(seen: Seen, line: Line): void {
    if (!last) firstAt = seen.record.at;
    const before = seen.record.kind === "log.rotated" ? copyFrontier(frontier) : null;
    appendLeaf(frontier, seen.leaf);
    state = fold(state, seen.record);
    succession.take(seen.record);
    if (snapshotIn(seen.record) !== null) snapshotSeq = seen.record.seq;
    last = seen;
    options.onRecord?.(seen.record, state, before);
    options.onLine?.(seen, line);
  }

  function notice(record: LogRecord): void {
    if (last && record.at < last.record.at && warnings.length < MAX_WARNINGS) {
      warnings.push(`the clock went back at record ${record.seq}: from ${last.record.at} to ${record.at}`);
    }
    retention.note(record);
    if (record.kind === "gap" && gaps.length < MAX_GAPS)
      gaps.push({ seq: record.seq, at: record.at, data: record.data });
  }

  function checkHeads(place: Place, tree: Frontier = frontier): void {
    for (const head of heads) {
      if (head.size !== tree.size) continue;
      if (root(tree) !== head.root)
        badHead(place, `the first ${head.size} records are not those of the remembered head`);
      else if (head.note && !verifyNote(succession.verifier(), head.note).ok)
        badHead(place, `the remembered head is not signed with the key in force at record ${head.size}`);
    }
  }

  function badHead(place: Place, what: string): void {
    headFault ??= { ...place, code: "head-mismatch", what };
  }

  /** A snapshot has to say what the records before it come to. */
  function snapshotFault(record: LogRecord): { code: BadCode; what: string } | null {
    const lies = (what: string) => ({
      code: "snapshot-lies" as const,
      what: `the snapshot of record ${record.seq} ${what}`,
    });
    if (pruned && !last) {
      const before = snapshotIn(record); // all that is left of what was before
      if (before === null) return lies("does not say what came before, and that was pruned");
      state = before.fold;
    }
    const found = record.kind === "log.segment" ? record.data["snapshot"] : record.data;
    if ((record.kind !== "log.snapshot" && record.kind !== "log.segment") || found === undefined) return null;
    const own = renderSnapshot({ fold: state, frontier });
    if (renderCanonical({ own: found }) === renderCanonical({ own })) return null;
    return lies("is not what the records before it come to");
  }

  /** A wrong signature before the fault is the first thing wrong. */
  function stop(fault: Bad): "stop" {
    bad = signatures.settle() ?? fault;
    return "stop";
  }

  function endFault(): Bad | null {
    if (bad) return bad;
    if (odd)
      return signatures.settle() ?? classify(last, odd, null, last?.record.kind === "seal" || covers(odd));
    const wrong = signatures.settle();
    const end = splitter.rest();
    const proven = signatures.proven();
    if (proven?.tail.size === frontier.size)
      checkHeads({ seq: proven.seq + 1, file: proven.file, byte: proven.endByte }, proven.tail.frontier);
    const fault = wrong ?? headFault ?? pieceFault();
    if (fault) return fault;
    const head = farthest(heads);
    if (head && head.size > (proven?.tail.size ?? 0)) {
      const seq = proven ? proven.seq + 1 : 0;
      const at = { seq, file: proven?.file ?? end.file, byte: proven?.endByte ?? 0 };
      return {
        ...at,
        code: "tail-cut",
        what: `the remembered head has ${head.size} records, sealed here are ${seq}`,
      };
    }
    const early = retention.fault();
    if (early) return early;
    if (!somethingRead) return { seq: 0, file: "", byte: 0, code: "log-empty", what: "there is no log" };
    return null;
  }

  /** A piece of a line is torn only in the file that the log ends in. */
  function pieceFault(): Bad | null {
    const piece = splitter.rest();
    if (piece.bytes === 0) return null;
    const place = { seq: frontier.size, file: piece.file, byte: piece.byte };
    const fault = unopened(piece);
    if (fault) return { ...place, ...fault };
    return hole && hole.fault.file !== piece.file ? hole.fault : null;
  }

  /** The last line is a seal over the lines as they are: if it is not chained to them, it is itself what was edited. */
  function covers(end: Seen): boolean {
    if (!last || end.record.kind !== "seal") return false;
    return checkSeal(end.record, last.record, root(frontier), succession.verifier()).ok;
  }

  function finish(): Verdict {
    const fault = endFault();
    const proven = signatures.proven();
    const torn = leftOver();
    return {
      verdict: fault ? "broken" : torn.bytes > 0 ? "torn" : "sound",
      records: frontier.size,
      seals,
      firstAt,
      lastAt: last?.record.at ?? "",
      size: proven?.tail.head.size ?? 0,
      root: proven?.tail.head.root ?? EMPTY_ROOT,
      bad: fault,
      trustworthyUpTo: proven,
      unsealed: torn,
      gaps: gaps.filter((gap) => gap.seq <= (proven?.seq ?? -1)),
      state: proven?.tail.fold ?? emptyFold(),
      keys: succession.epochs(),
      pruned: { segments: pruned?.graves.length ?? 0, records: pruned?.standing.tree.size ?? 0 },
      warnings: [...warnings, ...prunedHeads()],
    };
  }

  /** What cannot be compared any more is worth knowing. */
  function prunedHeads(): readonly string[] {
    const before = begin?.frontier.size ?? pruned?.standing.tree.size ?? 0;
    return heads
      .filter(({ size }) => size < before)
      .map(({ size }) => `a head of ${size} records was not compared: what it is of is not in what was read`);
  }

  function leftOver(): Verdict["unsealed"] {
    const piece = splitter.rest();
    if (piece.bytes === 0 || bad) return unsealed;
    const from = unsealed.from ?? { seq: frontier.size, file: piece.file, byte: piece.byte };
    return { records: unsealed.records, bytes: unsealed.bytes + piece.bytes, from };
  }

  function settle(): "go-on" | "stop" {
    const fault = signatures.settle();
    return fault ? stop(fault) : "go-on";
  }

  return { feed, settle, proven: () => signatures.proven(), finish };
}

type Hole = { readonly fault: Bad; sealed: boolean };

const SEAL_MARK = '"kind":"seal","mono":"';

/** `text` is ASCII. No record has a NUL byte. */
function contains(line: Line, text: string): boolean {
  return (line.text ?? line.raw).includes(text);
}

function farthest(heads: readonly KnownHead[]): KnownHead | undefined {
  return heads.toSorted((a, b) => b.size - a.size)[0];
}

const SPLIT_FAULTS = {
  "line-too-long": "a line is longer than a record may be",
  "line-unfinished": "a file ends within a line, and another follows",
} as const;

function readSeen(line: Line, place: Place): Seen | Bad {
  if (line.text === null) return { ...place, code: "not-utf8", what: "the line is not UTF-8" };
  const read = readLine(line.text);
  if (!read.ok) return { ...place, code: read.code, what: read.why };
  return { record: read.record, leaf: line.leaf, place };
}

/** The first record names the log's format and key. The key is compared, never used. */
function genesisFault(
  record: LogRecord,
  origin: string,
  vkey: string,
): { code: BadCode; what: string } | null {
  const { format, key, origin: named, segment, ...more } = record.data;
  const known = format === 1 && segment === 0 && Object.keys(more).length === 0;
  if (record.kind !== "log.genesis" || !known) {
    return { code: "genesis-missing", what: "the log does not begin with a genesis record that we know" };
  }
  if (key === vkey && named === origin) return null;
  return { code: "wrong-key", what: "the log belongs to another key" };
}

/** Only names of our form are held to it: a copy may be called anything. */
const SEGMENT_NAME = /(?:^|\/)(\d{20})\.jsonl$/;

/** A segment has a file of its own, unless all are in one that is called otherwise. */
function inside(line: Line): { code: BadCode; what: string } | null {
  if (line.byte === 0 || !SEGMENT_NAME.test(line.file)) return null;
  return { code: "segment-start", what: `a segment begins within ${line.file}` };
}

function misnamed(file: string, seq: number): { code: BadCode; what: string } | null {
  const found = SEGMENT_NAME.exec(file);
  if (found === null || Number(found[1]) === seq) return null;
  return { code: "segment-misnamed", what: `${file} begins with record ${seq}` };
}
