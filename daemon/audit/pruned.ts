import {
  type Certificate,
  checkCertificate,
  genesisStanding,
  MAX_CERTIFICATE_CHARS,
  parseCertificate,
  type Standing,
} from "./certificate.ts";
import type { Parsed } from "./checkpoint.ts";
import { leafHash } from "./merkle.ts";
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
  readonly segments: number;
  /** The last tombstone's file. */
  readonly file: string;
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
    if (after.ok) end = endAfter(file, certificate.value, after.value, end);
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

function endAfter(
  file: string,
  { seal }: Certificate,
  standing: Standing,
  before: PrunedEnd | null,
): PrunedEnd {
  const prev = leafHash(Buffer.from(seal, "utf8"));
  return { standing, seal, prev, segments: (before?.segments ?? 0) + 1, file };
}

function fault(file: string, why: string): Bad {
  return { seq: seqOf(file), file, byte: 0, code: "tombstone-bad", what: `${file}: ${why}` };
}
