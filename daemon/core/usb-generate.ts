import type { UsbFacts } from "./usb-facts.ts";
import type { UsbAttribute, UsbAttributeName, UsbRule } from "./usb-rule.ts";
import { renderUsbRule } from "./usb-rule-render.ts";
import { isUnknown, valuesOf } from "./usb-rule-set.ts";
import { showText } from "./usb-rule-text.ts";

type GenerateOptions = {
  /** Every device only at the port it is at now, not just those without a serial. */
  readonly withPorts: boolean;
  /** With the hash of each device, and of what it is plugged into where it is bound to a port. */
  readonly withHashes: boolean;
};

const HEADER = `# What was plugged in when this was made, and nothing else: the first rule that matches decides, and what none
# matches is blocked. Read it before it is used: it allows whatever was there, wanted or not.
# A device without a serial is allowed at its present port only: another of its kind could not be told from it.
`;

/**
 * A rules file that allows the devices given, as USBGuard's generate-policy does: controllers first, then by port. A
 * device of which something is not known gets a comment in place of a rule.
 */
export function generatePolicy(devices: readonly UsbFacts[], options: GenerateOptions): string {
  const lines = devices.toSorted(byPort).map((device) => {
    const missing = whatIsMissing(device, options);
    if (missing === null) return renderUsbRule(ruleFor(device, options));
    return `# ${showText(device.port)}: not proposed, since its ${missing} could not be read`;
  });
  return `${HEADER}${lines.map((line) => `${line}\n`).join("")}`;
}

function ruleFor(device: UsbFacts, options: GenerateOptions): UsbRule {
  // a controller's number changes from boot to boot: it is told by its serial, and by the hash of its place
  const bound = !isController(device) && (options.withPorts || device.serial === "");
  const hashes: readonly UsbAttributeName[] = [
    "hash",
    ...(device.parentHash === "" ? [] : (["parent-hash"] as const)),
  ];
  const names: readonly UsbAttributeName[] = [
    "id",
    "serial",
    "name",
    ...(options.withHashes ? hashes.slice(0, bound || isController(device) ? 2 : 1) : []),
    ...(bound ? (["via-port"] as const) : []),
    "with-interface",
    "with-connect-type",
  ];
  const attributes: readonly UsbAttribute[] = names.map((name) => ({
    name,
    operator: "equals",
    values: valuesOf(device, name),
  }));
  return { line: 0, target: "allow", attributes, conditions: null, label: null };
}

function whatIsMissing(device: UsbFacts, { withHashes }: GenerateOptions): string | null {
  const needed: readonly UsbAttributeName[] = [
    "id",
    "with-interface",
    "via-port",
    ...(withHashes ? (["hash"] as const) : []),
  ];
  return needed.find((name) => isUnknown(name, valuesOf(device, name))) ?? null;
}

function isController(device: UsbFacts): boolean {
  return device.port.startsWith("usb");
}

/** Controllers first, then "1-2" before "1-2.1" before "1-10". */
function byPort(a: UsbFacts, b: UsbFacts): number {
  return (
    Number(isController(b)) - Number(isController(a)) || compareNumbers(numbersOf(a.port), numbersOf(b.port))
  );
}

function numbersOf(port: string): readonly number[] {
  return port.match(/\d+/g)?.map(Number) ?? [];
}

function compareNumbers(a: readonly number[], b: readonly number[]): number {
  for (const [index, one] of a.entries()) {
    const other = b[index];
    if (other === undefined) return 1;
    if (one !== other) return one - other;
  }
  return a.length - b.length;
}
