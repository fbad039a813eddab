import type { Data, LogRecord } from "../audit/record.ts";
import { elapsedMs, type Moment } from "./elapsed.ts";
import { AGE_GROUPS, type Blocked, type Carried, LIMIT_KINDS, type Limits } from "./limit.ts";
import { isCount, readList } from "./record-value.ts";

/**
 * What the log says of limits. The fold keeps the newest `limit.state` as it is, with the `limit.blocked` after it; what
 * is over by now is told when it is read. docs/LOG_FORMAT.md has the fold.
 */
export type LimitMemory = {
  readonly blocks: readonly (Moment & { readonly blocked: Blocked })[];
  /** What was counted when the newest state was recorded; null when there is none. */
  readonly counts: { readonly at: Moment; readonly keys: readonly Carried[] } | null;
};

/** A record is at most 64 KiB, and so is a snapshot, which holds more than this. */
export const MAX_KEPT = 48;

/** The data of `limit.blocked`. `until` is for people; what counts is `blockMs` from then on. */
export function blockedData({ kind, name, leftMs }: Blocked, now: Moment): Data {
  const until = new Date(now.wallMs + leftMs).toISOString();
  return { kind, name, blockMs: Math.ceil(leftMs), until, ...whole(now) };
}

/** The data of `limit.state`: all that a start goes on from. */
export function stateData(limits: Pick<Limits, "blocked" | "carried">, now: Moment): Data {
  return {
    ...whole(now),
    blocks: limits.blocked(MAX_KEPT, now.monoMs).map((one) => blockedData(one, now)),
    keys: limits.carried(MAX_KEPT, now.monoMs).map((one) => ({ ...one })),
  };
}

/** Takes `limit.state` or `limit.blocked`: no more than is told in docs/LOG_FORMAT.md, for other verifiers do the same. */
export function foldLimits(limits: Data, { kind, data }: LogRecord): Data {
  if (kind === "limit.state") return data;
  const { blocks } = limits;
  return { ...limits, blocks: [...(Array.isArray(blocks) ? blocks : []), data].slice(-MAX_KEPT) };
}

/** What the fold holds; null when it cannot be read. */
export function readLimits(limits: Data): LimitMemory | null {
  const blocks = limits["blocks"] === undefined ? [] : readList(limits["blocks"], readBlock);
  if (blocks === null) return null;
  if (limits["keys"] === undefined) return { blocks, counts: null };
  const keys = readList(limits["keys"], readCarried);
  const at = readMoment(limits);
  return keys === null || at === null ? null : { blocks, counts: { at, keys } };
}

/** Goes on with what the log says: blocks for what is left of them, counts as old as they are by now. */
export function restoreLimits(limits: Limits, { blocks, counts }: LimitMemory, now: Moment): void {
  for (const key of counts?.keys ?? []) if (counts) limits.carry(key, elapsedMs(counts.at, now), now.monoMs);
  for (const { blocked, ...at } of blocks)
    limits.block({ ...blocked, leftMs: blocked.leftMs - elapsedMs(at, now) }, now.monoMs);
}

/** Rounded up: nothing is older than it is. */
function whole({ wallMs, monoMs, boot }: Moment): Moment {
  return { wallMs, monoMs: Math.ceil(monoMs), boot };
}

function readBlock(data: Data): LimitMemory["blocks"][number] | null {
  const { kind, name, blockMs } = data;
  const moment = readMoment(data);
  const known = LIMIT_KINDS.find((each) => each === kind);
  if (known === undefined || typeof name !== "string" || !isCount(blockMs) || moment === null) return null;
  return { ...moment, blocked: { kind: known, name, leftMs: blockMs } };
}

function readCarried({ kind, name, windowMs, counts }: Data): Carried | null {
  const known = LIMIT_KINDS.find((each) => each === kind);
  if (known === undefined || typeof name !== "string" || !isCount(windowMs) || windowMs === 0) return null;
  if (!Array.isArray(counts) || counts.length > AGE_GROUPS + 1) return null;
  const numbers = counts.filter(isCount);
  return numbers.length === counts.length ? { kind: known, name, windowMs, counts: numbers } : null;
}

/** What a record says of its own time. */
export function readMoment({ wallMs, monoMs, boot }: Data): Moment | null {
  return isCount(wallMs) && isCount(monoMs) && typeof boot === "string" ? { wallMs, monoMs, boot } : null;
}
