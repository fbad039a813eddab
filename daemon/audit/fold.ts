import { foldApprovals } from "../core/approval-memory.ts";
import { GRANT_KINDS, type Grants, noGrants, takeGrant, takeUses } from "../core/grants.ts";
import { type HoldMemory, NO_HOLD_MEMORY } from "../core/held.ts";
import { HOLDS, type Hold } from "../core/hold.ts";
import { foldLimits } from "../core/limit-memory.ts";
import { MODES, type Mode } from "../core/mode.ts";
import { takePart } from "./grant-parts.ts";
import type { Data, LogRecord, Value } from "./record.ts";

/** What a log says of the daemon: the state that a start goes on from. */
export type Fold = HoldMemory & {
  /** The last recorded mode; null before the first. LOCKDOWN when the record that names it cannot be read. */
  readonly wanted: Mode | null;
  readonly epoch: number;
  /** Why loosening is frozen; "" when it is not. */
  readonly frozen: string;
  /** none: never started; clean: `daemon.stopped` is the last that happened; running: it did not stop cleanly. */
  readonly stop: "none" | "clean" | "running";
  /** RFC 3339; "" when there is no record. */
  readonly lastAt: string;
  readonly lastSeq: number;
  readonly lastBoot: string;
  /** CLOCK_MONOTONIC of the last record, nanoseconds, decimal; counts from lastBoot. "" when there is no record. */
  readonly lastMono: string;
  /** Digest of the signed baseline of watched files; "" when none was set. */
  readonly baselineDigest: string;
  readonly firedByTripwire: Readonly<Record<string, number>>;
  readonly started: number;
  /** The newest `usb.state`, as recorded; {} when there is none. core/usb-memory.ts reads it. */
  readonly usb: Data;
  /** The newest `policy.loaded`, with what was disagreed about since; {} when there is neither. policies.ts reads it. */
  readonly policies: Data;
  /** Capability tokens and leases. */
  readonly grants: Grants;
  /** The newest `limit.state`, with the blocks after it; {} when there is neither. core/limit-memory.ts reads it. */
  readonly limits: Data;
  /** What waits for a person, was approved and not used, or was denied lately. core/approval-memory.ts reads it. */
  readonly approvals: readonly Data[];
  /** The last field that could not be read, "seq 12: epoch"; "" when all could. */
  readonly unreadable: string;
};

/** More distinct names than this are counted under "other": the log may outlive many configurations. */
const MAX_TRIPWIRES = 1024;

export function emptyFold(): Fold {
  return {
    wanted: null,
    epoch: 0,
    frozen: "",
    stop: "none",
    lastAt: "",
    lastSeq: -1,
    lastBoot: "",
    lastMono: "",
    baselineDigest: "",
    firedByTripwire: {},
    started: 0,
    usb: {},
    policies: {},
    grants: noGrants(),
    limits: {},
    approvals: [],
    unreadable: "",
    ...NO_HOLD_MEMORY,
  };
}

/**
 * Takes one more record, in the order of the log. Never throws: a known field with a value that cannot be is
 * remembered as unreadable and means LOCKDOWN. Kinds it does not know change nothing but the last time.
 */
export function fold(state: Fold, record: LogRecord): Fold {
  const next = seen(state, record);
  switch (record.kind) {
    case "daemon.started":
      return withMode(
        { ...next, stop: "running", started: state.started + 1 },
        record,
        record.data["frozen"] ?? "",
      );
    case "daemon.stopped":
      return withMode({ ...next, stop: "clean" }, record, record.data["frozen"] ?? "");
    case "clock.frozen":
      return withMode(next, record, record.data["why"]);
    case "clock.cleared":
      return withMode(next, record, "");
    case "mode.changed":
    case "mode.lapsed":
      return withMode(next, record, next.frozen);
    case "hold.changed":
      return withHold(next, record);
    case "tripwire.fired":
      return withFired(withMode(next, record, next.frozen), record);
    case "baseline.set":
      return withBaseline(next, record);
    case "usb.state":
      return { ...next, usb: record.data };
    case "policy.loaded":
      return { ...next, policies: loadedPolicies(state.policies, record.data) };
    case "policy.disagreed":
      return { ...next, policies: { disputed: record.data["digest"] ?? "" } };
    case "decision":
      return withGrants(next, record, takeUses(next.grants, record.data));
    case "token.state":
      return withGrants(next, record, takePart(next.grants, record.data));
    case "limit.blocked":
    case "limit.state":
      return { ...next, limits: foldLimits(state.limits, record) };
    case "approval.requested":
    case "approval.approved":
    case "approval.denied":
    case "approval.expired":
    case "approval.used":
      return { ...next, approvals: foldApprovals(state.approvals, record) };
    default:
      return GRANT_KINDS.has(record.kind) ? withGrants(next, record, takeGrant(next.grants, record)) : next;
  }
}

/** What the log writes of itself belongs to the stop that it follows; anything else after it means it was not the end. */
const QUIET: ReadonlySet<string> = new Set([
  "seal",
  "log.alive",
  "log.snapshot",
  "log.rotated",
  "log.segment",
  "token.state",
]);

/** The boot parameter is recorded before there is a daemon: the stop before it stays what it was. */
function isQuiet({ kind, data }: LogRecord): boolean {
  return QUIET.has(kind) || (kind === "hold.changed" && data["lasts"] === "boot");
}

function seen(state: Fold, record: LogRecord): Fold {
  const stop = state.stop === "clean" && !isQuiet(record) ? "running" : state.stop;
  const { at, seq, boot, mono } = record;
  return { ...state, stop, lastAt: at, lastSeq: seq, lastBoot: boot, lastMono: mono };
}

function withMode(state: Fold, record: LogRecord, frozen: Value | undefined): Fold {
  const { wanted, epoch } = record.data;
  const mode = MODES.find((each) => each === wanted);
  if (mode === undefined) return unreadable(state, record, "wanted");
  if (typeof epoch !== "number" || epoch < 0) return unreadable(state, record, "epoch");
  if (typeof frozen !== "string") return unreadable(state, record, "frozen");
  return { ...state, wanted: mode, epoch, frozen };
}

function withHold(state: Fold, record: LogRecord): Fold {
  const { to, lasts, base } = record.data;
  const hold = holdOf(to);
  if (hold === undefined) return unreadable(state, record, "to");
  if (lasts === "always") return { ...state, hold, releasedBoot: "" };
  if (lasts !== "boot" || hold !== "released") return unreadable(state, record, "lasts");
  const beneath = base === undefined ? state.hold : holdOf(base);
  if (beneath === undefined) return unreadable(state, record, "base");
  return { ...state, hold: beneath, parameterBoot: record.boot, releasedBoot: record.boot };
}

function holdOf(value: Value | undefined): Hold | undefined {
  return HOLDS.find((each) => each === value);
}

function withFired(state: Fold, record: LogRecord): Fold {
  const name = record.data["tripwire"];
  if (typeof name !== "string") return unreadable(state, record, "tripwire");
  const counts = state.firedByTripwire;
  const known = Object.hasOwn(counts, name);
  const key = known || Object.keys(counts).length < MAX_TRIPWIRES ? name : "other";
  const before = Object.hasOwn(counts, key) ? (counts[key] ?? 0) : 0;
  return { ...state, firedByTripwire: { ...counts, [key]: before + 1 } };
}

function withBaseline(state: Fold, record: LogRecord): Fold {
  const digest = record.data["digest"];
  return typeof digest === "string"
    ? { ...state, baselineDigest: digest }
    : unreadable(state, record, "digest");
}

function withGrants(state: Fold, record: LogRecord, grants: Grants | string): Fold {
  if (typeof grants === "string") return unreadable(state, record, grants);
  return grants === state.grants ? state : { ...state, grants };
}

/** What was disagreed about stays so as long as it is what is loaded. */
function loadedPolicies({ disputed }: Data, loaded: Data): Data {
  return disputed !== undefined && disputed === loaded["digest"] ? { ...loaded, disputed } : loaded;
}

function unreadable(state: Fold, record: LogRecord, field: string): Fold {
  const held = { hold: "enforcing", releasedBoot: "" } as const;
  return { ...state, ...held, wanted: "LOCKDOWN", unreadable: `seq ${record.seq}: ${field}` };
}
