import { airgapOverReboot, changedLog, lockdownOverReboot, powerCut } from "./scenarios/boots.ts";
import { brokenConfiguration, clock, crashLoop, hang, kill, stop, upgrade } from "./scenarios/crashes.ts";
import { evidence } from "./scenarios/evidence.ts";
import { guarded } from "./scenarios/guarded.ts";
import { bootParameter, firstStart, release } from "./scenarios/hold.ts";
import { keyboards } from "./scenarios/keyboards.ts";
import { selftest } from "./scenarios/selftest.ts";
import { tunnel } from "./scenarios/tunnel.ts";
import { usb } from "./scenarios/usb.ts";
import { usbModes } from "./scenarios/usb-modes.ts";
import { usbStops } from "./scenarios/usb-stops.ts";
import type { Stage } from "./stage.ts";

/** Where a guest begins, by its name: the daemon as it is after its first start, in shadow; else enforcing. */
export const BEGINNINGS: Readonly<Record<string, "shadow" | "enforcing">> = { first: "shadow" };

/**
 * Scenarios of one guest run in this order, guests side by side. Each guest goes on from the installed daemon, in
 * RESTRICTED; each scenario leaves it there, or says what it leaves.
 */
export type Scenario = {
  readonly name: string;
  readonly guest: string;
  readonly title: string;
  readonly run: (stage: Stage) => Promise<void>;
};

export const SCENARIOS: readonly Scenario[] = [
  { name: "usb-modes", guest: "usb-modes", title: "USB in every mode, over a reboot", run: usbModes },
  { name: "usb-modes-evidence", guest: "usb-modes", title: "what is left behind", run: evidence },
  { name: "usb", guest: "usb", title: "USB devices of every kind", run: usb },
  { name: "usb-stops", guest: "usb", title: "USB without a daemon; a window that closes", run: usbStops },
  { name: "usb-evidence", guest: "usb", title: "what is left behind", run: evidence },
  {
    name: "airgap",
    guest: "boots",
    title: "AIRGAP is kept over a reboot; leaves AIRGAP",
    run: airgapOverReboot,
  },
  { name: "power", guest: "boots", title: "a power cut; leaves LOCKDOWN", run: powerCut },
  { name: "lockdown", guest: "boots", title: "LOCKDOWN is kept over a reboot", run: lockdownOverReboot },
  { name: "upgrade", guest: "boots", title: "an upgrade", run: upgrade },
  { name: "boots-evidence", guest: "boots", title: "what is left behind", run: evidence },
  { name: "changed-log", guest: "boots", title: "a log that was changed; leaves LOCKDOWN", run: changedLog },
  { name: "kill", guest: "crashes", title: "kill -9", run: kill },
  { name: "hang", guest: "crashes", title: "a hang, and the watchdog", run: hang },
  { name: "stop", guest: "crashes", title: "a clean stop", run: stop },
  { name: "clock", guest: "crashes", title: "the clock is moved", run: clock },
  { name: "config", guest: "crashes", title: "a broken configuration", run: brokenConfiguration },
  { name: "crash-loop", guest: "crashes", title: "a crash loop, and the last resort", run: crashLoop },
  { name: "crashes-evidence", guest: "crashes", title: "what is left behind", run: evidence },
  { name: "first-start", guest: "first", title: "a first start in shadow; leaves AIRGAP", run: firstStart },
  {
    name: "selftest",
    guest: "first",
    title: "self-tests in AIRGAP and RESTRICTED; leaves AIRGAP",
    run: selftest,
  },
  { name: "boot-parameter", guest: "first", title: "boundary.release=1; leaves AIRGAP", run: bootParameter },
  { name: "release", guest: "first", title: "a released host", run: release },
  { name: "first-evidence", guest: "first", title: "what is left behind", run: evidence },
  {
    name: "keyboards",
    guest: "keyboards",
    title: "keyboards that are none; leaves LOCKDOWN",
    run: keyboards,
  },
  { name: "guarded", guest: "guarded", title: "commands under guard, secrets", run: guarded },
  { name: "tunnel", guest: "guarded", title: "strongSwan between two domains", run: tunnel },
  { name: "guarded-evidence", guest: "guarded", title: "what is left behind", run: evidence },
];
