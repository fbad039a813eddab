import { until } from "../guest.ts";
import type { Stage } from "../stage.ts";
import { prepareUsb, USB_KINDS, type UsbSockets } from "../usb.ts";

const DEVICES = "/sys/bus/usb/devices";
const SERIAL = "BD-VM-1";
const STATE = "/var/lib/boundary-daemon";

/** What the daemon needs of udev, and what udev does where the mark says that USB is enforced. */
export async function usb(stage: Stage): Promise<void> {
  const sockets = await prepareUsb(stage.guest);
  await everyKind(stage, sockets);
  await closedByMark(stage, sockets);
  await tripped(stage, sockets);
}

/** Each device comes, is the kernel's, and belongs to the daemon's group as far as deciding over it goes. */
async function everyKind(stage: Stage, sockets: UsbSockets): Promise<void> {
  const { guest, check } = stage;
  const before = await count(stage);
  for (const kind of USB_KINDS) await sockets.plug(kind, kind === "storage" ? { serial: SERIAL } : {});
  const all = await until(async () => (await count(stage)) === before + USB_KINDS.length, 60_000);
  check(`${USB_KINDS.join(", ")}: the kernel has all of them`, all, await guest.run(`ls ${DEVICES}`));
  const block = await until(() => isThere(stage, "/sys/block/sda"), 30_000);
  check("without rules a stick becomes a block device", block);
  await guest.ok("udevadm settle -t 30", 60);
  const wrong = await guest.ok(
    `cd ${DEVICES}
     stat -L -c '%n %G %a' */authorized */authorized_default */interface_authorized_default | grep -v ' boundary-usb 664$'
     stat -L -c '%n %G %a' */remove | grep -v ' boundary-usb 220$'
     true`,
  );
  check("what decides over a device or an interface belongs to the daemon's group", wrong === "", wrong);
  const noted = await until(
    async () => (await stage.records("tripwire.noted")).length >= USB_KINDS.length,
    30_000,
  );
  check("the daemon has seen each of them", noted, await stage.records("tripwire.noted"));
  // the last first: what hangs on the hub would go with it
  for (const kind of USB_KINDS.toReversed()) await sockets.unplug(kind);
}

/** The rule alone, without the daemon: a new device on a closed controller is not authorised until somebody says so. */
async function closedByMark(stage: Stage, sockets: UsbSockets): Promise<void> {
  const { guest, check } = stage;
  await guest.ok(
    `touch ${STATE}/usb-enforced && udevadm trigger --settle --action=add --subsystem-match=usb`,
  );
  const closed = await guest.ok(
    `cat ${DEVICES}/usb*/authorized_default ${DEVICES}/usb*/interface_authorized_default | sort -u`,
  );
  check("with the mark every controller is closed", closed.trim() === "0", closed);
  await sockets.plug("storage", { serial: SERIAL });
  const device = `$(dirname $(grep -lx ${SERIAL} ${DEVICES}/*/serial))`;
  const there = await until(async () => (await guest.run(`cat ${device}/authorized`)).code === 0, 30_000);
  await guest.ok("udevadm settle -t 30; sleep 2", 60);
  const state = await guest.run(`cat ${device}/authorized`);
  check(
    "a stick is there, not authorised, and no block device",
    there && state.stdout.trim() === "0" && !(await isThere(stage, "/sys/block/sda")),
    state,
  );
  await guest.ok(
    `cd ${device}
     as() { setpriv --reuid boundary --regid boundary --clear-groups bash -c "$1"; }
     as 'echo 1 >authorized'; udevadm settle -t 30
     for i in *:*; do as "echo 1 >$i/authorized; echo $i >${DEVICES}/../drivers_probe"; done`,
    60,
  );
  check(
    "authorised by the daemon's user, device and interfaces, it becomes one",
    await until(() => isThere(stage, "/sys/block/sda"), 30_000),
  );
  await sockets.unplug("storage");
  await guest.ok(
    `rm ${STATE}/usb-enforced; for i in ${DEVICES}/usb*/; do echo 1 >$i/authorized_default; echo 1 >$i/interface_authorized_default; done`,
  );
}

/** In a closed mode something new on USB is a violation, whoever refuses it. */
async function tripped(stage: Stage, sockets: UsbSockets): Promise<void> {
  const set = await stage.ctl("mode", "set", "AIRGAP", "--reason", "the test asks for it");
  stage.check("an operator sets AIRGAP", set.code === 0, set);
  await sockets.plug("mouse");
  const fell = await until(async () => {
    const last = (await stage.records("mode.applied")).at(-1);
    return last?.data["mode"] === "LOCKDOWN";
  }, 30_000);
  stage.check("something plugged in while in AIRGAP: LOCKDOWN", fell, await stage.records("mode.applied"));
  await stage.checkPaths("LOCKDOWN after a tripwire", "nothing");
  await sockets.unplug("mouse");
}

async function count({ guest }: Stage): Promise<number> {
  return Number(await guest.ok(`ls -d ${DEVICES}/[0-9]*-[0-9]* | grep -vc : || true`));
}

async function isThere({ guest }: Stage, path: string): Promise<boolean> {
  return (await guest.run(`test -e ${path}`)).code === 0;
}
