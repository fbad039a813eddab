import {
  type Certificate,
  checkCertificate,
  genesisStanding,
  MAX_CERTIFICATE_CHARS,
  parseCertificate,
  type Standing,
} from "./certificate.ts";
import type { Parsed } from "./checkpoint.ts";
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
  /** The last tombstone's seal, a line, and its leaf hash. */
  readonly seal: string;
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

/** Reads tombstones as they come, in chunks, one file after the other; each goes to `onTombstone` when it is whole. */
export function createTombstones(onTombstone: (tombstone: Tombstone) => void) {
  let open: { file: string; pieces: Buffer[]; bytes: number } | null = null;

  function take(chunk: Chunk): boolean {
    if (!TOMBSTONE_NAME.test(chunk.file)) return false;
    if (open && open.file !== chunk.file) close();
    open ??= { file: chunk.file, pieces: [], bytes: 0 };
    open.bytes += chunk.bytes.length;
    if (open.bytes <= MAX_CERTIFICATE_CHARS) open.pieces.push(Buffer.from(chunk.bytes));
    return true;
  }

  /** The last one is whole. */
  function close(): void {
    const one = open;
    open = null;
    if (one) onTombstone({ file: one.file, certificate: parse(one) });
  }

  return { take, close };
}

/** A tombstone's file and what it holds, which nothing vouches for yet. */
export type Tombstone = { readonly file: string; readonly certificate: Parsed<Certificate> };

/** What is of the form of one, and of the segment that its file's name says. */
function parse({
  file,
  pieces,
  bytes,
}: {
  file: string;
  pieces: Buffer[];
  bytes: number;
}): Parsed<Certificate> {
  if (bytes > MAX_CERTIFICATE_CHARS) return { ok: false, why: "it is too long" };
  const parsed = parseCertificate(Buffer.concat(pieces).toString("utf8"));
  if (!parsed.ok || parsed.value.first === seqOf(file)) return parsed;
  return { ok: false, why: `it is of the segment that began with record ${parsed.value.first}` };
}

function seqOf(file: string): number {
  return Number(TOMBSTONE_NAME.exec(file)?.[1]);
}

export function createPruned(vkey: string): Pruned {
  const tombstones = createTombstones(check);
  const graves: Grave[] = [];
  let end: PrunedEnd | null = null;
  let bad: Bad | null = null;

  function check({ file, certificate }: Tombstone): void {
    if (bad) return;
    if (!certificate.ok) {
      bad = fault(file, certificate.why);
      return;
    }
    const before: Parsed<Standing> = end ? { ok: true, value: end.standing } : genesisStanding(vkey);
    const after = before.ok ? checkCertificate(before.value, certificate.value) : before;
    if (after.ok) end = endAfter(file, certificate.value, after.value, graves);
    else bad = fault(file, after.why);
  }

  return {
    take: tombstones.take,
    end() {
      tombstones.close();
      return bad ?? end;
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
  let early: Bad | null = null;

  function cover({ at, data }: LogRecord): void {
    const { through, keptDays } = data;
    if (typeof through !== "number") return;
    for (let grave = graves[covered]; grave && grave.end <= through; grave = graves[++covered]) {
      const days = (Date.parse(at) - Date.parse(grave.sealedAt)) / DAY_MS;
      const inTime = nowMs === null || Date.parse(at) <= nowMs + AHEAD_DAYS * DAY_MS;
      if (typeof keptDays === "number" && keptDays >= LEAST_DAYS && days >= LEAST_DAYS && inTime) continue;
      const what = `it was pruned ${at}, and its last record is of ${grave.sealedAt}`;
      early ??= { seq: grave.first, file: grave.file, byte: 0, code: "pruned-early", what };
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
      if (early || !bare) return early;
      const what = "the log does not say that this was pruned";
      return { seq: bare.first, file: bare.file, byte: 0, code: "pruned-unrecorded", what };
    },
  };
}

function endAfter(file: string, { seal }: Certificate, standing: Standing, graves: Grave[]): PrunedEnd {
  const prev = leafHash(Buffer.from(seal, "utf8"));
  const first = seqOf(file);
  const grave = { file, first, end: standing.tree.size, sealedAt: timeOf(seal) };
  graves.push(grave);
  return { standing, seal, prev, graves };
}

function fault(file: string, why: string): Bad {
  return { seq: seqOf(file), file, byte: 0, code: "tombstone-bad", what: `${file}: ${why}` };
}
