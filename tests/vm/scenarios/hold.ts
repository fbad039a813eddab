import { setTimeout as sleep } from "node:timers/promises";
import { until } from "../guest.ts";
import { type Stage, waitInside } from "../stage.ts";
import { becomesDisk, isAuthorized, isDisk, plugStick } from "../stick.ts";
import { keyArrives } from "../type.ts";
import { portOf, prepareUsb } from "../usb.ts";

/** Longer than three calls of boundaryctl take here. */
const CONFIRM_S = 30;

/** A first start refuses nothing and counts; enforcing can be tried, and goes back by itself. */
export async function firstStart(stage: Stage): Promise<void> {
  const { guest, check } = stage;
  const sockets = await prepareUsb(guest);
  await plugStick(stage, sockets, "SHADOW");
  check("in shadow a stick becomes a block device", await becomesDisk(stage));
  const would = await until(async () => (await stage.records("usb.would-block")).length > 0, 30_000);
  check("and the log has that it would be refused", would, await stage.records("usb.would-block"));
  const set = await stage.ctl("mode", "set", "AIRGAP", "--reason", "the test asks for it");
  check("in shadow an operator sets AIRGAP, and is told that nothing is refused", inShadow(set), set);
  await stage.checkPaths("AIRGAP in shadow", "all");
  const dry = await stage.ctl("enforce", "--dry-run");
  check("enforce --dry-run lists what came in", dry.stdout.includes(guest.outside.end.v4), dry);

  const tried = await stage.ctl("enforce", "--confirm", String(CONFIRM_S), "--reason", "a try");
  check("enforce --confirm ends with 0", tried.code === 0, tried);
  await stage.checkPaths("AIRGAP, enforced on trial", "loopback only");
  check("the stick is no block device any more", !(await isDisk(stage)));
  const operator = await portOf(guest, "OPERATOR");
  check("the keyboard in use is kept", (await isAuthorized(stage, operator)) && (await keyArrives(stage)));
  const granted = (await stage.records("usb.granted")).map(({ data }) => [data["port"], data["by"]]);
  check(
    "by a record that it was present at the first start, and nothing else was",
    granted.every(([, by]) => by === "present at first start") && granted.some(([port]) => port === operator),
    granted,
  );
  const back = await until(() => isHold(stage, "shadow"), 2 * CONFIRM_S * 1_000, 1_000);
  check("it goes back to shadow by itself", back, (await stage.status()).mode);
  await stage.checkPaths("AIRGAP in shadow again", "all");
  await lastChange(stage, "enforcing", "shadow", "always");

  await stage.ctl("enforce", "--confirm", String(CONFIRM_S), "--reason", "for good");
  const kept = await stage.ctl("mode", "confirm");
  check("mode confirm ends with 0", kept.code === 0, kept);
  await sleep((CONFIRM_S + 2) * 1_000);
  const status = await stage.status();
  check(
    "confirmed, it stays enforced",
    status.mode.hold === "enforcing" && status.mode.applied === "AIRGAP",
    status,
  );
  await stage.checkPaths("AIRGAP, confirmed", "loopback only");
  await sockets.unplug("storage");
}

/** From the console: one boot is open, and the next one as before. */
export async function bootParameter(stage: Stage): Promise<void> {
  const { guest, check } = stage;
  const keys = await stage.ctl("usb", "generate-policy");
  await guest.ok(
    `systemctl stop boundary-daemon && cd /etc/boundary-daemon && install -o boundary -g boundary -m 0600 /dev/null usb.rules && cat >usb.rules <<'END'\n${keys.stdout}\nEND
     printf 'usb:\\n  rulesFile: /etc/boundary-daemon/usb.rules\\n' >>config.yaml`,
  );
  await guest.bootWith("boundary.release=1");
  await stage.daemonUp();
  const released = await stage.status();
  check(
    "a boot with boundary.release=1 is released",
    released.mode.hold === "released" &&
      released.mode.wanted === "AIRGAP" &&
      released.assurance !== "enforced",
    released.mode,
  );
  await stage.checkPaths("AIRGAP, released at boot", "all");
  await lastChange(stage, "enforcing", "released", "boot");
  const defaults = await guest.ok("cat /sys/bus/usb/devices/usb*/*authorized_default | sort -u");
  check("no controller refuses what is new", defaults.trim() === "1", defaults);
  check("the keyboard types", await keyArrives(stage));
  // no stick here: to plug one in would trip in AIRGAP, released or not, and the next boot would be LOCKDOWN

  await guest.bootWith("");
  await stage.daemonUp();
  const again = await stage.status();
  check(
    "the next boot without it is as before",
    again.mode.hold === "enforcing" && again.mode.applied === "AIRGAP" && again.assurance === "enforced",
    [again.mode, again.controls],
  );
  await stage.checkPaths("AIRGAP after that boot", "loopback only");
  check("the keyboard types again", await keyArrives(stage));
}

/** By ceremony, until somebody enforces again. */
export async function release(stage: Stage): Promise<void> {
  const { guest, check } = stage;
  const released = await stage.ceremony("maintenance", "release");
  check("an operator releases the host by ceremony", released.code === 0, released);
  await stage.checkPaths("AIRGAP, released", "all");
  await lastChange(stage, "enforcing", "released", "always");
  const tables = await guest.run("nft list tables | grep boundary; ls /var/lib/boundary-daemon");
  check(
    "no rules of ours are in the kernel, and no mark is left",
    !/table|enforced/.test(tables.stdout),
    tables,
  );
  await guest.ok("systemctl restart boundary-daemon", 300);
  await stage.daemonUp();
  const status = await stage.status();
  check(
    "a restart keeps it released",
    status.mode.hold === "released" && status.mode.wanted === "AIRGAP",
    status.mode,
  );
  await stage.checkPaths("AIRGAP, released, after a restart", "all");
  const enforced = await stage.ctl("enforce", "--reason", "done");
  check("an operator enforces again", enforced.code === 0, enforced);
  await stage.checkPaths("AIRGAP, enforced again", "loopback only");
  const closed = await waitInside(
    guest,
    "[ $(cat /sys/bus/usb/devices/usb*/authorized_default | sort -u) = 0 ]",
    10,
  );
  check("and every controller is closed again", closed);
  await stage.ctl("mode", "set", "RESTRICTED", "--reason", "the test goes on");
}

async function lastChange(stage: Stage, from: string, to: string, lasts: string): Promise<void> {
  const last = (await stage.records("hold.changed")).at(-1)?.data;
  const held = last?.["from"] === from && last["to"] === to && last["lasts"] === lasts;
  stage.check(`the log has it: hold.changed from ${from} to ${to}, lasts ${lasts}`, held, last);
}

async function isHold(stage: Stage, hold: string): Promise<boolean> {
  return (await stage.status()).mode.hold === hold;
}

function inShadow({ code, stdout }: { readonly code: number; readonly stdout: string }): boolean {
  return code === 0 && stdout.includes("observed") && stdout.includes("shadow");
}
