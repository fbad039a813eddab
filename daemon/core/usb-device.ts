import type { Facts } from "./signal.ts";

/** A USB device, as sysfs shows it. */
export type UsbDevice = {
  /** Where it is plugged in: "usb1" (a root hub), "1-2", "1-2.4". */
  readonly port: string;
  /** Four hex digits; "????" when sysfs says something else. */
  readonly vendor: string;
  readonly product: string;
  /** "class:subclass:protocol" of each interface, hex, sorted: "03:01:01 08:06:50". "09:00:00" is a hub. */
  readonly classes: string;
  /** Tells one device from the next at the same port: the kernel counts them up. */
  readonly number: string;
};

/** What was read of one device directory: null for a file that is missing or unreadable. */
export type UsbFiles = {
  readonly port: string;
  readonly idVendor: string | null;
  readonly idProduct: string | null;
  readonly devnum: string | null;
  readonly interfaces: readonly {
    readonly bInterfaceClass: string | null;
    readonly bInterfaceSubClass: string | null;
    readonly bInterfaceProtocol: string | null;
  }[];
};

const PORT = /^(usb\d{1,5}|\d{1,5}-\d{1,3}(\.\d{1,3}){0,6})$/;
const UNKNOWN_ID = "????";
const UNKNOWN_CLASS = "??";

/** Is this name in /sys/bus/usb/devices a device? "1-2:1.0" is one of its interfaces. */
export function isDeviceName(name: string): boolean {
  return PORT.test(name);
}

/** Is this name an interface of that device? */
export function isInterfaceOf(port: string, name: string): boolean {
  // a root hub "usb1" has "1-0:1.0"
  const prefix = port.startsWith("usb") ? `${port.slice(3)}-0:` : `${port}:`;
  return name.startsWith(prefix) && /^\d{1,3}\.\d{1,3}$/.test(name.slice(prefix.length));
}

/** Reads what sysfs says, which a device has a hand in: anything but short hex becomes question marks, and matches no list. */
export function toUsbDevice(files: UsbFiles): UsbDevice {
  const classes = files.interfaces.map((one) =>
    [one.bInterfaceClass, one.bInterfaceSubClass, one.bInterfaceProtocol].map(toClass).join(":"),
  );
  const number = files.devnum?.trim() ?? "";
  return {
    port: files.port,
    vendor: toId(files.idVendor),
    product: toId(files.idProduct),
    classes: [...new Set(classes)].toSorted().join(" "),
    number: /^\d{1,5}$/.test(number) ? number : "",
  };
}

/**
 * The facts of `usb.device` signals that lead from one list to the next. Another device at the same port is one
 * detached and one attached. A device that shows other interfaces (they come after it, and may be changed later) is
 * attached once more, with those.
 */
export function diffDevices(before: readonly UsbDevice[], after: readonly UsbDevice[]): readonly Facts[] {
  const was = new Map(before.map((device) => [keyOf(device), device]));
  const is = new Set(after.map(keyOf));
  return [
    ...before.filter((device) => !is.has(keyOf(device))).map((device) => toFacts(device, "detached")),
    ...after
      .filter((device) => was.get(keyOf(device))?.classes !== device.classes)
      .map((device) => toFacts(device, "attached")),
  ];
}

function toFacts({ port, vendor, product, classes }: UsbDevice, change: "attached" | "detached"): Facts {
  return { change, port, vendor, product, classes };
}

function keyOf(device: UsbDevice): string {
  return JSON.stringify([device.port, device.number, device.vendor, device.product]);
}

function toId(text: string | null): string {
  const id = text?.trim().toLowerCase() ?? "";
  return /^[0-9a-f]{4}$/.test(id) ? id : UNKNOWN_ID;
}

function toClass(text: string | null): string {
  const code = text?.trim().toLowerCase() ?? "";
  return /^[0-9a-f]{2}$/.test(code) ? code : UNKNOWN_CLASS;
}
