import { parseVkey, type VerifierKey, verifyNote } from "../../daemon/audit/checkpoint.ts";
import { readLine } from "../../daemon/audit/line.ts";
import { MAX_BATCH_BYTES } from "../../daemon/audit/log.ts";
import { append, copyFrontier, emptyFrontier, type Frontier, root } from "../../daemon/audit/merkle.ts";
import { type Data, FIRST_PREV, type LogRecord } from "../../daemon/audit/record.ts";
import { checkSeal } from "../../daemon/audit/seal.ts";
import { type Chunk, createSplitter, type Line } from "../../daemon/audit/split.ts";
import type { ProvenLine } from "./sink.ts";

/** A verifier key as text and as what it says. */
export type KnownKey = { readonly vkey: string; readonly verifier: VerifierKey };

/** A place right after a proven seal (or the start of the log), and what it takes to go on from there. */
export type Position = {
  /** The tree of all lines before: as many as the next record's number. */
  readonly frontier: Frontier;
  /** Leaf hash of the line before. */
  readonly prev: string;
  readonly last: LogRecord | null;
  /** The key in force, and the number of its segment. */
  readonly key: KnownKey;
  readonly segment: number;
  /** After the seal over a `log.rotated`: the key that the `log.segment` to come has to name. */
  readonly next: KnownKey | null;
  /** The file that we are in, "" at the start, and the first byte that was not read. */
  readonly file: string;
  readonly byte: number;
};

/** Lines up to and including a good seal. `note` is the seal's, `size` the tree's that it signs. */
export type ProvenBatch = {
  readonly lines: readonly ProvenLine[];
  readonly note: string;
  readonly size: number;
  readonly after: Position;
};

/** What a chunk brought: batches, and after them perhaps what does not follow. */
export type Followed = { readonly batches: readonly ProvenBatch[]; readonly fault: string | null };

/** Verifies a log as it grows. After a fault it takes nothing more. */
export type Follower = { push(chunk: Chunk): Followed };

/** Where a log begins: nothing is known but its genesis key. */
export function startOf(genesis: KnownKey): Position {
  return {
    frontier: emptyFrontier(),
    prev: FIRST_PREV,
    last: null,
    key: genesis,
    segment: 0,
    next: null,
    file: "",
    byte: 0,
  };
}

type Seal = ProvenBatch & { readonly isGood: () => boolean; readonly where: string };

/**
 * Follows a log from a position on and gives out what is proven (docs/LOG_FORMAT.md), key changes included. What a
 * snapshot says is not compared: that needs all of the log, and is verify-log's. `cutAt`: a batch ends at the seal with
 * this number, if there is one.
 */
export function createFollower(start: Position, cutAt: number | null = null): Follower {
  const frontier = copyFrontier(start.frontier);
  const splitter = createSplitter(onLine);
  let { prev, last, key, segment, next, file } = start;
  let certified: KnownKey | null = null; // by a log.rotated, when a seal covers it
  let lines: ProvenLine[] = [];
  let unsealedBytes = 0;
  let seals: Seal[] = []; // of good form, the signatures unchecked
  let batches: ProvenBatch[] = [];
  let fault: string | null = null;

  function push(chunk: Chunk): Followed {
    batches = [];
    const result = fault === null ? splitter.push(chunk) : "stop";
    if (typeof result === "object") fault = `${result.code} in ${result.file}, byte ${result.byte}`;
    settle();
    return { batches, fault };
  }

  function onLine(line: Line): "go-on" | "stop" {
    const wrong = take(line);
    if (wrong === null) return "go-on";
    // a wrong signature found on the way comes first
    fault ??= `record ${frontier.size}, ${whereIs(line)}: ${wrong}`;
    return "stop";
  }

  /** What is wrong with a line, or null when it follows and was taken. */
  function take(line: Line): string | null {
    const read = line.text === null ? null : readLine(line.text);
    if (line.text === null || read === null) return "not UTF-8";
    if (!read.ok) return read.why;
    const { record } = read;
    if (record.seq !== frontier.size) return `it is numbered ${record.seq}`;
    if (record.prev !== prev) return "it is not chained to the record before it";
    const wrong = checkPlace(record, line) ?? (record.kind === "seal" ? checkForm(record) : null);
    if (wrong !== null) return wrong;
    const rootBefore = record.kind === "seal" ? root(frontier) : "";
    lines.push({ record, text: line.text });
    append(frontier, line.leaf);
    [prev, file, unsealedBytes] = [line.leaf, line.file, unsealedBytes + line.length + 1];
    const before = last;
    last = record;
    if (record.kind === "seal" && before !== null) return seal(record, before, rootBefore, line);
    return unsealedBytes > MAX_BATCH_BYTES ? "more than one batch holds has no seal" : null;
  }

  /** The first line, the first of a file, and those that change the key. */
  function checkPlace(record: LogRecord, line: Line): string | null {
    const isStart = frontier.size === 0 || next !== null;
    const wrong = checkFile(line, record, isStart);
    if (wrong !== null) return wrong;
    if (frontier.size === 0) return begins(record, "log.genesis", key, 0);
    if (next !== null) {
      const unlike = begins(record, "log.segment", next, segment + 1);
      if (unlike === null) [key, segment, next] = [next, segment + 1, null];
      return unlike;
    }
    if (certified !== null && record.kind !== "seal") return "it stands between a log.rotated and its seal";
    if (record.kind === "log.genesis" || record.kind === "log.segment")
      return `${record.kind} inside a segment`;
    return record.kind === "log.rotated" ? certify(record.data) : null;
  }

  function checkFile(line: Line, record: LogRecord, isStart: boolean): string | null {
    if (line.file === file) return null;
    const named = /^(\d{20})\.jsonl$/.exec(line.file);
    if (named === null) return null;
    if (Number(named[1]) !== record.seq) return `${line.file} begins with record ${record.seq}`;
    return isStart ? null : `${line.file} begins without a key change before it`;
  }

  function certify(data: Data): string | null {
    const found = readKnownKey(data["key"], key.verifier.name);
    if (found === null || data["segment"] !== segment + 1) return "a log.rotated that names no next key";
    certified = found;
    return null;
  }

  function checkForm(record: LogRecord): string | null {
    return last === null || typeof record.data["note"] !== "string"
      ? "a seal over nothing, or without note"
      : null;
  }

  function seal(record: LogRecord, before: LogRecord, rootBefore: string, line: Line): string | null {
    const { verifier } = key;
    const form = checkSeal(record, before, rootBefore, verifier);
    if (!form.ok) return form.what;
    if (certified !== null) [next, certified] = [certified, null];
    unsealedBytes = 0;
    seals.push({
      lines,
      note: String(record.data["note"]),
      size: record.seq,
      after: position(line.byte + line.length + 1),
      isGood: () => verifyNote(verifier, form.note).ok,
      where: `record ${record.seq}, ${whereIs(line)}`,
    });
    lines = [];
    // the next key is believed only when this signature is good
    if (next !== null || record.seq === cutAt) settle();
    return fault;
  }

  function position(byte: number): Position {
    return { frontier: copyFrontier(frontier), prev, last, key, segment, next, file, byte };
  }

  /** Every line before a good seal is under its root, older seals too: the newest of one key proves them all. */
  function settle(): void {
    const waiting = seals;
    seals = [];
    const newest = waiting.at(-1);
    if (newest === undefined) return;
    const firstBad = newest.isGood() ? -1 : waiting.findIndex((one) => !one.isGood());
    const good = firstBad === -1 ? waiting : waiting.slice(0, firstBad);
    const end = good.at(-1);
    if (end !== undefined) batches.push({ ...end, lines: good.flatMap((one) => one.lines) });
    // the first thing wrong, and it comes before whatever stopped us
    if (firstBad !== -1) fault = `${waiting[firstBad]?.where ?? ""}: the seal's signature is wrong`;
  }

  return { push };
}

/** A key from the log: of the log's name, or null. */
export function readKnownKey(vkey: unknown, name: string): KnownKey | null {
  const parsed = typeof vkey === "string" ? parseVkey(vkey) : null;
  return parsed?.ok === true && parsed.value.name === name
    ? { vkey: String(vkey), verifier: parsed.value }
    : null;
}

/** What is wrong with the first record of a segment, or null. */
function begins(record: LogRecord, kind: string, key: KnownKey, segment: number): string | null {
  const { data } = record;
  if (record.kind !== kind || data["format"] !== 1) return `a ${kind} of format 1 belongs here`;
  if (data["key"] !== key.vkey || data["origin"] !== key.verifier.name)
    return "the log belongs to another key";
  // logs from before there were segments do not number the first one
  return (data["segment"] ?? 0) === segment ? null : `a ${kind} that is not of segment ${segment}`;
}

function whereIs(line: Line): string {
  return `${line.file}, byte ${line.byte}`;
}
