import { BoundaryError } from "../core/errors.ts";
import type { Fold } from "./fold.ts";
import { readHead, readKey } from "./known.ts";
import { readLine } from "./line.ts";
import { emptyTail, type Tail } from "./log.ts";
import { snapshotIn } from "./snapshot.ts";
import type { Chunk } from "./split.ts";
import type { Bad, Verdict } from "./verdict.ts";
import { type Begin, verifyLog } from "./verify.ts";

/** What a start finds. `file` is the segment to go on in. */
export type Recovery =
  /** No log, and no head that remembers one. */
  | { readonly kind: "none" }
  | {
      readonly kind: "sound";
      readonly file: string;
      readonly tail: Tail;
      readonly endByte: number;
      /** The key (vkey) in force at the end. */
      readonly key: string;
      readonly fold: Fold;
      readonly verdict: Verdict;
    }
  /** A crash left unsealed bytes: they are cut off and kept in `savedAs`. The log goes on at the last seal. */
  | {
      readonly kind: "recovered";
      readonly file: string;
      readonly tail: Tail;
      readonly endByte: number;
      /** The key (vkey) in force at the end. */
      readonly key: string;
      readonly fold: Fold;
      readonly verdict: Verdict;
      readonly savedAs: string;
    }
  | { readonly kind: "broken"; readonly bad: Bad; readonly verdict: Verdict };

export type RecoverParts = {
  /** The log's bytes, as adapters/log-file.ts reads them. */
  readonly read: () => AsyncIterable<Chunk>;
  /** The last segment's newest snapshot, and the bytes from it on; null when there is none. */
  readonly readEnd?: () => LogEnd | null;
  /** Cuts a file at a byte and keeps what was cut; returns where. */
  readonly cut: (place: { readonly file: string; readonly byte: number; readonly seq: number }) => string;
  /** The genesis key. */
  readonly vkey: string;
  /** The key (vkey) that signs now, from our own state directory: a snapshot counts under no other. */
  readonly current?: string;
  /** The remembered signed note; null when none was ever remembered (an unreadable one is the caller's to refuse). */
  readonly head: string | null;
};

/** Lines without their "\n". */
export type LogEnd = {
  /** The segment's first line: what the segment is called, and since when it is. */
  readonly first: string;
  readonly snapshot: string;
  readonly chunks: () => AsyncIterable<Chunk>;
};

/**
 * Verifies the log with our own key and the remembered head, and makes it ready to go on. Whatever is wrong with it
 * is "broken" and nothing is touched. Throws BoundaryError("log-broken") when it cannot be read or cut, and
 * ("head-invalid") when the head is not one.
 *
 * From the newest snapshot on where that will do: the seals after it are of the whole tree, so a snapshot that says
 * something else than the records before it come to does not fit to their root. What those records are now is for
 * `verify-log` to say. In every case of doubt all is read.
 */
export async function recoverLog(parts: RecoverParts): Promise<Recovery> {
  const verdict = (await verifyEnd(parts)) ?? (await verify(parts));
  const { bad, trustworthyUpTo: proven, unsealed } = verdict;
  if (bad)
    return bad.code === "log-empty" && parts.head === null
      ? { kind: "none" }
      : { kind: "broken", bad, verdict };
  const { tail, endByte, file, key } = proven ?? {
    tail: emptyTail(),
    endByte: 0,
    file: unsealed.from?.file ?? "",
    key: parts.vkey,
  };
  const found = { file, tail, endByte, key, fold: verdict.state, verdict };
  if (verdict.verdict === "sound") return { kind: "sound", ...found };
  // in the last segment's file, which is not the proven end's when a segment had just begun
  const from = unsealed.from ?? { file, byte: endByte };
  const savedAs = cut(parts, { file: from.file, byte: from.byte, seq: tail.size });
  return { kind: "recovered", ...found, savedAs };
}

/** Null when the end alone does not say enough. */
async function verifyEnd(parts: RecoverParts): Promise<Verdict | null> {
  const end = parts.readEnd?.() ?? null;
  const begin = end && parts.current !== undefined ? beginAt(end, parts.current) : null;
  if (!end || !begin || parts.head === null) return null;
  const head = readHead(parts.head, readKey(parts.vkey));
  if (head.size < begin.frontier.size) return null;
  const verdict = await asLogError(() =>
    verifyLog(end.chunks(), { vkey: parts.vkey, head: parts.head ?? undefined, begin }),
  );
  return verdict.bad === null && verdict.trustworthyUpTo !== null ? verdict : null;
}

/** Where reading begins at a snapshot; `current`: the key (vkey) of its segment. Null when the lines are not that. */
export function beginAt(end: Pick<LogEnd, "first" | "snapshot">, current: string): Begin | null {
  const [first, line] = [readLine(end.first), readLine(end.snapshot)];
  if (!first.ok || !line.ok) return null;
  const snapshot = snapshotIn(line.record);
  const number = first.record.data["segment"];
  if (snapshot === null || typeof number !== "number") return null;
  const { seq: firstSeq, at: since } = first.record;
  const epoch = { vkey: current, segment: number, firstSeq, since };
  return { ...snapshot, prev: line.record.prev, epoch };
}

function verify(parts: RecoverParts): Promise<Verdict> {
  return asLogError(() => verifyLog(parts.read(), { vkey: parts.vkey, head: parts.head ?? undefined }));
}

async function asLogError<T>(read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (cause) {
    if (cause instanceof BoundaryError) throw cause;
    throw new BoundaryError("log-broken", "reading the log", { cause });
  }
}

function cut(parts: RecoverParts, place: { file: string; byte: number; seq: number }): string {
  try {
    return parts.cut(place);
  } catch (cause) {
    throw new BoundaryError("log-broken", `cutting the unsealed end off ${place.file}`, { cause });
  }
}
