import { createHome, type DaemonHome } from "../support/daemon-process.ts";
import { NO_NETNS, removeNetns } from "../support/netns.ts";
import { stopAgents } from "../support/packets.ts";
import { createReport, StoryBroken } from "./report.ts";
import { tellEnforced } from "./story-enforced.ts";
import { tellExec } from "./story-exec.ts";
import { tellLogOnly } from "./story-log-only.ts";

/**
 * `npm run demo`: the story of one daemon, every step checked. As root, in network namespaces of its own; otherwise
 * the log-only form. `npm run demo -- exec`: guarded commands. `--keep` leaves the log and the other files for a look.
 */
const keep = process.argv.includes("--keep");
const [part = "", ...more] = process.argv.slice(2).filter((word) => word !== "--keep");
if (!["", "exec"].includes(part) || more.length > 0) {
  console.error("npm run demo [-- [exec] [--keep]]");
  process.exit(2);
}
const report = createReport();
const begunMs = performance.now();
const home = createHome({
  initialMode: "OPEN",
  ceremony: { coolDownMs: 1_000 },
  sensors: { rehashMs: 1_000 },
  tripwiresFile: undefined,
});

try {
  if (part === "exec") await tellExec(report, home);
  else if (NO_NETNS === "") await tellEnforced(report, home);
  else await tellLogOnly(report, home, NO_NETNS);
  const seconds = ((performance.now() - begunMs) / 1_000).toFixed(1);
  console.log(`\n${report.checks()} checks, all as told, in ${seconds} s`);
} catch (error) {
  process.exitCode = 1;
  console.log(error instanceof StoryBroken ? `\nthe story broke at: ${error.message}` : error);
} finally {
  await cleanUp(home);
}
process.exit();

async function cleanUp(place: DaemonHome): Promise<void> {
  await stopAgents();
  removeNetns();
  if (keep) console.log(`kept: ${place.path} (the log is append-only: chattr -R -ia before you remove it)`);
  else place.remove();
}
