import type { Stage } from "./stage.ts";
import { DEVICES, portOf } from "./usb.ts";

/** A device made by the kernel's own gadget drivers, on a bus that only exists in memory. */
export type Gadget = {
  plug(serial: string, product: string): Promise<string>;
  unplug(): Promise<void>;
  /** Again and again, each time until the kernel has it and a moment longer. Gives how often the kernel had it. */
  replug(serial: string, product: string, times: number): Promise<number>;
};

const AT = "/sys/kernel/config/usb_gadget/both";
/** HID 1.11, appendix E.6: the report descriptor of a keyboard of the boot protocol, without its lamps. */
const REPORT = "05010906a101050719e029e71500250175019508810295017508810195067508150025650507190029658100c0";

/**
 * Loads a keyboard, or a keyboard and a disk in one device. A bus more is there then: closed like the others before
 * anything is plugged in. What is written to /dev/hidg0 is typed.
 */
export async function gadget({ guest, check }: Stage, kind: "keyboard" | "both"): Promise<Gadget> {
  const bytes = REPORT.replaceAll(/../g, String.raw`\x$&`);
  await guest.ok(
    `for i in dummy_hcd libcomposite usb_f_hid usb_f_mass_storage; do modprobe $i; done
     truncate -s 1M /root/disk.img
     mkdir -p ${AT} && cd ${AT} && echo 0x1d6b >idVendor
     mkdir -p strings/0x409 configs/c.1 functions/hid.usb0 functions/mass_storage.usb0
     echo both >strings/0x409/product
     cd functions/hid.usb0 && echo 1 >protocol && echo 1 >subclass && echo 8 >report_length && printf '${bytes}' >report_desc
     cd ../mass_storage.usb0 && echo /root/disk.img >lun.0/file
     cd ../.. && ln -s functions/hid.usb0 configs/c.1/
     ${kind === "both" ? "ln -s functions/mass_storage.usb0 configs/c.1/" : "true"}
     udevadm settle -t 30; sleep 2`,
    120,
  );
  const closed = await guest.ok(`cat ${DEVICES}/usb*/*authorized_default | sort -u`);
  check("a controller that is added is closed too", closed.trim() === "0", closed);
  const named = (serial: string, product: string) =>
    `cd ${AT} && echo ${product} >idProduct && echo ${serial} >strings/0x409/serialnumber`;
  return {
    plug: async (serial, product) => {
      await guest.ok(
        `${named(serial, product)} && ls /sys/class/udc >UDC
         for i in $(seq 100); do grep -qlx ${serial} ${DEVICES}/*/serial && exit 0; sleep 0.1; done; exit 1`,
      );
      return portOf(guest, serial);
    },
    unplug: async () => {
      await guest.ok(`echo >${AT}/UDC; sleep 1`);
    },
    replug: async (serial, product, times) => {
      const seen = await guest.ok(
        `${named(serial, product)}; udc=$(ls /sys/class/udc); seen=0
         port=
         for i in $(seq ${times}); do
           echo $udc >UDC
           for j in $(seq 100); do
             [ -n "$port" ] || { file=$(grep -lx ${serial} ${DEVICES}/*/serial) && port=$(dirname $file); }
             [ -n "$port" ] && [ -e $port/serial ] && { seen=$((seen + 1)); break; }
             sleep 0.05
           done
           sleep 0.3
           [ ! -e /sys/block/sda ] || seen=-1000
           echo >UDC
           while [ -e $port ]; do sleep 0.05; done
         done
         echo $seen`,
        300,
      );
      return Number(seen);
    },
  };
}
