import type { Data, LogRecord, Value } from "../audit/record.ts";
import { elapsedMs, type Moment } from "./elapsed.ts";
import { AGE_GROUPS, type Carried, LIMIT_KINDS, type LimitKind, type Limits } from "./limit.ts";
import { isCount, isData, readList } from "./record-value.ts";

/** What the log says of limits: blocks under way, and the newest counts. The fold holds it as it is. */
export type LimitMemory = {
  readonly blocks: readonly Block[];
  /** Of the newest `limit.state`, or null. */
  readonly counts: (Moment & { readonly keys: readonly Carried[] }) | null;
};
type Block = Moment & { readonly kind: LimitKind; readonly name: string; readonly blockMs: number };

export const NO_LIMITS: LimitMemory = { blocks: [], counts: null };

/** A record is at most 64 KiB, and so is a snapshot, which holds more than this. */
export const MAX_CARRIED = 48;
const MAX_BLOCKS = 48;

/** The data of `limit.blocked`. `until` is for people; what counts is `blockMs` from the record's own time on. */
export function blockedData(kind: LimitKind, name: string, blockMs: number, wallMs: number): Data {
  return { kind, name, blockMs, until: new Date(wallMs + blockMs).toISOString() };
}

/** The data of `limit.state`. */
export function stateData(keys: readonly Carried[]): Data {
  return { keys: keys.slice(0, MAX_CARRIED).map((one) => ({ ...one })) };
}

/** Takes `limit.blocked` or `limit.state`; null when it cannot be read. */
export function foldLimits(memory: LimitMemory, record: LogRecord): LimitMemory | null {
  const now = momentOf(record);
  if (record.kind === "limit.state") {
    const keys = readList(record.data["keys"], readCarried);
    return keys === null ? null : { ...memory, counts: { ...now, keys } };
  }
  const { kind, name, blockMs } = record.data;
  const known = LIMIT_KINDS.find((each) => each === kind);
  if (known === undefined || typeof name !== "string" || !isCount(blockMs)) return null;
  const others = memory.blocks.filter(
    (one) => leftOf(one, now) > 0 && !(one.kind === kind && one.name === name),
  );
  const blocks = [...others, { kind: known, name, blockMs, ...now }];
  return { ...memory, blocks: blocks.length <= MAX_BLOCKS ? blocks : withoutShortest(blocks, now) };
}

/** Goes on with what the log says: blocks for what is left of them, counts as old as they are by now. */
export function restoreLimits(limits: Limits, memory: LimitMemory, now: Moment): void {
  for (const key of memory.counts?.keys ?? [])
    if (memory.counts) limits.carry(key, elapsedMs(memory.counts, now), now.monoMs);
  for (const one of memory.blocks)
    limits.block(one.kind, one.name, now.monoMs + leftOf(one, now), now.monoMs);
}

/** As a snapshot holds it. */
export function renderLimits({ blocks, counts }: LimitMemory): Data {
  const held = blocks.map((one) => ({ ...one }));
  return counts === null
    ? { blocks: held }
    : { blocks: held, counts: { ...counts, ...stateData(counts.keys) } };
}

/** What a snapshot holds; null when it cannot be read. */
export function readLimits(value: Value | undefined): LimitMemory | null {
  if (!isData(value)) return null;
  const blocks = readList(value["blocks"], readBlock);
  const { counts } = value;
  if (blocks === null) return null;
  if (counts === undefined) return { blocks, counts: null };
  const moment = isData(counts) ? readMoment(counts) : null;
  const keys = isData(counts) ? readList(counts["keys"], readCarried) : null;
  return moment === null || keys === null ? null : { blocks, counts: { ...moment, keys } };
}

/** When a record was made, in whole milliseconds. */
export function momentOf({ at, mono, boot }: Pick<LogRecord, "at" | "mono" | "boot">): Moment {
  return { wallMs: Date.parse(at), monoMs: Math.floor(Number(mono) / 1e6), boot };
}

function leftOf(block: Block, now: Moment): number {
  return block.blockMs - elapsedMs(block, now);
}

function withoutShortest(blocks: readonly Block[], now: Moment): readonly Block[] {
  const shortest = blocks.toSorted((a, b) => leftOf(a, now) - leftOf(b, now))[0];
  return blocks.filter((one) => one !== shortest);
}

function readBlock(data: Data): Block | null {
  const { kind, name, blockMs } = data;
  const moment = readMoment(data);
  const known = LIMIT_KINDS.find((each) => each === kind);
  if (known === undefined || typeof name !== "string" || !isCount(blockMs) || moment === null) return null;
  return { kind: known, name, blockMs, ...moment };
}

function readCarried(data: Data): Carried | null {
  const { kind, name, windowMs, counts } = data;
  const known = LIMIT_KINDS.find((each) => each === kind);
  if (known === undefined || typeof name !== "string" || !isCount(windowMs) || windowMs === 0) return null;
  if (!Array.isArray(counts) || counts.length > AGE_GROUPS + 1) return null;
  const numbers = (counts as readonly Value[]).filter(isCount);
  return numbers.length === counts.length ? { kind: known, name, windowMs, counts: numbers } : null;
}

function readMoment({ wallMs, monoMs, boot }: Data): Moment | null {
  return isCount(wallMs) && isCount(monoMs) && typeof boot === "string" ? { wallMs, monoMs, boot } : null;
}
