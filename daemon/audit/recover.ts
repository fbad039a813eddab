import { BoundaryError } from "../core/errors.ts";
import type { Fold } from "./fold.ts";
import { emptyTail, type Tail } from "./log.ts";
import type { Chunk } from "./split.ts";
import type { Bad, Verdict } from "./verdict.ts";
import { verifyLog } from "./verify.ts";

/** What a start finds. `file` is the segment to go on in. */
export type Recovery =
  /** No log, and no head that remembers one. */
  | { readonly kind: "none" }
  | {
      readonly kind: "sound";
      readonly file: string;
      readonly tail: Tail;
      readonly endByte: number;
      readonly fold: Fold;
      readonly verdict: Verdict;
    }
  /** A crash left unsealed bytes: they are cut off and kept in `savedAs`. The log goes on at the last seal. */
  | {
      readonly kind: "recovered";
      readonly file: string;
      readonly tail: Tail;
      readonly endByte: number;
      readonly fold: Fold;
      readonly verdict: Verdict;
      readonly savedAs: string;
    }
  | { readonly kind: "broken"; readonly bad: Bad; readonly verdict: Verdict };

export type RecoverParts = {
  /** The log's bytes, as adapters/log-file.ts reads them. */
  readonly read: () => AsyncIterable<Chunk>;
  /** Cuts a file at a byte and keeps what was cut; returns where. */
  readonly cut: (place: { readonly file: string; readonly byte: number; readonly seq: number }) => string;
  readonly vkey: string;
  /** The remembered signed note; null when none was ever remembered (an unreadable one is the caller's to refuse). */
  readonly head: string | null;
};

/**
 * Verifies the log with our own key and the remembered head, and makes it ready to go on. Whatever is wrong with it
 * is "broken" and nothing is touched. Throws BoundaryError("log-broken") when it cannot be read or cut, and
 * ("head-invalid") when the head is not one.
 */
export async function recoverLog(parts: RecoverParts): Promise<Recovery> {
  const verdict = await verify(parts);
  const { bad, trustworthyUpTo: proven, unsealed } = verdict;
  if (bad)
    return bad.code === "log-empty" && parts.head === null
      ? { kind: "none" }
      : { kind: "broken", bad, verdict };
  const { tail, endByte, file } = proven ?? {
    tail: emptyTail(),
    endByte: 0,
    file: unsealed.from?.file ?? "",
  };
  const found = { file, tail, endByte, fold: verdict.state, verdict };
  if (verdict.verdict === "sound") return { kind: "sound", ...found };
  const savedAs = cut(parts, { file, byte: endByte, seq: tail.size });
  return { kind: "recovered", ...found, savedAs };
}

async function verify(parts: RecoverParts): Promise<Verdict> {
  try {
    return await verifyLog(parts.read(), { vkey: parts.vkey, head: parts.head ?? undefined });
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
