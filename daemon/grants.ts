import type { Fold } from "./audit/fold.ts";
import type { Entry } from "./audit/record.ts";
import { privilegeMode } from "./core/authority.ts";
import { type Config, toLeaseTemplates } from "./core/config.ts";
import type { ErrorCode } from "./core/errors.ts";
import type { Moment } from "./core/lease.ts";
import type { State } from "./core/state.ts";
import { createSteadyTime } from "./core/steady-time.ts";
import { createLeases, type Leases } from "./leases.ts";
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
  /** As the records appended so far leave it, durable or not. */
  readonly fold: () => Pick<Fold, "grants">;
  /** RFC 3339: of the last record before this start; "" for none. Time does not begin before it. */
  readonly lastAt: string;
  readonly record: (entry: Entry) => { readonly seq: number; readonly durable: Promise<unknown> };
  readonly state: () => Pick<State, "wanted" | "applied" | "frozen" | "room">;
  readonly clock: Clock;
  readonly config: Pick<Config, "tokens" | "leases" | "ceremony">;
};

export function createGrants({ fold, lastAt, record, state, clock, config }: GrantParts): GrantOffice {
  const steady = createSteadyTime(Date.parse(lastAt) || 0);
  const now = (): Moment => {
    const monoMs = Math.floor(Number(clock.monoNs()) / 1e6);
    return { wallMs: Math.floor(steady(clock.wallMs(), monoMs)), monoMs, boot: clock.bootId() };
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
