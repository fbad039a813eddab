import type { Data, Entry } from "../audit/record.ts";
import type { Room } from "./disk.ts";
import type { ErrorCode } from "./errors.ts";
import type { Flow } from "./flow.ts";
import { ENFORCING, type Held, type Holding, lasting } from "./held.ts";
import type { Hold } from "./hold.ts";
import type { Mode } from "./mode.ts";

/**
 * The mode machine. `step` decides and changes nothing outside its return value; daemon.ts does what it says.
 *
 * Two rules carry the rest. A tightening takes effect at once (`Step.enforce`), beside its record. A loosening is only a
 * promise (`state.loosening`) until its record is durable, and lapses if anything tightened or tripped meanwhile:
 * every trip and every tightening bumps `epoch`, also a trip that asks for no more than the present mode.
 */
export type State = {
  readonly wanted: Mode;
  /** What the kernel confirmed by read-back; null while nothing is confirmed. */
  readonly applied: Mode | null;
  /** How the newest confirmation was given: "observed" while nothing of ours isolates. null with `applied`. */
  readonly how: "kernel" | "observed" | null;
  /** How firmly the mode is held. A trip moves the mode and never this. */
  readonly held: Held;
  /** The hold that the next boot begins with. Another than `held` only where that one lasts for a boot. */
  readonly base: Hold;
  /** The one connection that passes whatever the mode says; null for none. Every trip and every change of the mode ends it. */
  readonly keep: Flow | null;
  readonly epoch: number;
  readonly cause: Cause;
  /** Set while loosening is frozen because the clock moved. */
  readonly frozen: { readonly why: string; readonly sinceMs: number } | null;
  /** The number of the newest order given to the kernel; an answer to an older one says nothing. */
  readonly attempt: number;
  readonly failure: Failure | null;
  /** How many loosenings were promised: the newest one's number. Never used twice, so a late answer cannot meet another. */
  readonly promised: number;
  readonly loosening: Loosening | null;
  readonly ceremony: Ceremony | null;
  /** While the log's disk is nearly full nothing loosens: its record would take the room that a fall needs. */
  readonly room: Room;
  /** A timed entry ends here: by tightening at once, or by loosening like any other (logged first, never while frozen). */
  readonly deadline: Deadline | null;
  /** Enforcing on trial: it ends here, by loosening like any other, unless it is confirmed. A trip ends the trial, not the hold. */
  readonly trial: { readonly atMs: number; readonly to: Holding } | null;
};

export type Deadline = {
  readonly atMs: number;
  readonly to: Mode;
  /** Whether a person may say that the mode is to stay: confirm-or-revert. */
  readonly confirmable: boolean;
  /** The flow that is kept again after a way back that loosens. One that tightens keeps none. */
  readonly keep: Flow | null;
};

export type Cause = {
  readonly kind:
    | "initial"
    | "resumed"
    | "crash"
    | "tampered"
    | "unreadable"
    | "person"
    | "tripwire"
    | "ceremony"
    | "deadline";
  readonly why: string;
};

export type Failure = { readonly why: string; readonly count: number; readonly retryAtMs: number };

/** A loosening on its way to the log. `epoch` is the one it was decided in. */
export type Loosening = {
  readonly number: number;
  /** Who waits for the answer; null for a loosening of the machine's own (a deadline). */
  readonly request: number | null;
  readonly epoch: number;
  readonly change:
    | {
        readonly kind: "mode";
        readonly to: Mode;
        readonly cause: Cause;
        readonly deadline: Deadline | null;
        readonly keep: Flow | null;
      }
    | { readonly kind: "hold"; readonly to: Holding }
    | { readonly kind: "unfreeze" };
};

/** What a ceremony ends in: RESTRICTED instead of LOCKDOWN, or the hold "released". */
export const CEREMONY_PURPOSES = ["leave-lockdown", "release"] as const;

export type CeremonyPurpose = (typeof CEREMONY_PURPOSES)[number];

export type Ceremony = {
  readonly id: string;
  readonly purpose: CeremonyPurpose;
  readonly by: Person;
  readonly epoch: number;
  /** SHA-256 of the one-time code, hex. */
  readonly codeDigest: string;
  readonly readyAtMs: number;
  readonly expiresAtMs: number;
  readonly wrongCodes: number;
};

/** Who asks, as the kernel says. */
export type Person = { readonly uid: number; readonly name: string; readonly terminal: string };

export type Settings = {
  readonly coolDownMs: number;
  readonly ceremonyLifeMs: number;
  readonly people: 1 | 2;
  readonly requireTerminal: boolean;
};

export type Input =
  | {
      readonly kind: "trip";
      readonly tripwire: string;
      readonly to: Mode;
      readonly why: string;
      readonly facts: Data;
    }
  | {
      readonly kind: "set-mode";
      readonly request: number;
      readonly to: Mode;
      readonly by: Person;
      readonly reason: string;
      readonly forMs: number | null;
      /** Back to where it was after this time, unless confirmed. Not together with `forMs`. */
      readonly confirmMs: number | null;
      /** The flow to keep, which exists. `passes`: the present mode lets it through, so that keeping it opens nothing. */
      readonly keep: { readonly flow: Flow; readonly passes: boolean } | null;
    }
  /** What a start opens: recorded first, and lapses, like every loosening. A frozen clock does not hinder whoever stands at the console. */
  | { readonly kind: "take-up"; readonly to: Holding; readonly by: string; readonly why: string }
  /** What waits for a confirmation stays: a mode, or the hold on trial. */
  | { readonly kind: "confirm"; readonly request: number; readonly by: Person }
  | {
      readonly kind: "enforce";
      readonly request: number;
      readonly by: Person;
      readonly reason: string;
      readonly confirmMs: number | null;
    }
  /** The flow that is kept has ended. */
  | { readonly kind: "flow-ended"; readonly flow: Flow }
  | {
      readonly kind: "ceremony-begin";
      readonly request: number;
      readonly purpose: CeremonyPurpose;
      readonly id: string;
      readonly codeDigest: string;
      readonly by: Person;
      readonly reason: string;
    }
  | {
      readonly kind: "ceremony-confirm";
      readonly request: number;
      readonly codeDigest: string;
      readonly by: Person;
    }
  | { readonly kind: "ceremony-cancel"; readonly request: number; readonly by: Person }
  | { readonly kind: "freeze"; readonly why: string }
  /** -1: the file system does not say. */
  | { readonly kind: "room"; readonly room: Room; readonly freeBytes: number }
  | { readonly kind: "unfreeze"; readonly request: number; readonly by: Person; readonly reason: string }
  | { readonly kind: "logged"; readonly loosening: number }
  | { readonly kind: "log-failed"; readonly loosening: number }
  /** how: "kernel" when read back from it, "observed" in log-only form. */
  | {
      readonly kind: "enforced";
      readonly attempt: number;
      readonly mode: Mode;
      readonly how: "kernel" | "observed";
    }
  | { readonly kind: "enforce-failed"; readonly attempt: number; readonly why: string }
  /** The kernel no longer holds what it confirmed (somebody changed our table). */
  | { readonly kind: "unconfirmed"; readonly why: string }
  | { readonly kind: "tick" }
  /** A clean stop: what was on its way lapses, a timed loosening ends now. */
  | { readonly kind: "stop"; readonly why: string };

export type Answer =
  | { readonly kind: "done"; readonly changed: boolean }
  | { readonly kind: "begun"; readonly ceremony: Ceremony }
  | { readonly kind: "refused"; readonly code: ErrorCode; readonly why: string };

export type Order = {
  readonly mode: Mode;
  readonly attempt: number;
  readonly hold: Hold;
  readonly keep: Flow | null;
};

export type Step = {
  readonly state: State;
  /** To append, in this order. */
  readonly records: readonly Entry[];
  /** The order to give to the kernel at once, beside the records. */
  readonly enforce: Order | null;
  /** When set: feed `logged` with this loosening's number once the records are durable, `log-failed` if they are not. */
  readonly awaits: number | null;
  readonly answers: readonly { readonly request: number; readonly answer: Answer }[];
  /** True when a trip changed nothing that a record has to tell: its repeats may be counted instead. */
  readonly repeat: boolean;
};

/** The state a daemon starts in. Nothing is applied before the kernel has confirmed it. */
export function initialState(
  wanted: Mode,
  epoch: number,
  cause: Cause,
  { held, base }: Holding = lasting(ENFORCING),
): State {
  return {
    wanted,
    applied: null,
    how: null,
    held,
    base,
    keep: null,
    epoch,
    cause,
    frozen: null,
    attempt: 0,
    failure: null,
    promised: 0,
    loosening: null,
    ceremony: null,
    deadline: null,
    trial: null,
    room: "ok",
  };
}
