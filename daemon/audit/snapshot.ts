import { noGrants } from "../core/grants.ts";
import { NO_HOLD_MEMORY } from "../core/held.ts";
import { HOLDS } from "../core/hold.ts";
import { MODES } from "../core/mode.ts";
import { emptyFold, type Fold } from "./fold.ts";
import { grantsSummary, readGrantsSummary } from "./grant-parts.ts";
import { readLine } from "./line.ts";
import { type Frontier, isFrontier } from "./merkle.ts";
import type { Data, LogRecord, Value } from "./record.ts";

/**
 * What a start needs of the log before a record, in order not to read it: the fold and the frontier of all lines before
 * the record that holds them. docs/LOG_FORMAT.md, "Snapshots".
 */
export type Snapshot = { readonly fold: Fold; readonly frontier: Frontier };

/**
 * As it stands in a record. Without `usb` where there is none: so older logs, which know nothing of it, stay what they are.
 * Of tokens and leases it says how many there are; the records right after it (audit/grant-parts.ts) have them.
 */
export function renderSnapshot(snapshot: Snapshot): Data {
  const { fold, frontier } = snapshot;
  return { fold: renderFold(fold), frontier: frontier.subtrees };
}

/** What is as in a log that knows no hold and no USB is left out: such a log's snapshots are what they always were. */
function renderFold(fold: Fold): Data {
  const { hold, parameterBoot, releasedBoot, usb, policies, grants, limits, approvals, ...rest } = fold;
  const summary = grantsSummary(grants);
  return {
    ...rest,
    wanted: fold.wanted ?? "",
    ...(hold === NO_HOLD_MEMORY.hold ? {} : { hold }),
    ...(parameterBoot === "" ? {} : { parameterBoot }),
    ...(releasedBoot === "" ? {} : { releasedBoot }),
    ...(Object.keys(usb).length === 0 ? {} : { usb }),
    ...(Object.keys(policies).length === 0 ? {} : { policies }),
    ...(summary === null ? {} : { grants: summary }),
    ...(Object.keys(limits).length === 0 ? {} : { limits }),
    ...(approvals.length === 0 ? {} : { approvals }),
  };
}

/** The snapshot that a `log.snapshot` or `log.segment` record holds; null when it holds none, or none that can be read. */
export function snapshotIn(record: LogRecord): Snapshot | null {
  const data = record.kind === "log.segment" ? record.data["snapshot"] : record.data;
  if (record.kind !== "log.segment" && record.kind !== "log.snapshot") return null;
  if (!isData(data)) return null;
  if (Object.keys(data).length !== 2) return null;
  const fold = readFold(data["fold"]);
  const subtrees = data["frontier"];
  if (fold === null || !Array.isArray(subtrees) || !subtrees.every((each) => typeof each === "string"))
    return null;
  const frontier = { size: record.seq, subtrees: [...subtrees] };
  return isFrontier(frontier) ? { fold, frontier } : null;
}

/** Whether a line is a record that holds a snapshot. */
export function isSnapshotLine(line: string): boolean {
  const read = readLine(line);
  return read.ok && snapshotIn(read.record) !== null;
}

function readFold(value: Value | undefined): Fold | null {
  if (!isData(value)) return null;
  const { wanted, epoch, frozen, stop, lastAt, lastSeq, lastBoot, lastMono } = value;
  const { baselineDigest, firedByTripwire, started, unreadable } = value;
  const mode = wanted === "" ? null : MODES.find((each) => each === wanted);
  const known = STOPS.find((each) => each === stop);
  if (mode === undefined || known === undefined || !areTexts(frozen, lastAt, lastBoot, lastMono)) return null;
  if (!areTexts(baselineDigest, unreadable) || !areNumbers(epoch, lastSeq, started)) return null;
  if (!isData(firedByTripwire) || !areNumbers(...Object.values(firedByTripwire))) return null;
  const grants = value["grants"] === undefined ? noGrants() : readGrantsSummary(value["grants"]);
  if (grants === null) return null;
  const held = { ...NO_HOLD_MEMORY, usb: {}, policies: {}, limits: {}, approvals: [] as Value, ...value };
  if (!isData(held.usb) || !isData(held.policies) || !isData(held.limits)) return null;
  if (!Array.isArray(held.approvals) || !held.approvals.every(isData)) return null;
  if (!areTexts(held.parameterBoot, held.releasedBoot) || !HOLDS.some((each) => each === held.hold))
    return null;
  const fold = { ...(held as unknown as Omit<Fold, "wanted" | "grants">), wanted: mode, grants };
  // a field of no meaning, or one that is left out where it says nothing
  return Object.keys(renderFold(fold)).length === Object.keys(value).length && areFields(fold) ? fold : null;
}

function areFields(fold: Fold): boolean {
  return Object.keys(fold).length === FIELDS;
}

const FIELDS = Object.keys(emptyFold()).length;
const STOPS = ["none", "clean", "running"] as const;

function isData(value: Value | undefined): value is Data {
  return typeof value === "object" && !Array.isArray(value);
}

function areTexts(...values: readonly (Value | undefined)[]): boolean {
  return values.every((each) => typeof each === "string");
}

function areNumbers(...values: readonly (Value | undefined)[]): boolean {
  return values.every((each) => typeof each === "number");
}
