import { createHash } from "node:crypto";

/** What the hash of a device is made of, as sysfs has it (without the line break at the end of each file). */
export type UsbHashParts = {
  /** `product`, "" where there is none. */
  readonly name: string;
  /** `idVendor`, `idProduct`: four hex digits, lower case. */
  readonly vendor: string;
  readonly product: string;
  /** "" where there is none. */
  readonly serial: string;
  /** `descriptors`, as it is; only what parseDescriptors reads without a problem has a hash. */
  readonly descriptors: Uint8Array;
};

const ROOT_HUBS = ["0001", "0002", "0003"];
const BCD_DEVICE = 12;

/**
 * USBGuard's hash of a device: SHA-256 over name, vendor, product, serial, and the bytes of its descriptors, one after
 * the other, in base64. Of the kernel's own root hubs the device release (bytes 12 and 13: the kernel's version) counts
 * as zero. tests/vectors/usb/hashes.json has values that USBGuard gave.
 *
 * A device says all of this of itself: the hash tells one model or piece from another, and proves nothing.
 */
export function hashUsbDevice({ name, vendor, product, serial, descriptors }: UsbHashParts): string {
  const bytes = Uint8Array.from(descriptors);
  if (vendor === "1d6b" && ROOT_HUBS.includes(product)) bytes.fill(0, BCD_DEVICE, BCD_DEVICE + 2);
  return createHash("sha256")
    .update(name + vendor + product + serial, "utf8")
    .update(bytes)
    .digest("base64");
}

/**
 * `parent-hash` of a root hub: of the path of the controller it belongs to, in sysfs and without "/sys":
 * "/devices/pci0000:00/0000:00:14.0". Early versions of USBGuard hashed it with "/sys".
 */
export function hashUsbController(path: string): string {
  return createHash("sha256").update(path, "utf8").digest("base64");
}
