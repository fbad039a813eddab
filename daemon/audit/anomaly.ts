import type { LogRecord } from "./record.ts";
import type { Bad, BadCode, Place } from "./verdict.ts";

/** A line that was read, with the hash of its bytes. */
export type Seen = { readonly record: LogRecord; readonly leaf: string; readonly place: Place };

/**
 * Says what happened where a line does not follow from the one before: its number or its `prev` is another one than
 * expected. `before` is the last line that fitted (null at the start), `next` the line after the odd one (null when
 * there is none, or none that can be read). `provenBefore`: `before` is a good seal, whose bytes can only be these.
 */
export function classify(before: Seen | null, odd: Seen, next: Seen | null, provenBefore: boolean): Bad {
  const expected = before ? before.record.seq + 1 : 0;
  return odd.record.seq === expected
    ? wrongPrev(before, odd, next, provenBefore)
    : wrongNumber(before, odd, next, expected);
}

function wrongNumber(before: Seen | null, odd: Seen, next: Seen | null, expected: number): Bad {
  const found = odd.record.seq;
  if (!before) return bad("start-missing", odd, 0, `the log begins with record ${found}, not with 0`);
  if (found === before.record.seq) return twice(before, odd, next);
  if (found < expected) {
    return next?.record.seq === expected
      ? bad(
          "record-inserted",
          odd,
          found,
          `a record numbered ${found} stands where ${expected} belongs, and ${expected} follows`,
        )
      : bad("records-reordered", odd, found, `record ${found} stands where ${expected} belongs`);
  }
  if (next && next.record.seq !== found + 1) {
    return bad("records-reordered", odd, found, `record ${found} stands where ${expected} belongs`);
  }
  return bad(
    "records-missing",
    odd,
    expected,
    `${found - expected} missing from ${expected} on: ${found} follows ${expected - 1}`,
  );
}

/** Two lines claim one number. The one that the next line was chained to is the true one. */
function twice(before: Seen, odd: Seen, next: Seen | null): Bad {
  const number = odd.record.seq;
  if (odd.leaf === before.leaf) return bad("record-duplicated", odd, number, `record ${number} stands twice`);
  const foreign = next?.record.prev === odd.leaf ? before : odd;
  return bad("record-inserted", foreign, number, `two different records are numbered ${number}`);
}

function wrongPrev(before: Seen | null, odd: Seen, next: Seen | null, provenBefore: boolean): Bad {
  const number = odd.record.seq;
  if (next?.record.seq === number)
    return bad("record-inserted", odd, number, `two records are numbered ${number}`);
  const oddIsVouchedFor = next === null || next.record.prev === odd.leaf;
  if (before && !provenBefore && oddIsVouchedFor) {
    return bad(
      "record-edited",
      before,
      before.record.seq,
      `record ${number} was chained to other bytes than record ${before.record.seq} has now`,
    );
  }
  return bad("record-edited", odd, number, `record ${number} is not chained to the record before it`);
}

function bad(code: BadCode, seen: Seen, seq: number, what: string): Bad {
  return { code, seq, file: seen.place.file, byte: seen.place.byte, what };
}
