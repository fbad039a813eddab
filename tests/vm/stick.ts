import { until } from "./guest.ts";
import { type Stage, waitInside } from "./stage.ts";
import { DEVICES, portOf, type UsbSockets } from "./usb.ts";

/**
 * The stick, plugged in under one serial number or another: the log tells the same of the same device once a minute, so
 * what is to be told anew has a number of its own.
 */

/** What udev and a storage driver take, several times over: usb-storage waits a second before it looks. */
const SETTLE = "udevadm settle -t 30; sleep 2.5";

/** Plugs it in, and waits until the kernel has it. Gives its port. */
export async function plugStick({ guest }: Stage, sockets: UsbSockets, serial: string): Promise<string> {
  await sockets.plug("storage", { serial });
  if (await waitInside(guest, `grep -qlx ${serial} ${DEVICES}/*/serial`, 30)) return portOf(guest, serial);
  throw new Error("the kernel does not see the stick");
}

export async function becomesDisk({ guest }: Stage): Promise<boolean> {
  return waitInside(guest, "test -e /sys/block/sda", 15);
}

/** Plugs it in, and checks by sysfs and by the log that it is kept out. Gives its port. */
export async function stickIsRefused(
  stage: Stage,
  sockets: UsbSockets,
  serial: string,
  when: string,
): Promise<string> {
  const port = await plugStick(stage, sockets, serial);
  await stickStaysOut(stage, serial, when);
  await blockedInLog(stage, serial, when);
  return port;
}

/** Checks that the stick, which is there, is not authorised and no block device. */
export async function stickStaysOut(stage: Stage, serial: string, when: string): Promise<void> {
  const { guest, check } = stage;
  await guest.ok(SETTLE, 60);
  const isOut = !(await isAuthorized(stage, await portOf(guest, serial))) && !(await isDisk(stage));
  check(`a stick ${when} is not authorised, and no block device`, isOut, await guest.run("ls /sys/block"));
}

/** Checks that the newest decision about it is that it is blocked, and that the kernel confirmed it. */
export async function blockedInLog(stage: Stage, serial: string, when: string): Promise<void> {
  const newest = async () =>
    (await stage.records("usb.decided")).findLast(({ data }) => data["serial"] === serial)?.data;
  const told = await until(async () => (await newest())?.["applied"] === "confirmed", 20_000);
  const last = await newest();
  stage.check(`a stick ${when}: the log has that it is blocked`, told && last?.["target"] === "block", last);
}

export async function isDisk({ guest }: Stage): Promise<boolean> {
  return (await guest.run("test -e /sys/block/sda || grep -q sda /proc/partitions")).code === 0;
}

export async function isAuthorized({ guest }: Stage, port: string): Promise<boolean> {
  return (await guest.ok(`cat ${DEVICES}/${port}/authorized`)).trim() === "1";
}
