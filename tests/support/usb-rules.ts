import fc from "fast-check";
import type { UsbFacts } from "../../daemon/core/usb-facts.ts";
import {
  type EvaluateContext,
  USB_ATTRIBUTES,
  USB_OPERATORS,
  type UsbAttribute,
  type UsbAttributeName,
  type UsbCondition,
  type UsbRule,
  type UsbTest,
} from "../../daemon/core/usb-rule.ts";
import { parseUsbRules } from "../../daemon/core/usb-rule-parse.ts";

/** The rules of a text that has to be right. */
export function rulesOf(text: string): readonly UsbRule[] {
  const parsed = parseUsbRules(text);
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.problems));
  return parsed.rules;
}

export function usbDevice(over: Partial<UsbFacts> = {}): UsbFacts {
  const plain = { port: "1-2", id: "0781:5581", name: "", serial: "", hash: "h", parentHash: "p" };
  return { ...plain, interfaces: ["08:06:50"], connectType: "hotplug", ...over };
}

/** Noon UTC of a day in 2026, at UTC; nothing allowed, nothing has happened. */
export function usbContext(over: Partial<EvaluateContext> = {}): EvaluateContext {
  return {
    nowMs: Date.UTC(2026, 5, 1, 12),
    monoMs: 5_000_000,
    localOffsetMinutes: () => 0,
    random: () => 0.75,
    allowedDevices: [],
    applied: () => null,
    evaluated: () => null,
    ...over,
  };
}

// few values, so that rules and devices meet often
const IDS = ["0781:5581", "0781:5582", "1d6b:0002"] as const;
const INTERFACES = ["03:01:01", "03:00:01", "08:06:50", "08:06:62", "09:00:00"] as const;
const TEXTS = ["", "a", "b)", 'say "\\hi"', "ü\u0000\n"] as const;
const PORTS = ["usb1", "1-2", "1-2.1"] as const;

export const devices: fc.Arbitrary<UsbFacts> = fc.record({
  port: fc.constantFrom(...PORTS),
  id: fc.constantFrom(...IDS, "????:????"),
  name: fc.constantFrom(...TEXTS),
  serial: fc.constantFrom(...TEXTS),
  hash: fc.constantFrom("", "a", "b)"),
  parentHash: fc.constantFrom("", "a", "b)"),
  interfaces: fc.array(fc.constantFrom(...INTERFACES), { maxLength: 3 }),
  connectType: fc.constantFrom("", "hotplug", "not used"),
});

const values: Readonly<Record<UsbAttributeName, fc.Arbitrary<string>>> = {
  id: fc.constantFrom(...IDS, "0781:*", "*:*"),
  hash: fc.constantFrom(...TEXTS),
  "parent-hash": fc.constantFrom(...TEXTS),
  name: fc.oneof(fc.constantFrom(...TEXTS), fc.string({ unit: "binary", maxLength: 8 })),
  serial: fc.constantFrom(...TEXTS),
  "via-port": fc.constantFrom(...PORTS),
  "with-interface": fc.constantFrom(...INTERFACES, "08:*:*", "08:06:*", "03:*:*"),
  "with-connect-type": fc.constantFrom("", "hotplug", "not used"),
};

const setOf = (name: UsbAttributeName) =>
  fc.record({
    name: fc.constant(name),
    operator: fc.constantFrom(...USB_OPERATORS),
    values: fc.array(values[name], { minLength: 1, maxLength: 3 }),
  });

export const attributes: fc.Arbitrary<readonly UsbAttribute[]> = fc
  .uniqueArray(fc.constantFrom(...USB_ATTRIBUTES), { maxLength: 3 })
  .chain((names) => fc.tuple(...names.map(setOf)));

const seconds = fc.option(fc.integer({ min: 1, max: 86_399 }));
const secondOfDay = fc.oneof(fc.integer({ min: 0, max: 86_399 }), fc.constantFrom(0, 3_600, 86_399));

const tests: fc.Arbitrary<UsbTest> = fc.oneof(
  fc.record({ kind: fc.constant("constant" as const), value: fc.boolean() }),
  fc.record({ kind: fc.constant("localtime" as const), from: secondOfDay, to: secondOfDay }),
  fc.record({ kind: fc.constantFrom("rule-applied" as const, "rule-evaluated" as const), seconds }),
  fc.record({ kind: fc.constant("random" as const), millionths: fc.integer({ min: 0, max: 1_000_000 }) }),
  fc.record({
    kind: fc.constant("allowed-matches" as const),
    query: attributes.filter((list) => list.length > 0),
  }),
);

const conditions: fc.Arbitrary<UsbCondition> = fc.record({ negated: fc.boolean(), test: tests });

export const rules: fc.Arbitrary<UsbRule> = fc.record({
  line: fc.constant(1),
  target: fc.constantFrom("allow", "block", "reject"),
  attributes,
  conditions: fc.option(
    fc.record({
      operator: fc.constantFrom("all-of", "one-of", "none-of", "equals", "equals-ordered"),
      list: fc.array(conditions, { minLength: 1, maxLength: 3 }),
    }),
  ),
  label: fc.option(
    fc.record({
      operator: fc.constantFrom(...USB_OPERATORS),
      values: fc.array(fc.string({ unit: "binary", maxLength: 8 }), { minLength: 1, maxLength: 2 }),
    }),
  ),
});
