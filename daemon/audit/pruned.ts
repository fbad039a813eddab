import {
  type Certificate,
  checkCertificate,
  genesisStanding,
  MAX_CERTIFICATE_CHARS,
  parseCertificate,
  type Standing,
} from "./certificate.ts";
import { readLine } from "./line.ts";
import { leafHash } from "./merkle.ts";
import type { LogRecord } from "./record.ts";
import type { Chunk } from "./split.ts";
import type { Bad } from "./verdict.ts";

/**
 * What stands before a pruned log's first segment: tombstones, read from the genesis key on. docs/LOG_FORMAT.md, "Pruning".
 */
export type Pruned = {
  /** True when the chunk is a tombstone's, and is taken. */
  take(chunk: Chunk): boolean;
  /** Checks what was taken, once the first segment comes or the log ends. Null: nothing was pruned. */
  end(): PrunedEnd | Bad | null;
};

export type PrunedEnd = {
  readonly standing: Standing;
  /** Leaf hash of the last tombstone's seal. */
  readonly prev: string;
  /** One for each tombstone, in order. */
  readonly graves: readonly Grave[];
};

/** A segment that is gone. */
export type Grave = {
  readonly file: string;
  readonly first: number;
  /** The first record after it. */
  readonly end: number;
  /** RFC 3339: its last seal's time. */
  readonly sealedAt: string;
};

/** Matches a tombstone's file; the number is its segment's first record. */
export const TOMBSTONE_NAME = /(?:^|\/)(\d{20})\.tombstone$/;

export function createPruned(vkey: string): Pruned {
  let standing: Standing | null = null;
  let open: { file: string; pieces: Buffer[]; bytes: number } | null = null;
  let last: Certificate | null = null;
  const graves: Grave[] = [];
  let bad: Bad | null = null;

  function take(chunk: Chunk): boolean {
    if (!TOMBSTONE_NAME.test(chunk.file)) return false;
    if (open && open.file !== chunk.file) close();
    open ??= { file: chunk.file, pieces: [], bytes: 0 };
    open.bytes += chunk.bytes.length;
    if (open.bytes <= MAX_CERTIFICATE_CHARS) open.pieces.push(Buffer.from(chunk.bytes));
    return true;
  }

  function close(): void {
    const one = open;
    open = null;
    if (one && !bad) bad = check(one);
  }

  function check({ file, pieces, bytes }: { file: string; pieces: Buffer[]; bytes: number }): Bad | null {
    const seq = Number(TOMBSTONE_NAME.exec(file)?.[1]);
    const fault = (why: string): Bad => ({
      seq,
      file,
      byte: 0,
      code: "tombstone-bad",
      what: `${file}: ${why}`,
    });
    const before = standing ?? startOf(vkey);
    if (before === null || bytes > MAX_CERTIFICATE_CHARS) return fault("it is too long");
    const parsed = parseCertificate(Buffer.concat(pieces).toString("utf8"));
    if (!parsed.ok) return fault(parsed.why);
    if (parsed.value.first !== seq)
      return fault(`it is of the segment that began with record ${parsed.value.first}`);
    const after = checkCertificate(before, parsed.value);
    if (!after.ok) return fault(after.why);
    standing = after.value;
    last = parsed.value;
    graves.push({ file, first: seq, end: after.value.tree.size, sealedAt: timeOf(last.seal) });
    return null;
  }

  return {
    take,
    end() {
      close();
      if (bad) return bad;
      if (!standing || !last) return null;
      return { standing, prev: leafHash(Buffer.from(last.seal, "utf8")), graves };
    },
  };
}

/** Of a line that was read before. */
function timeOf(line: string): string {
  const read = readLine(line);
  return read.ok ? read.record.at : "";
}

/** The least that has to be kept, and how far a clock may be ahead of the verifier's. Days. */
const LEAST_DAYS = 90;
const AHEAD_DAYS = 1;
const DAY_MS = 86_400_000;

/**
 * Whether what is gone was pruned as the log itself says, and was old enough then: who has the present key can take away
 * old segments, but not ones that are younger than the retention. `nowMs`: the verifier's clock, since a record's own
 * time is its writer's to choose; null when it has none.
 */
export function createRetention(graves: readonly Grave[], nowMs: number | null) {
  let covered = 0; // so many graves, from the first on
  let unsealed: LogRecord[] = [];
  let fault: Bad | null = null;

  function cover({ at, data }: LogRecord): void {
    const { through, keptDays } = data;
    if (typeof through !== "number") return;
    for (let grave = graves[covered]; grave && grave.end <= through; grave = graves[++covered]) {
      const days = (Date.parse(at) - Date.parse(grave.sealedAt)) / DAY_MS;
      const inTime = nowMs === null || Date.parse(at) <= nowMs + AHEAD_DAYS * DAY_MS;
      if (typeof keptDays === "number" && keptDays >= LEAST_DAYS && days >= LEAST_DAYS && inTime) continue;
      const what = `it was pruned ${at}, and its last record is of ${grave.sealedAt}`;
      fault ??= { seq: grave.first, file: grave.file, byte: 0, code: "pruned-early", what };
    }
  }

  return {
    note(record: LogRecord): void {
      if (record.kind === "log.pruned") unsealed.push(record);
    },
    /** What was noted is under a seal. */
    sealed(): void {
      for (const record of unsealed) cover(record);
      unsealed = [];
    },
    fault(): Bad | null {
      const bare = graves[covered];
      if (fault || !bare) return fault;
      const what = "the log does not say that this was pruned";
      return { seq: bare.first, file: bare.file, byte: 0, code: "pruned-unrecorded", what };
    },
  };
}

function startOf(vkey: string): Standing | null {
  const start = genesisStanding(vkey);
  return start.ok ? start.value : null;
}
