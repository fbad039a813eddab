import { setTimeout as sleep } from "node:timers/promises";
import { until } from "../guest.ts";
import { type Stage, waitInside } from "../stage.ts";
import { leaveLockdown } from "./boots.ts";

const UNIT = "boundary-daemon.service";
/** When it last ended, by the monotonic clock; 0 when it never ran. */
const LAST_RESORT = "systemctl show -P ExecMainExitTimestampMonotonic boundary-lockdown";
const RESTART_S = 200;

/** kill -9: whoever closes first, and systemd starts it again, in LOCKDOWN. */
export async function kill(stage: Stage): Promise<void> {
  const { guest, check } = stage;
  const pid = await mainPid(stage);
  await guest.ok(`kill -9 ${pid}`);
  const closed = await until(() => isClosed(stage), 30_000, 100);
  check("after kill -9 the host closes", closed);
  await restarted(stage, pid);
  await inLockdown(stage, "kill -9", "crash");
  await leaveLockdown(stage);
}

/** A daemon that hangs: the kernel closes long before the watchdog ends it. */
export async function hang(stage: Stage): Promise<void> {
  const { guest, check } = stage;
  const pid = await mainPid(stage);
  await guest.ok(`kill -STOP ${pid}`);
  const closed = await until(() => isClosed(stage), 9_000, 100);
  const state = await guest.ok(`cut -d' ' -f3 /proc/${pid}/stat`);
  check(
    "a stopped daemon: the dead-man's set closes the host while the daemon still hangs",
    closed && state.trim() === "T",
    state,
  );
  await restarted(stage, pid);
  const journal = await guest.ok(`journalctl -b --no-pager -o cat -u ${UNIT} | grep -i watchdog | tail -n 3`);
  check("the watchdog ended it", journal.includes("atchdog"), journal);
  await inLockdown(stage, "a hang", "crash");
  await leaveLockdown(stage);
}

/** A clean stop keeps the mode's rules, and the next start its mode. */
export async function stop(stage: Stage): Promise<void> {
  const { guest, check } = stage;
  const set = await stage.ctl("mode", "set", "AIRGAP", "--reason", "the test asks for it");
  check("an operator sets AIRGAP", set.code === 0, set);
  await guest.ok(`systemctl stop ${UNIT}`, 240);
  await sleep(3_000); // longer than the dead-man's set lives
  await stage.checkPaths("AIRGAP after a clean stop, without a daemon", "loopback only");
  await guest.ok(`systemctl start ${UNIT}`, 300);
  await stage.daemonUp();
  const status = await stage.status();
  check(
    "started again it is AIRGAP",
    status.mode.applied === "AIRGAP" && status.mode.cause.startsWith("resumed"),
    status.mode,
  );
  const back = await stage.ctl("mode", "set", "RESTRICTED", "--reason", "the test goes on");
  check("an operator loosens it again", back.code === 0, back);
  await stage.checkPaths("RESTRICTED", "all");
}

/** It fails as often as systemd lets it: then it is closed by what needs neither Node nor our log. */
export async function crashLoop(stage: Stage): Promise<void> {
  const { guest, check } = stage;
  // every start takes seconds here: the limit is reached by count all the same
  await guest.ok(
    `mkdir -p /run/systemd/system/${UNIT}.d
     printf '[Unit]\\nStartLimitIntervalSec=600\\n' >/run/systemd/system/${UNIT}.d/test.conf
     systemctl daemon-reload
     systemctl reset-failed`,
  );
  const ranBefore = Number(await guest.ok(LAST_RESORT));
  const ended = await guest.run(
    `until systemctl is-failed --quiet ${UNIT}; do
       pid=$(systemctl show -P MainPID ${UNIT}); [ "$pid" -gt 0 ] && kill -9 "$pid"; sleep 0.3
     done`,
    600,
  );
  check("the start limit ends the crash loop", ended.code === 0, ended);
  const ran = await waitInside(guest, `[ "$(${LAST_RESORT})" -gt ${ranBefore} ]`, 60);
  const result = await guest.ok("systemctl show -P Result boundary-lockdown");
  check("boundary-lockdown.service ran, and well", ran && result.trim() === "success", result);
  await stage.checkPaths("after the crash loop, without a daemon", "nothing");
  await guest.ok(
    `rm -r /run/systemd/system/${UNIT}.d; systemctl daemon-reload; systemctl reset-failed; systemctl start ${UNIT}`,
    120,
  );
  await stage.daemonUp();
  await inLockdown(stage, "a crash loop", "crash");
  await leaveLockdown(stage);
}

/** The wall clock is moved: nothing is loosened until a person has looked, and tightening goes on. */
export async function clock(stage: Stage): Promise<void> {
  const { check } = stage;
  await frozenBy(stage, "an hour forward", "+1 hour", async () => {
    const loosened = await stage.ctl("mode", "set", "OPEN", "--reason", "should not work");
    check(
      "loosening is refused, by its name",
      loosened.code !== 0 && (loosened.stderr + loosened.stdout).includes("clock-frozen"),
      loosened,
    );
    const tightened = await stage.ctl("mode", "set", "AIRGAP", "--reason", "should work");
    check("tightening works", tightened.code === 0, tightened);
    await stage.checkPaths("AIRGAP with a clock that moved", "loopback only");
  });
  const back = await stage.ctl("mode", "set", "RESTRICTED", "--reason", "the clock is trusted again");
  check("then loosening works again", back.code === 0, back);
  await frozenBy(stage, "an hour back", "-1 hour", async () => undefined);
}

async function frozenBy(
  stage: Stage,
  what: string,
  step: string,
  meanwhile: () => Promise<void>,
): Promise<void> {
  const { guest, check } = stage;
  const before = (await stage.records("clock.frozen")).length;
  await guest.ok(`date -s '${step}' >/dev/null`);
  const frozen = await until(async () => (await stage.records("clock.frozen")).length > before, 30_000);
  check(`the clock goes ${what}: loosening is frozen, and it is in the log`, frozen);
  await meanwhile();
  const cleared = await stage.ctl("clock", "clear", "--reason", "looked at the clock");
  check(`the clock went ${what}: a person clears it`, cleared.code === 0, cleared);
}

/** A configuration that cannot be read, where the last start enforced. */
export async function brokenConfiguration(stage: Stage): Promise<void> {
  const { guest, check } = stage;
  const file = "/etc/boundary-daemon/config.yaml";
  await guest.ok(
    `systemctl stop ${UNIT} && cp -a ${file} /root/good.yaml && echo 'enforcement: [' >>${file}`,
    90,
  );
  await stage.checkPaths("RESTRICTED after a clean stop", "all");
  const started = await guest.run(`systemctl start ${UNIT}`, 300);
  check("it does not start with a broken configuration", started.code !== 0);
  await stage.checkPaths("with a broken configuration", "nothing");
  await guest.ok(`cat /root/good.yaml >${file} && systemctl reset-failed && systemctl start ${UNIT}`, 300);
  await stage.daemonUp();
  const status = await stage.status();
  check(
    "with the configuration put right it starts in the mode it had",
    status.mode.applied === "RESTRICTED",
    status.mode,
  );
}

/** install.sh on a running host, with a program that changed. */
export async function upgrade(stage: Stage): Promise<void> {
  const { guest, check } = stage;
  await guest.ok(
    `mountpoint -q /mnt/product || mount -o ro /dev/vdb /mnt/product
     mkdir -p /mnt/new && mount -t tmpfs tmpfs /mnt/new && mkdir /mnt/new/upper /mnt/new/work /mnt/new/tree
     mount -t overlay overlay -o lowerdir=/mnt/product,upperdir=/mnt/new/upper,workdir=/mnt/new/work /mnt/new/tree
     echo '// changed' >>/mnt/new/tree/dist/daemon/main.js`,
  );
  const before = await mainPid(stage);
  const installed = await guest.run("sh /mnt/new/tree/systemd/install.sh", 500);
  check(
    "install.sh stops the daemon, installs and starts it again",
    installed.code === 0 && /stopped +boundary-daemon/.test(installed.stdout),
    installed,
  );
  const pid = await stage.daemonUp();
  const status = await stage.status();
  check(
    "the mode is what it was, and nothing has tripped",
    pid !== before && status.mode.applied === "RESTRICTED" && status.mode.cause.startsWith("resumed"),
    status.mode,
  );
  await stage.checkPaths("RESTRICTED after an upgrade", "all");
}

async function mainPid({ guest }: Stage): Promise<number> {
  return Number(await guest.ok(`systemctl show -P MainPID ${UNIT}`));
}

async function restarted(stage: Stage, before: number): Promise<void> {
  const other = `pid=$(systemctl show -P MainPID ${UNIT}) && [ "$pid" != 0 ] && [ "$pid" != ${before} ]`;
  const again = await waitInside(stage.guest, other, RESTART_S);
  stage.check("systemd starts it again", again);
  await stage.daemonUp();
}

async function inLockdown(stage: Stage, after: string, cause: string): Promise<void> {
  const status = await stage.status();
  stage.check(
    `after ${after} the mode is LOCKDOWN, enforced, and says why`,
    status.mode.applied === "LOCKDOWN" &&
      status.assurance === "enforced" &&
      status.mode.cause.startsWith(cause),
    status.mode,
  );
  await stage.checkPaths(`LOCKDOWN after ${after}`, "nothing");
}

async function isClosed({ guest }: Stage): Promise<boolean> {
  const { end, guest: of } = guest.outside;
  const answers = await Promise.all([
    guest.outside.ping({ from: end.v4, to: of.v4 }, 700),
    guest.outside.ping({ from: end.v6, to: of.v6 }, 700),
  ]);
  return !answers.includes(true);
}
