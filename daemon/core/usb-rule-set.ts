import type { UsbFacts } from "./usb-facts.ts";
import type { UsbAttribute, UsbAttributeName, UsbOperator } from "./usb-rule.ts";

/** What a device has of an attribute: one value, or for `with-interface` as many as it has. */
export function valuesOf(device: UsbFacts, name: UsbAttributeName): readonly string[] {
  switch (name) {
    case "id":
      return [device.id];
    case "hash":
      return [device.hash];
    case "parent-hash":
      return [device.parentHash];
    case "name":
      return [device.name];
    case "serial":
      return [device.serial];
    case "via-port":
      return [device.port];
    case "with-interface":
      return device.interfaces;
    case "with-connect-type":
      return [device.connectType];
  }
}

/**
 * Is that a value we did not get? "" is a value of a name, a serial or a connect type (it has none); a device has a hash,
 * an id, a port and an interface, so without one it is not known what it is.
 */
export function isUnknown(name: UsbAttributeName, values: readonly string[]): boolean {
  switch (name) {
    case "name":
    case "serial":
    case "with-connect-type":
      return false;
    case "id":
    case "with-interface":
      return values.length === 0 || values.some((value) => value === "" || value.includes("?"));
    case "hash":
    case "parent-hash":
    case "via-port":
      return values.every((value) => value === "");
  }
}

/** Does the set of an attribute hold for these values of a device? */
export function holds(attribute: UsbAttribute, values: readonly string[]): boolean {
  const fits = attribute.name === "id" || attribute.name === "with-interface" ? fitsPattern : isSame;
  return holdsFor(attribute.operator, attribute.values, values, fits);
}

type Fits = (wanted: string, has: string) => boolean;

function holdsFor(
  operator: UsbOperator,
  wanted: readonly string[],
  has: readonly string[],
  fits: Fits,
): boolean {
  switch (operator) {
    case "all-of":
      return wanted.every((one) => has.some((value) => fits(one, value)));
    case "one-of":
      return wanted.some((one) => has.some((value) => fits(one, value)));
    case "none-of":
      return !wanted.some((one) => has.some((value) => fits(one, value)));
    case "match-all":
      return has.every((value) => wanted.some((one) => fits(one, value)));
    case "equals-ordered":
      return wanted.length === has.length && wanted.every((one, index) => fits(one, has[index] ?? ""));
    case "equals":
      return wanted.length === has.length && pairs(wanted, has, fits);
  }
}

/**
 * Can each wanted value be given one of its own? What two patterns fit is nested or apart, so the narrowest may choose
 * first, and any choice is right. (USBGuard lets two wanted values share one: its `{ 08:06:50 08:06:50 }` also fits a
 * stick with a keyboard in it.)
 */
function pairs(wanted: readonly string[], has: readonly string[], fits: Fits): boolean {
  const left = [...has];
  return wanted
    .toSorted((a, b) => stars(a) - stars(b))
    .every((one) => {
      const index = left.findIndex((value) => fits(one, value));
      if (index === -1) return false;
      left.splice(index, 1);
      return true;
    });
}

function stars(pattern: string): number {
  return pattern.split("*").length;
}

/** "08:*:*" fits "08:06:50": in a pattern the parser took, nothing but "*" comes after the first "*". */
function fitsPattern(pattern: string, value: string): boolean {
  const star = pattern.indexOf("*");
  return star === -1 ? pattern === value : value.startsWith(pattern.slice(0, star));
}

function isSame(wanted: string, has: string): boolean {
  return wanted === has;
}
