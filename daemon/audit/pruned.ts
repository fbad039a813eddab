import {
  type Certificate,
  checkCertificate,
  genesisStanding,
  MAX_CERTIFICATE_CHARS,
  parseCertificate,
  type Standing,
} from "./certificate.ts";
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
  /** Leaf hash of the last tombstone's seal. */
  readonly prev: string;
  readonly segments: number;
  /** The last tombstone's file. */
  readonly file: string;
};

/** Matches a tombstone's file; the number is its segment's first record. */
export const TOMBSTONE_NAME = /(?:^|\/)(\d{20})\.tombstone$/;

export function createPruned(vkey: string): Pruned {
  let standing: Standing | null = null;
  let open: { file: string; pieces: Buffer[]; bytes: number } | null = null;
  let last: { file: string; certificate: Certificate } | null = null;
  let bad: Bad | null = null;
  let segments = 0;

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
    last = { file, certificate: parsed.value };
    segments++;
    return null;
  }

  return {
    take,
    end() {
      close();
      if (bad) return bad;
      if (!standing || !last) return null;
      const prev = leafHash(Buffer.from(last.certificate.seal, "utf8"));
      return { standing, prev, segments, file: last.file };
    },
  };
}

function startOf(vkey: string): Standing | null {
  const start = genesisStanding(vkey);
  return start.ok ? start.value : null;
}
