import {
  forgetEnforcedMark,
  forgetUsbMark,
  keepEnforcedMark,
  keepUsbMark,
} from "../adapters/enforced-mark.ts";
import { openLibnftables } from "../adapters/libnftables.ts";
import { openNftProgram } from "../adapters/nft-program.ts";
import { missingUsbPrivilege, netPrivilege } from "../adapters/privilege.ts";
import { createSurroundings } from "../adapters/surroundings.ts";
import { renderErrorChain } from "../core/errors.ts";
import type { Hold } from "../core/hold.ts";
import { markAfterStart, networkObstacles, type Obstacle, usbObstacles } from "../core/switches.ts";
import { createEnforcer, type Enforcer } from "../enforce.ts";
import type { Clock, Firewall } from "../ports.ts";
import { opLog } from "./journal.ts";
import type { Setup } from "./setup.ts";

/** The kernel's rules are listed and compared at least this often. */
const COMPARE_EVERY_MS = 10_000;

/** What the kernel refused is tried again after so long, and after twice as long each time. */
const RETRY_EVERY_MS = 10_000;

export type Host = {
  readonly clock: Clock;
  readonly enforcer: Enforcer;
  readonly obstacles: readonly Obstacle[];
  readonly via: string;
  /** null: log-only. */
  readonly firewall: Firewall | null;
  /** The hold, once the start knows it: a host that a person opened is not closed by what goes wrong afterwards. */
  readonly known: { hold: Hold | null };
};

export function openKernel({
  config,
  switches,
}: Pick<Setup, "config" | "switches">): Omit<Host, "clock" | "known"> {
  const privilege = netPrivilege();
  const surroundings = createSurroundings();
  const firewall = switches.network ? openFirewall() : { unavailable: "" };
  const unavailable = "unavailable" in firewall && switches.network ? firewall.unavailable : null;
  const obstacles = networkObstacles({
    switchedOn: switches.network,
    missingPrivilege: privilege.missing,
    inInitNetns: privilege.inInitNetns,
    allowInitNetns: config.enforcement.allowInitNetns,
    firewall: unavailable,
  });
  const usable = obstacles.length === 0 && !("unavailable" in firewall) ? firewall : null;
  const enforcer = createEnforcer({
    firewall: usable,
    network: config.network,
    timeoutMs: config.enforcement.deadManMs,
    surroundings,
    compareEvery: Math.max(1, Math.round(COMPARE_EVERY_MS / config.enforcement.heartbeatMs)),
    retryEvery: Math.max(1, Math.round(RETRY_EVERY_MS / config.enforcement.heartbeatMs)),
  });
  return { enforcer, obstacles, via: usable?.via ?? "", firewall: usable };
}

/** The library in this process; where it is missing, the nft program (slower: a process for every call). */
function openFirewall(): Firewall | { unavailable: string } {
  const library = openLibnftables();
  if (!("unavailable" in library)) return library;
  const program = openNftProgram();
  return "unavailable" in program
    ? { unavailable: `${library.unavailable}; ${program.unavailable}` }
    : program;
}

/** There is no daemon to renew anything: LOCKDOWN, for good. Nothing where the host was open by a person's hand. */
export function closeKernel(enforcer: Enforcer, hold: Hold): void {
  if (enforcer.how === "observed") return;
  const settled = enforcer.settle("LOCKDOWN", { hold, keep: null });
  const what = hold === "enforcing" ? "LOCKDOWN is in the kernel" : `the hold is ${hold}: nothing is loaded`;
  opLog.error({ settled, hold }, `${what}: there is no daemon`);
}

/** For a later start that cannot read its configuration: whether it has to close. Never where a person opened the host. */
export function rememberEnforcement(
  { options, config, switches }: Setup,
  obstacles: readonly Obstacle[],
  hold: Hold,
): void {
  const missing = usbObstacles({ switchedOn: switches.usb, missingPrivilege: missingUsbPrivilege() });
  if (hold !== "enforcing" || !switches.usb) forgetUsbMark(options.stateDir);
  else if (missing.length === 0) keepUsbMark(options.stateDir);
  const consent = config.enforcement.allowInitNetns ? "consent" : "no-consent";
  const what = hold === "enforcing" ? markAfterStart(obstacles) : "forget";
  if (what === "keep") keepEnforcedMark(options.stateDir, consent);
  if (what === "forget") forgetEnforcedMark(options.stateDir);
}

/** The loop is not held up by a mark that cannot be written; a start that succeeds writes it again. */
export function heldAs(setup: Setup, host: Host, hold: Hold): void {
  host.known.hold = hold;
  try {
    rememberEnforcement(setup, host.obstacles, hold);
  } catch (error) {
    opLog.error({ err: renderErrorChain(error), hold }, "the mark of enforcement could not be changed");
  }
}
