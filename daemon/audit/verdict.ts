import type { Fold } from "./fold.ts";
import type { LineFault } from "./line.ts";
import type { Tail } from "./log.ts";
import type { Data } from "./record.ts";
import type { KeyEpoch } from "./succession.ts";

/** Where a line stands. `byte` is its first byte's offset in the file. */
export type Place = { readonly seq: number; readonly file: string; readonly byte: number };

/** What can be wrong with a log. Codes are only ever added. */
export type BadCode =
  | LineFault
  | "line-too-long"
  | "line-unfinished"
  | "not-utf8"
  /** A line's bytes are not those that the next line's `prev`, or the seal, was made of. */
  | "record-edited"
  | "records-missing"
  | "record-inserted"
  | "record-duplicated"
  | "records-reordered"
  /** The log does not begin at 0. */
  | "start-missing"
  | "genesis-missing"
  /** The log says itself that it belongs to another key. */
  | "wrong-key"
  /** Chain and numbers fit, but not the signed root: records were rewritten and hashed anew. */
  | "records-rewritten"
  | "seal-form"
  | "seal-origin"
  | "seal-key"
  | "seal-signature"
  /** More follows the last seal than one crash can leave. */
  | "sealing-off"
  | "segment-misnamed"
  /** A segment does not begin, or not with what the key before it has certified. */
  | "segment-start"
  /** A snapshot does not say what the records before it come to. */
  | "snapshot-lies"
  /** What is left of a pruned segment is not what its key signed, or does not lead to what was kept. */
  | "tombstone-bad"
  /** Segments are gone, and the log does not say that they were pruned. */
  | "pruned-unrecorded"
  /** What is gone was younger than the retention when it was pruned. */
  | "pruned-early"
  /** The log ends before the remembered head. */
  | "tail-cut"
  /** The log is sound in itself, but it is not the one that the head was taken from. */
  | "head-mismatch"
  | "log-empty";

export type Bad = Place & { readonly code: BadCode; readonly what: string };

export type Gap = { readonly seq: number; readonly at: string; readonly data: Data };

/** The last line that is proven, by a seal or by being one. */
export type Proven = {
  readonly seq: number;
  readonly at: string;
  readonly file: string;
  /** First byte after it: what follows in the file is not proven. */
  readonly endByte: number;
  /** To go on from here. */
  readonly tail: Tail;
  /** The key (vkey) in force. */
  readonly key: string;
};

export type Verdict = {
  /**
   * sound: every line is proven. torn: every seal is good, but unsealed lines or a piece of one follow the last, as a
   * crash leaves them. broken: somebody or something changed the log; see `bad`.
   */
  readonly verdict: "sound" | "broken" | "torn";
  /** Whole lines in order, seals included, up to the end or to what is bad. */
  readonly records: number;
  readonly seals: number;
  readonly firstAt: string;
  readonly lastAt: string;
  /** Tree size and root (hex) of the newest proven seal. */
  readonly size: number;
  readonly root: string;
  readonly bad: Bad | null;
  readonly trustworthyUpTo: Proven | null;
  /** The keys that sealed, one a segment, in order. */
  readonly keys: readonly KeyEpoch[];
  /** What was pruned, oldest first: segments, and the records that were in them. */
  readonly pruned: { readonly segments: number; readonly records: number };
  /** After the last proven line. `from` is null when there is nothing. */
  readonly unsealed: { readonly records: number; readonly bytes: number; readonly from: Place | null };
  /** `gap` records among the proven, the first 1,000. */
  readonly gaps: readonly Gap[];
  /** The fold of the proven records. */
  readonly state: Fold;
  /** Not wrong, but worth knowing (the clock went back), the first 100. */
  readonly warnings: readonly string[];
};
