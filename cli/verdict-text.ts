import type { Verdict } from "../daemon/audit/verdict.ts";
import { type Paint, plain } from "./output.ts";

/** Whether a head from outside the log was held against it. Without one, a cut tail looks like an earlier end. */
export type HeadUse = "checked" | "none";

const MAX_NOTES = 20;

/** A verdict as lines of text, safe for a terminal. */
export function renderVerdict(verdict: Verdict, head: HeadUse, paint: Paint): readonly string[] {
  return [
    ...renderOutcome(verdict, paint),
    `records     ${verdict.records}, ${verdict.seals} seals${span(verdict)}`,
    ...(verdict.pruned.segments === 0
      ? []
      : [
          `pruned      ${verdict.pruned.segments} segments, records 0 to ${verdict.pruned.records - 1}: their tombstones are good`,
        ]),
    `keys        ${verdict.keys.length}, one a segment`,
    `head        ${verdict.size} ${plain(verdict.root)}`,
    ...(head === "none" ? ["            no --head given: a tail that was cut off would not be noticed"] : []),
    ...verdict.gaps
      .slice(0, MAX_NOTES)
      .map((gap) => `gap         record ${gap.seq} at ${plain(gap.at)}: an interval nobody watched`),
    ...(verdict.gaps.length > MAX_NOTES
      ? [`            and ${verdict.gaps.length - MAX_NOTES} more gaps`]
      : []),
    ...verdict.warnings.slice(0, MAX_NOTES).map((warning) => `note        ${plain(warning)}`),
  ];
}

function renderOutcome(verdict: Verdict, paint: Paint): readonly string[] {
  const { bad, unsealed } = verdict;
  if (bad !== null) {
    return [
      paint("red", `BROKEN      ${plain(bad.what)} (${bad.code})`),
      `first bad   record ${bad.seq}, ${place(bad)}`,
      `trustworthy ${trustworthy(verdict)}`,
    ];
  }
  if (verdict.verdict === "sound") return [paint("green", "sound       every record is proven")];
  const from = unsealed.from === null ? "" : `, from ${place(unsealed.from)}`;
  return [
    paint(
      "yellow",
      "torn        the end is not sealed: a crash leaves it so; the daemon recovers it at its next start",
    ),
    `unproven    ${unsealed.records} records, ${unsealed.bytes} bytes${from}`,
    `trustworthy ${trustworthy(verdict)}`,
  ];
}

function trustworthy({ trustworthyUpTo: upTo }: Verdict): string {
  if (upTo === null) return "nothing";
  return `records 0 to ${upTo.seq} (sealed ${plain(upTo.at)}, ${plain(upTo.file)} up to byte ${upTo.endByte})`;
}

function place(at: { readonly file: string; readonly byte: number }): string {
  return at.file === "" ? "no file" : `${plain(at.file)}, byte ${at.byte}`;
}

function span({ firstAt, lastAt }: Verdict): string {
  return firstAt === "" ? "" : `, ${plain(firstAt)} to ${plain(lastAt)}`;
}

/** A verdict for a machine: what is proven, and what is bad. */
export function verdictData(verdict: Verdict, head: HeadUse): object {
  const { trustworthyUpTo: upTo } = verdict;
  return {
    verdict: verdict.verdict,
    recoverable: verdict.verdict === "torn",
    bad: verdict.bad,
    trustworthyUpTo:
      upTo === null ? null : { seq: upTo.seq, at: upTo.at, file: upTo.file, endByte: upTo.endByte },
    records: verdict.records,
    seals: verdict.seals,
    firstAt: verdict.firstAt,
    lastAt: verdict.lastAt,
    size: verdict.size,
    root: verdict.root,
    head,
    keys: verdict.keys,
    pruned: verdict.pruned,
    unsealed: verdict.unsealed,
    gaps: verdict.gaps,
    warnings: verdict.warnings,
  };
}
