/**
 * The log's record. Rules of change: fields are only added; `v` goes up when a reader of the old form would be
 * misled; values are strings, safe integers, arrays and objects (no floats, no booleans, no null); a kind is never
 * given a new meaning. One record is one line of canonical JSON (RFC 8785) of at most 65,535 bytes, "\n" after it.
 */
export type Value = string | number | readonly Value[] | { readonly [key: string]: Value };
export type Data = { readonly [key: string]: Value };

export const RECORD_VERSION = 1;
export const MAX_RECORD_BYTES = 65_535;

/** Every kind the daemon writes. A verifier accepts kinds it does not know; a fold ignores them. */
export const RECORD_KINDS = [
  "log.genesis",
  "log.recovered",
  /** The log's disk is nearly full, or has room again. */
  "log.low",
  "log.room",
  /** Nothing happened: written so that an empty period has seals, and a missing seal is visible. Data is empty. */
  "log.alive",
  /** The next segment's key, certified by the seal that follows. docs/LOG_FORMAT.md has these three. */
  "log.rotated",
  "log.segment",
  "log.snapshot",
  "log.pruned",
  "seal",
  "daemon.started",
  "daemon.stopped",
  "gap",
  "mode.changed",
  "mode.lapsed",
  /** A person said that a mode, or the hold, that would have gone back stays. */
  "mode.confirmed",
  "mode.applied",
  "mode.apply-failed",
  /** How firmly the mode is held: enforcing, shadow, released. */
  "hold.changed",
  "tripwire.fired",
  "tripwire.noted",
  "tripwire.repeated",
  "sensor.blind",
  "sensor.restored",
  "clock.frozen",
  "clock.cleared",
  "ceremony.begun",
  "ceremony.refused",
  "ceremony.cancelled",
  "baseline.set",
  "selftest.done",
  /** What was decided about a device, before it is let in; what the kernel confirmed; what it did not take. */
  "usb.decided",
  "usb.applied",
  "usb.apply-failed",
  /** In shadow: what would have been refused. */
  "usb.would-block",
  "usb.repeated",
  "usb.detached",
  /** A person allowed, blocked or rejected a device; and the permanent rules have become others. */
  "usb.granted",
  "usb.challenged",
  "usb.rules",
  /** USB is switched off, and what an earlier run closed is opened. */
  "usb.opened",
  /** The domains' table: loaded (or taken away), and what the kernel did not take. */
  "isolation.applied",
  "isolation.failed",
  /** What is plugged in and granted: the fold keeps the newest one. */
  "usb.state",
  /** Names and fingerprints, never values. docs/SECRETS.md. */
  "secret.put",
  "secret.rotated",
  "secret.revoked",
  "secret.exported",
  /** A guarded command: before the worker is told, and when it has ended. docs/EXEC.md. */
  "exec.started",
  "exec.ended",
  "vault.unlocked",
  /** A passphrase was wrong, or not there. */
  "vault.refused",
  "vault.locked",
  "vault.rewrapped",
  /** Capability tokens: their digests, never their texts. docs/TOKENS.md has these and the leases. */
  "token.minted",
  "token.narrowed",
  "token.revoked",
  /** A verb was used with a token whose uses are counted; an answer to `check` counts in its `decision`. */
  "token.used",
  "token.expiring",
  /** What a snapshot says there is, in the records right after it. */
  "token.state",
  "lease.requested",
  "lease.granted",
  "lease.denied",
  "lease.revoked",
  "lease.ended",
  /** The mode has become stricter than the lease allows, or is not any more. */
  "lease.suspended",
  "lease.resumed",
  "decision",
  /** The same denial again, counted: `first` is the number of the record that stands for it. */
  "decision.repeated",
  /** Policies were taken up; a bad set was not; the compiled ones and Cedar differ; Cedar takes no such question. */
  "policy.loaded",
  "policy.refused",
  "policy.disagreed",
  "policy.untaken",
  /** Cedar's own answers cannot be had for comparison; and they can be had again. */
  "policy.unjudged",
  "policy.judged",
  "request.refused",
  /** A caller gets nothing for a time; and what is counted, so that a restart does not forget it. docs/LIMITS.md. */
  "limit.blocked",
  "limit.state",
  /** Where a guarded command connected to, and could not; what came of it. docs/EGRESS.md. */
  "egress.opened",
  "egress.refused",
  "egress.repeated",
  "egress.closed",
  /** docs/APPROVALS.md. */
  "approval.requested",
  "approval.approved",
  "approval.denied",
  "approval.expired",
  "approval.used",
  /** A new audit stream begins: its key, and why. docs/LOG_FORMAT.md, "The audit stream", has these three. */
  "audit.began",
  "audit.core",
  "audit.span",
] as const;

export type RecordKind = (typeof RECORD_KINDS)[number];

export type LogRecord = {
  readonly v: number;
  /** 0 for the first line of the log; one more each line, over all segments. */
  readonly seq: number;
  /** RFC 3339, UTC, milliseconds. */
  readonly at: string;
  /** CLOCK_MONOTONIC in nanoseconds, decimal. */
  readonly mono: string;
  /** Kernel boot id. */
  readonly boot: string;
  readonly kind: string;
  readonly data: Data;
  /** RFC 6962 leaf hash, SHA-256(0x00 ‖ line), hex, of the line before; 64 zeros for the first. */
  readonly prev: string;
};

/** What the rest of the daemon hands to the log: it numbers, times, chains and seals. */
export type Entry = { readonly kind: RecordKind; readonly data: Data };

export const FIRST_PREV = "0".repeat(64);
