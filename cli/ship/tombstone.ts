import { verifyNote } from "../../daemon/audit/checkpoint.ts";
import { readLine } from "../../daemon/audit/line.ts";
import { append, copyFrontier, type Frontier, leafHash, root } from "../../daemon/audit/merkle.ts";
import type { LogRecord } from "../../daemon/audit/record.ts";
import { checkSeal } from "../../daemon/audit/seal.ts";
import { parseStrictJson } from "../../daemon/core/json.ts";
import { type KnownKey, type Position, readKnownKey } from "./follow.ts";

const MAX_DEPTH = 4;

/**
 * Goes past what is left of a pruned segment, as docs/LOG_FORMAT.md says: from the position before it to the one after
 * it. A text when it is not good: why.
 */
export function passTombstone(before: Position, bytes: Buffer): Position | string {
  const [head = "", rotatedText = "", sealText = "", ...rest] = bytes.toString("utf8").split("\n");
  if (rest.length !== 1 || rest[0] !== "") return "it does not have three lines";
  const isFirst = before.frontier.size === 0;
  const [key, segment] = isFirst ? [before.key, 0] : [before.next, before.segment + 1];
  if (key === null) return "no key is known for it";
  const frontier = readHead(head, before.frontier.size, segment);
  if (frontier === null) return "its first line is not what it has to be";
  const rotated = readRecord(rotatedText, frontier.size, "log.rotated");
  const next = rotated === null ? null : readKnownKey(rotated.data["key"], key.verifier.name);
  if (rotated === null || next === null || rotated.data["segment"] !== segment + 1)
    return "no log.rotated in it";
  append(frontier, leafHash(Buffer.from(rotatedText)));
  const seal = readRecord(sealText, frontier.size, "seal");
  if (seal === null || seal.prev !== leafHash(Buffer.from(rotatedText)))
    return "no seal after its log.rotated";
  const wrong = checkSigned(seal, rotated, frontier, key);
  if (wrong !== null) return wrong;
  const prev = leafHash(Buffer.from(sealText));
  append(frontier, prev);
  return { frontier, prev, last: seal, key, segment, next, file: "", byte: 0 };
}

function checkSigned(seal: LogRecord, rotated: LogRecord, frontier: Frontier, key: KnownKey): string | null {
  const form = checkSeal(seal, rotated, root(frontier), key.verifier);
  if (!form.ok) return form.what;
  return verifyNote(key.verifier, form.note).ok ? null : "its seal's signature is wrong";
}

/** The frontier in a first line that is as it has to be. */
function readHead(text: string, first: number, segment: number): Frontier | null {
  const parsed = parseStrictJson(text, { maxDepth: MAX_DEPTH });
  if (!parsed.ok || typeof parsed.value !== "object" || parsed.value === null) return null;
  const { frontier: hashes, size } = parsed.value as Readonly<Record<string, unknown>>;
  if (!isHashes(hashes) || typeof size !== "number" || !Number.isSafeInteger(size) || size < first)
    return null;
  // one way to write it: rendering what was read has to give the same text
  if (JSON.stringify({ first, frontier: hashes, segment, size, v: 1 }) !== text) return null;
  return hashes.length === bitsSet(size) ? copyFrontier({ size, subtrees: [...hashes] }) : null;
}

function isHashes(value: unknown): value is readonly string[] {
  return (
    Array.isArray(value) && value.every((each) => typeof each === "string" && /^[0-9a-f]{64}$/.test(each))
  );
}

function bitsSet(size: number): number {
  return size.toString(2).replaceAll("0", "").length;
}

function readRecord(text: string, seq: number, kind: string): LogRecord | null {
  const read = readLine(text);
  return read.ok && read.record.seq === seq && read.record.kind === kind ? read.record : null;
}
