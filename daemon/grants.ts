import { type Fold, latestMoment } from "./audit/fold.ts";
import type { Entry } from "./audit/record.ts";
import { privilegeMode } from "./core/authority.ts";
import { type Config, toLeaseTemplates } from "./core/config.ts";
import type { ErrorCode } from "./core/errors.ts";
import type { Moment } from "./core/lease.ts";
import type { State } from "./core/state.ts";
import { createSteadyTime } from "./core/steady-time.ts";
import { createLeases, type LeaseParts, type Leases } from "./leases.ts";
import type { Clock } from "./ports.ts";
import { createTokens, type Tokens } from "./tokens.ts";

/** Tokens and leases: what the log says of them, under the state of this instant. */
export type GrantOffice = {
  readonly tokens: Tokens;
  readonly leases: Leases;
  /** Once a heartbeat, and not while the daemon stops. */
  readonly tick: () => void;
};

export type GrantParts = {
  /** As the records appended so far leave it, durable or not. Time goes on from the last of them. */
  readonly fold: () => Pick<Fold, "grants" | "latestMs" | "lastMono" | "lastBoot">;
  readonly record: (entry: Entry) => { readonly seq: number; readonly durable: Promise<unknown> };
  readonly state: () => Pick<State, "wanted" | "applied" | "frozen" | "room">;
  readonly clock: Clock;
  readonly config: Pick<Config, "tokens" | "leases" | "ceremony">;
  readonly policy: LeaseParts["policy"];
};

export function createGrants({ fold, record, state, clock, config, policy }: GrantParts): GrantOffice {
  const steady = createSteadyTime(latestMoment(fold()));
  const now = (): Moment => {
    const monoMs = Math.floor(Number(clock.monoNs()) / 1e6);
    const read = { wallMs: Math.floor(clock.wallMs()), monoMs, boot: clock.bootId() };
    return { ...read, wallMs: steady(read) };
  };
  const shared = {
    grants: () => fold().grants,
    record,
    privilege: () => privilegeMode(state()),
    obstacle: () => obstacleIn(state()),
  };
  const tokens = createTokens({ ...shared, nowMs: () => now().wallMs, warnMs: config.tokens.warnMs });
  const leases = createLeases({
    ...shared,
    now,
    policy,
    templates: toLeaseTemplates(config.leases),
    requireTerminal: config.ceremony.requireTerminal,
  });
  const tick = (): void => {
    tokens.tick();
    leases.tick();
  };
  return { tokens, leases, tick };
}

/** Why nothing is handed out: it is a loosening, and waits for what loosenings wait for. */
function obstacleIn(state: ReturnType<GrantParts["state"]>): { code: ErrorCode; why: string } | null {
  if (state.frozen) return { code: "clock-frozen", why: `nothing is handed out: ${state.frozen.why}` };
  if (state.room === "low") return { code: "log-unavailable", why: "the log's disk is nearly full" };
  return privilegeMode(state) === "LOCKDOWN"
    ? {
        code: "lockdown",
        why: "nothing is handed out in LOCKDOWN, or before the kernel has confirmed a mode",
      }
    : null;
}
