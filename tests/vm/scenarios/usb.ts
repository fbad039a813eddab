import { until } from "../guest.ts";
import type { Stage } from "../stage.ts";
import { DEVICES, prepareUsb, USB_KINDS } from "../usb.ts";

/** Each device comes, is the kernel's, is refused, and belongs to the daemon's group as far as deciding over it goes. */
export async function usb(stage: Stage): Promise<void> {
  const { guest, check } = stage;
  const sockets = await prepareUsb(guest);
  const before = await count(stage);
  for (const kind of USB_KINDS) await sockets.plug(kind);
  const all = await until(async () => (await count(stage)) === before + USB_KINDS.length, 60_000);
  check(`${USB_KINDS.join(", ")}: the kernel has all of them`, all, await guest.run(`ls ${DEVICES}`));
  await guest.ok("udevadm settle -t 30; sleep 2.5", 60);
  const authorized = await guest.ok(`cd ${DEVICES} && grep -l 1 [0-9]*-*/authorized | grep -vc : || true`);
  check(
    "none of them is authorised: the operator's keyboard is the only one",
    authorized.trim() === "1",
    await guest.ok(`cd ${DEVICES} && grep . [0-9]*-*/authorized [0-9]*-*/product`),
  );
  const block = await guest.run("ls /sys/block/sd* /dev/ttyUSB*");
  check("no disk and no serial line", block.stdout.trim() === "", block.stdout);
  const wrong = await guest.ok(
    `cd ${DEVICES}
     stat -L -c '%n %G %a' */authorized */authorized_default */interface_authorized_default | grep -v ' boundary-usb 664$'
     stat -L -c '%n %G %a' */remove | grep -v ' boundary-usb 220$'
     true`,
  );
  check("what decides over a device or an interface belongs to the daemon's group", wrong === "", wrong);
  const blocked = await until(async () => {
    const records = (await stage.records("usb.decided")).slice(-USB_KINDS.length);
    return records.every(({ data }) => data["target"] === "block" && data["applied"] === "confirmed");
  }, 30_000);
  check("the log has of each that it is blocked, and that the kernel has confirmed it", blocked);
  const noted = (await stage.records("tripwire.noted")).length;
  check("and the tripwire that notes what is plugged in has fired", noted >= USB_KINDS.length, noted);
  // the last first: what hangs on the hub would go with it
  for (const kind of USB_KINDS.toReversed()) await sockets.unplug(kind);
}

async function count({ guest }: Stage): Promise<number> {
  return Number(await guest.ok(`ls -d ${DEVICES}/[0-9]*-[0-9]* | grep -vc : || true`));
}
