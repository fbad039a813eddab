import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { stringify } from "yaml";
import { type DaemonHome, startDaemon } from "../support/daemon-process.ts";
import { eventually } from "../support/packets.ts";
import { createCtl } from "./ctl.ts";
import { askAll, IN_RESTRICTED } from "./decisions.ts";
import { OFTEN, tellGrants } from "./grants.ts";
import { verifyStory } from "./log-story.ts";
import type { Report } from "./report.ts";
import { shippedTripwiresAnd } from "./tripwires.ts";

const NOT_SHOWN = [
  "packets refused by the kernel in any mode",
  "the time from a kernel event to confirmed rules",
  "the kernel closing by itself when the daemon is killed",
];

/** Without root: real sensors, real decisions, a real log; the kernel is only observed. */
export async function tellLogOnly(report: Report, home: DaemonHome, why: string): Promise<void> {
  console.log(`The log-only form: enforcing ${why}. Not shown here:`);
  for (const thing of NOT_SHOWN) console.log(`  - ${thing}`);
  const watched = join(home.path, "watched");
  const tripwiresFile = join(home.path, "etc", "tripwires.yaml");
  writeFileSync(watched, "one\n", { mode: 0o600 });
  writeFileSync(tripwiresFile, shippedTripwiresAnd(watched), { mode: 0o600 });
  writeFileSync(
    home.configFile,
    stringify({ initialMode: "RESTRICTED", tripwiresFile, ceremony: { coolDownMs: 1_000 }, limits: OFTEN }),
  );
  const ctl = createCtl(home);

  report.step(1, "boundary-daemon starts, watching and logging");
  const daemon = await startDaemon(home);
  report.saw("the daemon is ready", true, `${daemon.readyMs.toFixed(0)} ms from its start`);

  report.step(2, "boundaryctl status");
  const status = await ctl.run("status");
  for (const line of status.stdout.trimEnd().split("\n")) report.note(line.slice(0, 150));
  report.saw(
    "it says observed, never enforced",
    status.stdout.includes("observed") && !/network +enforced/.test(status.stdout),
  );

  report.step(3, "A service asks for decisions");
  await askAll(report, ctl, "RESTRICTED", IN_RESTRICTED);
  await tellGrants(report, ctl, home, { asNobody: false });

  report.step(4, "A write to a watched file fires the file tripwire");
  writeFileSync(watched, "two\n");
  const fell = await eventually(async () => (await ctl.run("status")).stdout.includes("wanted     LOCKDOWN"));
  report.saw("LOCKDOWN is wanted, and recorded", fell);
  const denied = await ctl.run("check", "recall", "note-1", "--class", "PUBLIC");
  report.saw("nothing is allowed in LOCKDOWN", denied.code === 1);

  report.step(5, "Out by ceremony");
  const out = await ctl.ceremony("the demo's own doing");
  report.saw("presence, cool-down, code; into RESTRICTED", out.code === 0, out.code === 0 ? "" : out.stdout);

  report.step(6, "kill -9, and the next start");
  await daemon.kill();
  const next = await startDaemon(home, { args: ["--mode", "open"] });
  const after = await ctl.run("status");
  report.saw(
    "the next start is LOCKDOWN, and says why",
    after.stdout.includes("LOCKDOWN") && after.stdout.includes("crash"),
  );

  report.step(7, "boundaryctl verify-log: offline, with the public key alone");
  const { code, ms } = await next.stop();
  report.saw("SIGTERM ends the daemon cleanly", code === 0, `${ms.toFixed(0)} ms`);
  await verifyStory(report, ctl, home);
}
