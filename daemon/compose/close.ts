import { existsSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { createClock } from "../adapters/clock.ts";
import { readEnforcedMark } from "../adapters/enforced-mark.ts";
import { createHostSockets } from "../adapters/flows.ts";
import { openHeadFile } from "../adapters/head-file.ts";
import { hasSegments } from "../adapters/log-file.ts";
import { lockLogDirectory } from "../adapters/log-lock.ts";
import { missingUsbPrivilege } from "../adapters/privilege.ts";
import { createUsbGate } from "../adapters/usb-gate.ts";
import { openLog } from "../audit/log.ts";
import { isReleased } from "../core/boot-parameter.ts";
import { type Config, ConfigSchema } from "../core/config.ts";
import { BoundaryError, renderErrorChain } from "../core/errors.ts";
import type { Hold } from "../core/hold.ts";
import { heldSoFar, holdIn } from "../core/start.ts";
import { faultsOf, readSwitches } from "../core/switches.ts";
import type { Enforcer } from "../enforce.ts";
import { type LastKnown, lastKnown, UNKNOWN } from "../last-known.ts";
import { openHistory, readHistory } from "../open-log.ts";
import type { Options } from "../options.ts";
import type { Clock } from "../ports.ts";
import { closeControllers } from "../usb-close.ts";
import { EXIT } from "./exit.ts";
import { closeDomains } from "./isolation.ts";
import { opLog } from "./journal.ts";
import { openKernel } from "./kernel.ts";
import { keepingOf, logPlaceOf } from "./places.ts";
import { readSetup, type Setup } from "./setup.ts";

/**
 * Loads the last mode's rules without a daemon to renew them, or LOCKDOWN when the last mode is not known for certain.
 * Loads nothing, and takes our rules out, where the log says that the host is in shadow or released.
 */
export async function close(setup: Setup): Promise<void> {
  const { enforcer, obstacles, firewall } = openKernel(setup);
  const missing = obstacles.map(({ what }) => what).join("; ");
  const isLogOnly = enforcer.how === "observed" && faultsOf(obstacles).length === 0;
  if (isLogOnly && !setup.switches.usb) {
    process.stdout.write(`nothing to close: log-only; missing: ${missing}\n`);
    return;
  }
  if (isTaken(setup.options.logDir)) {
    process.stdout.write("a daemon is running: its rules stay as they are\n");
    return;
  }
  const known = await asLogged(setup);
  try {
    if (isLogOnly) process.stdout.write(`no rules to load: log-only; missing: ${missing}\n`);
    else closeNetwork(enforcer, missing, known);
    closeDomains(setup.config.isolation, firewall, known.hold);
  } finally {
    // last: it may have to wait
    if (known.hold === "enforcing" && setup.switches.usb) await closeUsb();
  }
}

function closeNetwork(enforcer: Enforcer, missing: string, { mode, hold, why }: LastKnown): void {
  if (enforcer.how === "observed" && hold === "enforcing") {
    // whoever called has to close by other means (OnFailure=)
    process.stderr.write(`boundary-daemon: cannot close, though it is switched on; missing: ${missing}\n`);
    process.exitCode = EXIT.noStart;
    return;
  }
  const settled = enforcer.settle(mode, { hold, keep: null });
  if (!settled.ok) throw new BoundaryError("nft-failed", `loading the rules of ${mode}: ${settled.why}`);
  const because = why === "" ? "" : ` (${why})`;
  process.stdout.write(
    hold === "enforcing"
      ? `${mode} is in the kernel\n`
      : `the hold is ${hold}${because}: nothing is loaded; the mode is ${mode}\n`,
  );
}

/** What is there is for the next start to decide, which knows the rules and the log. */
async function closeUsb(): Promise<void> {
  const why = await closeControllers(createUsbGate(), sleep);
  if (why === "") return;
  process.stderr.write(`boundary-daemon: USB is not closed: ${[why, ...missingUsbPrivilege()].join("; ")}\n`);
  process.exitCode = EXIT.noStart;
}

/** Whether a living daemon has the log: then the kernel's rules are its own. */
function isTaken(logDir: string): boolean {
  if (!existsSync(logDir)) return false;
  try {
    lockLogDirectory(logDir).release();
    return false;
  } catch (error) {
    return error instanceof BoundaryError && error.code === "log-locked";
  }
}

export const SOCKETS = createHostSockets();

export function holdFacts({ enforcement }: Config, clock: Clock): Parameters<typeof holdIn>[1] {
  const parameter = isReleased(SOCKETS.commandLine());
  return { firstStart: enforcement.firstStart, parameter, boot: clock.bootId() };
}

/** What the log says, with nobody else writing to it meanwhile. */
async function asLogged({ options, config }: Pick<Setup, "options" | "config">): Promise<LastKnown> {
  const clock = createClock();
  const place = logPlaceOf(options, keepingOf(config), clock);
  const lock = existsSync(options.logDir) ? lockLogDirectory(options.logDir) : null;
  try {
    return await lastKnown({
      history: () => readHistory(place),
      reopen: async () => {
        process.umask(0o077);
        const opened = await openHistory(place);
        const { store, signer, tail, ring } = opened;
        const head = openHeadFile(options.stateDir);
        const nobody = { onRecord: () => undefined, onFailed: () => undefined };
        return { opened, log: openLog({ store, signer, head, clock, tail, origin: ring.origin, ...nobody }) };
      },
      initialMode: config.initialMode,
      hold: holdFacts(config, clock),
      opLog,
    });
  } finally {
    lock?.release();
  }
}

/** For a start that failed before it knew: nothing is recorded then, so what is not in the log yet does not count. */
export async function lastHold({ options, config }: Setup): Promise<Hold> {
  const clock = createClock();
  try {
    const history = await readHistory(logPlaceOf(options, keepingOf(config), clock));
    return heldSoFar(holdIn(history, holdFacts(config, clock))).held.hold;
  } catch {
    return UNKNOWN.hold;
  }
}

/** Where enforcement was on, a configuration that cannot be read is LOCKDOWN: one typo must not leave the host open. */
export async function readSetupOrClose(options: Options): Promise<Setup> {
  try {
    return readSetup(options);
  } catch (error) {
    const told = await closeWithoutConfig(options);
    if (told !== "") process.stderr.write(`boundary-daemon: ${told}\n`);
    throw error;
  }
}

/** Says what came of it; "" where there is nothing to close. A boot that its parameter releases is released here too. */
async function closeWithoutConfig(options: Options): Promise<string> {
  const { stateDir, logDir } = options;
  const mark = readEnforcedMark(stateDir);
  if (mark.kind === "none") return "";
  if (isTaken(logDir)) return "a daemon is running: its rules stay as they are";
  const enforcement = { network: true, allowInitNetns: mark.consent };
  const config = ConfigSchema.parse({ enforcement });
  const switches = readSwitches(config.enforcement, process.env);
  if (switches.ok && !switches.value.network) return ""; // switched off, and not by the file that cannot be read
  const on = { network: true, usb: false, process: false };
  const { enforcer, obstacles } = openKernel({ config, switches: on });
  const before = "enforcement was on, and the configuration cannot be read";
  if (enforcer.how === "observed")
    return `${before}: NOT closed; missing: ${obstacles.map(({ what }) => what).join("; ")}`;
  const { hold, why } = isReleased(SOCKETS.commandLine()) ? await asParameter(options, config) : UNKNOWN;
  const settled = enforcer.settle("LOCKDOWN", { hold, keep: null });
  const [what, becauseOf] = hold === "enforcing" ? ["closed", ""] : ["opened", why && ` (${why})`];
  if (!settled.ok) return `${before}: NOT ${what}: ${settled.why}`;
  return hold === "enforcing"
    ? `${before}: LOCKDOWN is in the kernel`
    : `${before}; the hold is ${hold}${becauseOf}: nothing is loaded`;
}

/** As with a configuration that can be read: what cannot be recorded opens nothing. No first start will come to do it. */
async function asParameter(options: Options, config: Config): Promise<LastKnown> {
  try {
    return hasSegments(options.logDir) ? await asLogged({ options, config }) : UNKNOWN;
  } catch (error) {
    opLog.error({ err: renderErrorChain(error) }, "what would open the host cannot be recorded");
    return UNKNOWN;
  }
}
