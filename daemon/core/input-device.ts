import { isDeviceName, isInterfaceOf } from "./usb-device.ts";

/** Digits and letters (linux/input-event-codes.h): 2 to 11, 16 to 25, 30 to 38, 44 to 50. Whatever has one can type. */
const TYPING_KEYS = keys(2, 11) | keys(16, 25) | keys(30, 38) | keys(44, 50);

/**
 * Whether an input device can type, by its `capabilities/key` in sysfs: 64-bit words in hex, the lowest last. Volume
 * wheels, power buttons, mice and keypads cannot. A device chooses its keys itself, so it is not asked for all of a
 * keyboard's. What cannot be read is taken for one that can.
 */
export function isKeyboard(capabilities: string | null): boolean {
  const lowest = capabilities?.trim().split(/\s+/).at(-1) ?? "";
  if (!/^[0-9a-f]{1,16}$/.test(lowest)) return true;
  return (BigInt(`0x${lowest}`) & TYPING_KEYS) !== 0n;
}

function keys(first: number, last: number): bigint {
  return (1n << BigInt(last + 1)) - (1n << BigInt(first));
}

/**
 * The USB device that an input device belongs to, from its real path in sysfs
 * ("/sys/devices/…/usb1/1-2/1-2:1.0/0003:…/input/input5"): its directory and port. Null for one that hangs on
 * something else (PS/2, Bluetooth, uinput).
 */
export function usbPlaceOf(path: string): { readonly port: string; readonly directory: string } | null {
  const parts = path.split("/");
  const at = parts.findLastIndex((part, index) => {
    const device = parts[index - 1] ?? "";
    return isDeviceName(device) && isInterfaceOf(device, part);
  });
  const port = parts[at - 1];
  return at < 1 || port === undefined ? null : { port, directory: parts.slice(0, at).join("/") };
}

/** Whether a device is exempt: "1050:0407" or, with any product, "1050:*". `id`: four hex digits twice, lower case. */
export function isExempt(id: string, exempt: readonly string[]): boolean {
  return exempt.some((one) => (one.endsWith(":*") ? id.startsWith(one.slice(0, -1)) : id === one));
}
