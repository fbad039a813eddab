import { BoundaryError } from "../core/errors.ts";
import { renderCanonical } from "./canonical.ts";
import { type Certificate, checkCertificate, renderCertificate, type Standing } from "./certificate.ts";
import { renderLine } from "./line.ts";
import type { Frontier } from "./merkle.ts";
import { fits } from "./parts.ts";
import type { LogRecord } from "./record.ts";
import type { Chunk } from "./split.ts";
import { type Begin, verifyLog } from "./verify.ts";

/** A segment that is to go, verified, and what will be left of it. */
export type Burial = {
  /** The tombstone's three lines. */
  readonly tombstone: string;
  /** What holds after it. */
  readonly standing: Standing;
  /** RFC 3339: the latest time of any of its records; clocks go back. */
  readonly newestAt: string;
};

/**
 * Verifies one whole segment and makes its tombstone. `standing`: what holds where it begins, from the genesis key on;
 * `begin`: what it says itself (null for the first); `next`: what the segment after it says. A segment that is not
 * sound, or does not lead to the next, is evidence and stays: BoundaryError("log-broken").
 */
export async function bury(
  chunks: AsyncIterable<Chunk>,
  known: {
    readonly vkey: string;
    readonly standing: Standing;
    readonly begin: Begin | null;
    readonly next: Begin;
  },
): Promise<Burial> {
  const { standing, begin } = known;
  let tree: Frontier | null = null;
  let [rotated, seal, newestAt] = ["", "", ""];
  const verdict = await verifyLog(chunks, {
    vkey: known.vkey,
    begin: begin ?? undefined,
    onRecord: (record, _state, before) => {
      if (record.at > newestAt) newestAt = record.at;
      if (before) [tree, rotated] = [before, lineOf(record)];
      else if (tree && record.kind === "seal") seal = lineOf(record);
    },
  });
  if (verdict.verdict !== "sound" || tree === null || !fits(verdict, known.next))
    throw broken(standing, verdict.bad?.what ?? "it does not lead to the segment after it");
  const certificate: Certificate = {
    segment: standing.segment,
    first: standing.tree.size,
    tree,
    rotated,
    seal,
  };
  const after = checkCertificate(standing, certificate);
  if (!after.ok) throw broken(standing, after.why);
  return { tombstone: renderCertificate(certificate), standing: after.value, newestAt };
}

/** A record's one line: verification has refused every other form of it. */
function lineOf(record: LogRecord): string {
  return renderLine(record, renderCanonical(record.data));
}

function broken({ segment }: Standing, why: string): BoundaryError {
  return new BoundaryError("log-broken", `pruning segment ${segment}: ${why}`);
}
