import { airgapOverReboot, changedLog, lockdownOverReboot, powerCut } from "./scenarios/boots.ts";
import { brokenConfiguration, clock, crashLoop, hang, kill, stop, upgrade } from "./scenarios/crashes.ts";
import { evidence } from "./scenarios/evidence.ts";
import { keyboards } from "./scenarios/keyboards.ts";
import { usb } from "./scenarios/usb.ts";
import type { Stage } from "./stage.ts";

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
  { name: "usb", guest: "crashes", title: "USB, plugged and unplugged; leaves LOCKDOWN", run: usb },
  { name: "crashes-evidence", guest: "crashes", title: "what is left behind", run: evidence },
  {
    name: "keyboards",
    guest: "keyboards",
    title: "keyboards that are none; leaves LOCKDOWN",
    run: keyboards,
  },
];
