import { createHash } from "node:crypto";
import type { UsbFacts } from "./usb-facts.ts";

const ROOT_HUBS = ["1d6b:0001", "1d6b:0002", "1d6b:0003"];
const RELEASE = { from: 12, to: 14 } as const;

/**
 * USBGuard's hash of a device: SHA-256 over name, vendor, product and serial as sysfs has them (without line breaks; ""
 * for what is not there), then the bytes of its descriptors, one after the other, in base64. Of the kernel's own root
 * hubs the release (bytes 12 and 13, the kernel's version) counts as zero. Of descriptors that do not add up USBGuard
 * makes none. tests/vectors/usb/hashes.json has values that it gave.
 *
 * A device says all of this of itself: the hash tells one model or piece from another, and proves nothing.
 */
export function usbHash(
  { id, name, serial }: Pick<UsbFacts, "id" | "name" | "serial">,
  descriptors: Uint8Array,
): string {
  const bytes = Uint8Array.from(descriptors);
  if (ROOT_HUBS.includes(id)) bytes.fill(0, RELEASE.from, RELEASE.to);
  return createHash("sha256")
    .update(name + id.replace(":", "") + serial, "utf8")
    .update(bytes)
    .digest("base64");
}

/**
 * `parent-hash` of a root hub: that of the path of its controller in sysfs, without "/sys":
 * "/devices/pci0000:00/0000:00:14.0". Old versions of USBGuard hashed it with "/sys" (its issue 374).
 */
export function usbControllerHash(path: string): string {
  return createHash("sha256").update(path, "utf8").digest("base64");
}
