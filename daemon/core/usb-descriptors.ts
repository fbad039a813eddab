/** What the descriptors of a device say (sysfs: `descriptors`), so far as rules ask. */
export type UsbDescriptors = {
  /** Four hex digits, lower case; "" when even the device descriptor could not be read. */
  readonly idVendor: string;
  readonly idProduct: string;
  /** Two hex digits: "00" where each interface has its own, "09" a hub, "ef" a composite; "" as above. */
  readonly deviceClass: string;
  /** "08:06:50" of every interface descriptor in the order of the bytes, each alternate setting and configuration too. */
  readonly interfaces: readonly string[];
  /** null: read to the last byte. Else the rest says nothing that may be relied upon: treat the device as unknown. */
  readonly problem: string | null;
};

/** The kernel reads at most eight configurations of at most 65,535 bytes each. */
export const MOST_DESCRIPTOR_BYTES = 18 + 8 * 65_535;
const MOST_INTERFACES = 512;

const DEVICE = { type: 1, size: 18 } as const;
const CONFIGURATION = { type: 2, size: 9 } as const;
const INTERFACE = { type: 4, size: 9 } as const;

/**
 * Reads the bytes of sysfs' `descriptors`: the device descriptor, then each configuration with all that is in it. They
 * come from the device: whatever they are, this ends, throws nothing, and says so where they do not add up.
 */
export function parseDescriptors(bytes: Uint8Array): UsbDescriptors {
  const none = { idVendor: "", idProduct: "", deviceClass: "", interfaces: [] };
  if (bytes.length > MOST_DESCRIPTOR_BYTES) return { ...none, problem: "more bytes than a device can have" };
  if (bytes.length < DEVICE.size || at(bytes, 0) !== DEVICE.size || at(bytes, 1) !== DEVICE.type) {
    return { ...none, problem: "no device descriptor at the beginning" };
  }
  const walked = walk(bytes);
  const promised = at(bytes, 17);
  const missing =
    walked.configurations === promised
      ? null
      : `${walked.configurations} configurations where the device promised ${promised}`;
  return {
    idVendor: word(bytes, 8),
    idProduct: word(bytes, 10),
    deviceClass: hex(at(bytes, 4)),
    interfaces: walked.interfaces,
    problem: walked.problem ?? missing,
  };
}

type Walked = {
  readonly interfaces: readonly string[];
  readonly configurations: number;
  readonly problem: string | null;
};

function walk(bytes: Uint8Array): Walked {
  const interfaces: string[] = [];
  let configurations = 0;
  let offset: number = DEVICE.size;
  const stop = (problem: string): Walked => ({
    interfaces,
    configurations,
    problem: `byte ${offset}: ${problem}`,
  });
  while (offset < bytes.length) {
    const size = at(bytes, offset);
    const type = at(bytes, offset + 1);
    if (size < 2) return stop("a descriptor shorter than its header");
    if (offset + size > bytes.length) return stop("a descriptor longer than what is there");
    if (type === DEVICE.type) return stop("a second device descriptor");
    if (type === CONFIGURATION.type) {
      if (size < CONFIGURATION.size) return stop("a configuration descriptor that is too short");
      configurations++;
    }
    if (type === INTERFACE.type) {
      if (size < INTERFACE.size) return stop("an interface descriptor that is too short");
      if (configurations === 0) return stop("an interface before any configuration");
      if (interfaces.length >= MOST_INTERFACES) return stop(`more than ${MOST_INTERFACES} interfaces`);
      interfaces.push([5, 6, 7].map((field) => hex(at(bytes, offset + field))).join(":"));
    }
    offset += size;
  }
  return { interfaces, configurations, problem: null };
}

function at(bytes: Uint8Array, index: number): number {
  return bytes[index] ?? 0;
}

function hex(byte: number): string {
  return byte.toString(16).padStart(2, "0");
}

/** Two bytes, the low one first. */
function word(bytes: Uint8Array, index: number): string {
  return `${hex(at(bytes, index + 1))}${hex(at(bytes, index))}`;
}
