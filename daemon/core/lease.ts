import { isStricter, MODES, type Mode } from "./mode.ts";
import type { Maker } from "./token.ts";

/** An exception that may be asked for: the configuration's `leases`. What it means is for policy to say. */
export type LeaseTemplate = {
  readonly name: string;
  readonly actions: readonly string[] | "all";
  readonly resources: readonly { readonly type: string; readonly id: string }[] | "all";
  /** The strictest mode that it works in; never LOCKDOWN. */
  readonly maxMode: Mode;
  /** The longest it is given for, from the approval on. */
  readonly maxMs: number;
  /** How many allowed answers; null: as many as you like. */
  readonly maxUses: number | null;
  readonly needs: "person" | "policy";
};

/** One that was asked for, as the log knows it. */
export type Lease = {
  /** 16 hex digits. */
  readonly id: string;
  readonly template: string;
  /** Who asked, and the only one for whom it works. */
  readonly by: Maker;
  readonly reason: string;
  readonly forMs: number;
  readonly maxMode: Mode;
  readonly askedAtMs: number;
  readonly state: LeaseState;
  /** Its approval: by CLOCK_REALTIME and, within `boot`, CLOCK_MONOTONIC, both ms. null before. */
  readonly start: { readonly wallMs: number; readonly monoMs: number; readonly boot: string } | null;
  /** How many are left; null: as many as you like. */
  readonly uses: number | null;
  /** As was recorded last: whether it works is asked of the mode each time. */
  readonly suspended: boolean;
  /** CLOCK_REALTIME, ms: denied, revoked or over; null before. */
  readonly endedAtMs: number | null;
};

export const LEASE_STATES = ["pending", "granted", "denied", "revoked", "over"] as const;
export type LeaseState = (typeof LEASE_STATES)[number];

/** How many the log knows, how many of them wait for an answer, and how many one caller has that are not over. */
export const LEASE_BOUNDS = { leases: 256, pending: 64, openEach: 8 } as const;

/** What was not answered for so long is not asked any more. */
export const PENDING_LIFE_MS = 3_600_000;

/** CLOCK_REALTIME and CLOCK_MONOTONIC, ms, and the boot that the latter counts in. */
export type Moment = { readonly wallMs: number; readonly monoMs: number; readonly boot: string };

/** Whether its time is over. By either clock: a wall clock that is set back lengthens nothing. */
export function isOver(lease: Pick<Lease, "start" | "forMs" | "uses" | "state">, now: Moment): boolean {
  const { start, forMs, uses, state } = lease;
  if (state !== "granted" || start === null) return state !== "pending";
  if (uses !== null && uses <= 0) return true;
  if (now.wallMs >= start.wallMs + forMs) return true;
  return now.boot === start.boot && now.monoMs >= start.monoMs + forMs;
}

/** Whether the mode, the stricter of the wanted and the applied, lets it work. */
export function worksIn(lease: Pick<Lease, "maxMode">, privilege: Mode): boolean {
  return privilege !== "LOCKDOWN" && !isStricter(privilege, lease.maxMode);
}

/** Whose it is: the same user with the same token, or with none as before. */
export function isOf(lease: Pick<Lease, "by">, caller: Maker): boolean {
  return lease.by.uid === caller.uid && lease.by.tokenId === caller.tokenId;
}

/** The modes that a template may name. */
export const LEASE_MODES = MODES.filter((mode) => mode !== "LOCKDOWN");
