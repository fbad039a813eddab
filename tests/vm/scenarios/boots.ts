import { keepPinging } from "../peer.ts";
import type { Stage } from "../stage.ts";

const PING_MS = 500;

/** The last mode is kept over a reboot, and the host is closed all the way. */
export async function airgapOverReboot(stage: Stage): Promise<void> {
  const { guest, check } = stage;
  const set = await stage.ctl("mode", "set", "AIRGAP", "--reason", "the test asks for it");
  check("an operator sets AIRGAP", set.code === 0 && set.stdout.includes("enforced"), set);
  await stage.checkPaths("AIRGAP", "loopback only");

  await closedWhile(stage, "a reboot in AIRGAP", () => guest.reboot());
  await earlyCameFirst(stage);
  const status = await stage.status();
  check(
    "after the reboot the mode is AIRGAP, enforced",
    status.mode.applied === "AIRGAP" && status.assurance === "enforced",
    [status.mode, (await stage.records("tripwire.fired")).slice(-4)],
  );
  const [stopped, started] = [
    (await stage.records("daemon.stopped")).at(-1),
    (await stage.records("daemon.started")).at(-1),
  ];
  check(
    "the log has a clean stop, and a start in another boot after it",
    (stopped?.seq ?? 0) < (started?.seq ?? 0) && stopped?.boot !== started?.boot,
    [stopped, started],
  );
  await stage.checkPaths("AIRGAP after a reboot", "loopback only");
}

/** The power goes while the host is in a mode that is not LOCKDOWN: what comes up is. */
export async function powerCut(stage: Stage): Promise<void> {
  const { guest, check } = stage;
  await closedWhile(stage, "a power cut and the boot after it", () => guest.powerCut());
  const status = await stage.status();
  check(
    "after a power cut the mode is LOCKDOWN, enforced",
    status.mode.applied === "LOCKDOWN" && status.assurance === "enforced",
    status.mode,
  );
  check(
    "and the cause is that there was no clean stop",
    status.mode.cause.startsWith("crash"),
    status.mode.cause,
  );
  await stage.checkPaths("LOCKDOWN after a power cut", "nothing");
}

/** LOCKDOWN is no way to be left by a reboot; a ceremony is. */
export async function lockdownOverReboot(stage: Stage): Promise<void> {
  const { guest, check } = stage;
  await closedWhile(stage, "a reboot in LOCKDOWN", () => guest.reboot());
  const status = await stage.status();
  check("LOCKDOWN survives a reboot", status.mode.applied === "LOCKDOWN", status.mode);
  await stage.checkPaths("LOCKDOWN after a reboot", "nothing");
  await leaveLockdown(stage);
}

/** A log that somebody changed is no log to read a mode from: not for the early unit, and not for the daemon. */
export async function changedLog(stage: Stage): Promise<void> {
  const { guest, check } = stage;
  await guest.ok(
    `systemctl stop boundary-daemon
     log=$(ls /var/log/boundary-daemon/*.jsonl | tail -n 1)
     chattr -a -i "$log"
     sed -i 's/"wanted":"RESTRICTED"/"wanted":"OPEN"/' "$log"`,
    90,
  );
  await guest.ok("systemctl restart boundary-early", 300);
  await stage.checkPaths("a log that was changed, before the daemon starts", "nothing");
  await guest.ok("systemctl start boundary-daemon", 240);
  await stage.daemonUp();
  const status = await stage.status();
  check(
    "the mode is LOCKDOWN, and says that the log was tampered with",
    status.mode.applied === "LOCKDOWN" && status.mode.cause.includes("tamper"),
    status.mode,
  );
  await stage.checkPaths("LOCKDOWN after a changed log", "nothing");
}

/** Out of LOCKDOWN by an operator at a terminal. */
export async function leaveLockdown(stage: Stage): Promise<void> {
  const left = await stage.ceremony("looked at it");
  stage.check("an operator leaves LOCKDOWN by ceremony", left.code === 0, left.stdout + left.stderr);
  await stage.checkPaths("RESTRICTED after the ceremony", "all");
}

/** Pings all the while, and looks at every frame that comes out. */
async function closedWhile(stage: Stage, what: string, cause: () => Promise<void>): Promise<void> {
  const { guest, check } = stage;
  const begun = performance.now();
  const pings = keepPinging(guest.outside, PING_MS);
  await cause();
  await stage.daemonUp();
  const { sent, answered } = await pings.stop();
  const out = [...guest.outside.ipSince(begun), ...guest.inside.ipSince(begun)];
  check(`${what}: not one of the pings is answered`, sent > 20 && answered === 0, `${answered} of ${sent}`);
  check(`${what}: no IP packet leaves the host`, out.length === 0, out.slice(0, 5));
  stage.note(
    `${sent} pings, ${guest.outside.seen.filter(({ atMs, kind }) => atMs >= begun && kind === "arp").length} ARP frames`,
  );
}

/** By systemd's own times of this boot. */
async function earlyCameFirst({ guest, check }: Stage): Promise<void> {
  const time = async (unit: string, property: string) =>
    Number(await guest.ok(`systemctl show -P ${property} ${unit}`));
  const closed = await time("boundary-early.service", "ExecMainExitTimestampMonotonic");
  const result = (await guest.ok("systemctl show -P Result -P ExecMainStatus boundary-early.service")).split(
    "\n",
  );
  const before = await time("network-pre.target", "ActiveEnterTimestampMonotonic");
  const network = await time("systemd-networkd.service", "InactiveExitTimestampMonotonic");
  check("boundary-early ended well", result[0] === "success" && result[1] === "0", result);
  check(
    "it had ended before network-pre.target was reached, and that before the network began",
    0 < closed && closed <= before && before <= network,
    { closed, before, network },
  );
  const said = await guest.ok("journalctl -b --no-pager -o cat -u boundary-early.service");
  check("it says which mode's rules are in the kernel", said.includes("AIRGAP is in the kernel"), said);
}
