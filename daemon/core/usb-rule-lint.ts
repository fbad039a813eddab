import { isDeviceName } from "./usb-device.ts";
import type { UsbAttribute, UsbRule } from "./usb-rule.ts";
import { showText } from "./usb-rule-text.ts";

/** Something about a rule that is no mistake of the language, but hardly meant. `line` 0: the file as a whole. */
export type UsbWarning = { readonly line: number; readonly message: string };

const CONNECT_TYPES = ["hotplug", "hardwired", "not used", "unknown", ""];
const BASE64_OF_SHA256 = /^[A-Za-z0-9+/]{43}=$/;

/** What a reader of these rules should know: rules that can match nothing, rules that match everything, odd values. */
export function lintUsbRules(rules: readonly UsbRule[]): readonly UsbWarning[] {
  const all = rules.findIndex((rule) => rule.attributes.length === 0 && rule.conditions === null);
  const end = rules[all];
  return rules.flatMap((rule, index) => {
    const { line } = rule;
    const messages = rule.attributes.flatMap(lintAttribute);
    if (end !== undefined && index > all)
      messages.push(`never reached: line ${end.line} matches every device`);
    if (index === all && rule.target === "allow") messages.push("allows every device");
    return messages.map((message) => ({ line, message }));
  });
}

function lintAttribute(attribute: UsbAttribute): string[] {
  const { name, operator, values } = attribute;
  const several = new Set(values).size > 1;
  const messages: string[] = [];
  if (name !== "with-interface" && asksForSeveral(attribute, several)) {
    messages.push(
      `matches no device: a device has one \`${name}\`; \`one-of\` may be meant, not \`${operator}\``,
    );
  }
  for (const value of values) {
    const odd = oddValue(name, value);
    if (odd !== null) messages.push(`\`${name}\` "${showText(value)}": ${odd}`);
  }
  return messages;
}

function asksForSeveral({ name, operator, values }: UsbAttribute, several: boolean): boolean {
  if (operator === "equals" || operator === "equals-ordered") return values.length > 1;
  return operator === "all-of" && several && !(name === "id" && values.some((value) => value.includes("*")));
}

function oddValue(name: UsbAttribute["name"], value: string): string | null {
  switch (name) {
    case "id":
    case "with-interface":
      return null;
    case "name":
    case "serial":
      return value.includes("*") ? "a `*` in a text is a star, no pattern" : null;
    case "hash":
    case "parent-hash":
      return BASE64_OF_SHA256.test(value)
        ? null
        : "no hash of a device: those are SHA-256 in base64, 44 characters";
    case "via-port":
      return isDeviceName(value) ? null : 'no port: those are called "usb1", "1-2" or "1-2.4"';
    case "with-connect-type":
      return CONNECT_TYPES.includes(value)
        ? null
        : `the kernel says one of "${CONNECT_TYPES.slice(0, -1).join('", "')}"`;
  }
}
