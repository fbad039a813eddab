/**
 * A USB device as the rules see it: the attributes of USBGuard's rule language (usbguard-rules.conf(5)), taken from
 * sysfs. A device has a hand in what it says of itself, so every text is bounded and checked where it is read.
 */
export type UsbFacts = {
  /** Where it is plugged in, the name in sysfs: "usb1" (a root hub), "1-2", "1-2.4". Also `via-port`. */
  readonly port: string;
  /** "1d6b:0002": vendor and product, four hex digits each, lower case; "????" for what sysfs does not say. */
  readonly id: string;
  readonly name: string;
  readonly serial: string;
  /** USBGuard's hash, base64 of SHA-256; "" when the descriptors could not be read. */
  readonly hash: string;
  /** The hash of the device it is plugged into; "" for a root hub and when that is not known. */
  readonly parentHash: string;
  /** "08:06:50" of each interface of every configuration, hex, in the order of the descriptors. */
  readonly interfaces: readonly string[];
  /** As sysfs says: "hotplug", "hardwired", "not used", "unknown"; "" when it says nothing. */
  readonly connectType: string;
};

/** What a rule says of a device. block: stays there, not authorised. reject: removed from the bus. */
export type UsbTarget = "allow" | "block" | "reject";
