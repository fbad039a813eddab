/** One interface as the descriptors tell it: its name in sysfs, and what it can be. */
export type DescribedInterface = {
  /** "1-2:1.0": port, configuration value, number. */
  readonly name: string;
  /** "08:06:50" for each alternate setting, in the order of the descriptors: the driver may choose any of them. */
  readonly codes: readonly string[];
};

export type DescribedInterfaces =
  | { readonly ok: true; readonly interfaces: readonly DescribedInterface[] }
  | { readonly ok: false; readonly problem: string };

const DEVICE = 1;
const CONFIGURATION = 2;
const INTERFACE = 4;
const DEVICE_BYTES = 18;
const LEAST_BYTES = 9; // of a configuration and of an interface descriptor
const MAX_INTERFACES = 256;

/**
 * The interfaces that a device of this port has in all its configurations, from sysfs' `descriptors` file (USB 2.0,
 * chapter 9.6): also of a device that is not authorised, which has none in sysfs. Whatever does not add up is a problem:
 * a device that cannot be understood is not let in. Of a file that was cut short the missing part could be a storage.
 */
export function describeInterfaces(port: string, bytes: Uint8Array): DescribedInterfaces {
  if (bytes.length < DEVICE_BYTES || bytes[0] !== DEVICE_BYTES || bytes[1] !== DEVICE)
    return problem("they do not begin with a device descriptor");
  const found = new Map<string, string[]>();
  const configurations = bytes[17] ?? 0;
  let at = DEVICE_BYTES;
  let seen = 0;
  while (at < bytes.length) {
    const length = bytes[at] ?? 0;
    if (length < LEAST_BYTES || bytes[at + 1] !== CONFIGURATION || at + length > bytes.length)
      return problem(`no configuration descriptor at byte ${at}`);
    const end = at + (bytes[at + 2] ?? 0) + 256 * (bytes[at + 3] ?? 0);
    if (end > bytes.length || end < at + length)
      return problem(`the configuration at byte ${at} is not as long as it says`);
    const fault = readConfiguration(port, bytes.subarray(at, end), found);
    if (fault !== null) return problem(`${fault}, in the configuration at byte ${at}`);
    at = end;
    seen += 1;
  }
  if (seen === 0 || seen !== configurations)
    return problem(`${seen} configurations, and the device says ${configurations}`);
  return { ok: true, interfaces: [...found].map(([name, codes]) => ({ name, codes })) };
}

function readConfiguration(port: string, bytes: Uint8Array, found: Map<string, string[]>): string | null {
  const value = bytes[5] ?? 0;
  for (let at = bytes[0] ?? 0; at < bytes.length; at += bytes[at] ?? 0) {
    const length = bytes[at] ?? 0;
    if (length < 2 || at + length > bytes.length) return `a descriptor of ${length} bytes`;
    if (bytes[at + 1] !== INTERFACE) continue;
    if (length < LEAST_BYTES) return `an interface descriptor of ${length} bytes`;
    const name = `${port}:${value}.${bytes[at + 2] ?? 0}`;
    const codes = found.get(name) ?? [];
    codes.push([5, 6, 7].map((offset) => hex(bytes[at + offset] ?? 0)).join(":"));
    found.set(name, codes);
    if (found.size > MAX_INTERFACES) return `more than ${MAX_INTERFACES} interfaces`;
  }
  return null;
}

function hex(byte: number): string {
  return byte.toString(16).padStart(2, "0");
}

function problem(what: string): DescribedInterfaces {
  return { ok: false, problem: `the descriptors cannot be read: ${what}` };
}
