import { parseVkey, type VerifierKey } from "./checkpoint.ts";
import type { LogRecord } from "./record.ts";
import type { BadCode } from "./verdict.ts";

/**
 * Which key is in force, segment by segment: docs/LOG_FORMAT.md, "Keys and segments". The first is known from outside;
 * each other one counts from its `log.segment` on, because the key before it has sealed its `log.rotated`.
 */
export type Succession = {
  /** What is wrong with a line in this place, before it is taken; null when nothing is. `opens`: it is the first of a segment's file. */
  fault(record: LogRecord, before: LogRecord | null, opens: boolean): SuccessionFault | null;
  /** Takes a line that is not at fault. */
  take(record: LogRecord): void;
  /** The key in force, and its segment. */
  now(): KeyEpoch;
  verifier(): VerifierKey;
  /** The next segment's key, once its certificate is sealed and until the segment begins; otherwise null. */
  certified(): string | null;
  /** All keys so far, in order. */
  epochs(): readonly KeyEpoch[];
};

/** A key and what it signs. */
export type KeyEpoch = {
  readonly vkey: string;
  /** Segment number, and the seq and time (RFC 3339; "" before there is one) of its first record. */
  readonly segment: number;
  readonly firstSeq: number;
  readonly since: string;
};

export type SuccessionFault = { readonly code: BadCode; readonly what: string };

export type Next = { readonly vkey: string; readonly verifier: VerifierKey };

/**
 * `from`: the key in force where reading begins, and its segment. `due`: that segment is gone, and the next one, under
 * this key, is what is read first.
 */
export function createSuccession(from: KeyEpoch, known: VerifierKey, due: Next | null = null): Succession {
  let now = from;
  let verifier = known;
  let epochs: KeyEpoch[] = due ? [] : [from];
  let named: Next | null = null; // by a log.rotated that no seal covers yet
  let certified = due;

  function fault(record: LogRecord, before: LogRecord | null, opens: boolean): SuccessionFault | null {
    if (certified) return beginning(record, certified);
    if (record.kind === "log.genesis" && before !== null)
      return start(`record ${record.seq} is a second log.genesis`);
    if (record.kind === "log.segment" && before !== null)
      return start(`record ${record.seq} begins a segment that no seal has certified`);
    if (opens && before !== null)
      return start(`record ${record.seq} does not begin a segment, and its file does`);
    if (before?.kind === "log.rotated" && record.kind !== "seal")
      return start(`record ${record.seq} stands where the seal of a log.rotated has to`);
    if (before?.kind === "log.rotated" && nextIn(before) === null)
      return start(`record ${before.seq} names no key that could be segment ${now.segment + 1}'s`);
    return null;
  }

  function beginning(record: LogRecord, next: Next): SuccessionFault | null {
    const { format, key, origin, segment, snapshot: _snapshot, ...more } = record.data;
    const number = now.segment + 1;
    if (record.kind !== "log.segment")
      return start(`record ${record.seq} stands where segment ${number} has to begin`);
    const only = Object.keys(more).length === 0;
    const fits = only && format === 1 && key === next.vkey && origin === verifier.name && segment === number;
    return fits ? null : start(`record ${record.seq} begins another segment than the one that was certified`);
  }

  function nextIn(record: LogRecord): Next | null {
    const { key, segment, ...more } = record.data;
    if (typeof key !== "string" || segment !== now.segment + 1 || Object.keys(more).length > 0) return null;
    const parsed = parseVkey(key);
    return parsed.ok && parsed.value.name === verifier.name ? { vkey: key, verifier: parsed.value } : null;
  }

  function take(record: LogRecord): void {
    if (record.kind === "log.rotated") named = nextIn(record);
    else if (record.kind === "seal") {
      certified = named ?? certified;
      named = null;
    } else if (record.kind === "log.segment" && certified) {
      now = { vkey: certified.vkey, segment: now.segment + 1, firstSeq: record.seq, since: record.at };
      verifier = certified.verifier;
      epochs.push(now);
      certified = null;
    } else if (now.since === "") {
      now = { ...now, since: record.at };
      epochs = [now];
    }
  }

  return {
    fault,
    take,
    now: () => now,
    verifier: () => verifier,
    certified: () => certified?.vkey ?? null,
    epochs: () => epochs,
  };
}

function start(what: string): SuccessionFault {
  return { code: "segment-start", what };
}
