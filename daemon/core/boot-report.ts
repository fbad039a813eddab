/** A report of a keyboard in boot protocol (USB HID 1.11, appendix B.1): modifiers, a reserved byte, six usages. */
export const BOOT_REPORT_BYTES = 8;
const FIRST_SLOT = 2;
/** 1 to 3 are no keys: too many are down to tell which, a failed self-test, an undefined error. */
const FIRST_KEY = 4;

/**
 * The usages that are down, without modifiers, each once, whatever slots are empty between them. Null for what says
 * nothing about keys: a short report, and a phantom one ("too many keys").
 */
export function keysDown(report: Buffer): readonly number[] | null {
  if (report.length < BOOT_REPORT_BYTES) return null;
  const slots = [...report.subarray(FIRST_SLOT, BOOT_REPORT_BYTES)];
  if (slots.some((usage) => usage !== 0 && usage < FIRST_KEY)) return null;
  return [...new Set(slots.filter((usage) => usage >= FIRST_KEY))];
}

/** The keys that a report has and the one before it had not, in the order of its slots. */
export function newlyDown(before: readonly number[], now: readonly number[]): readonly number[] {
  return now.filter((usage) => !before.includes(usage));
}

/**
 * What a usage means to a challenge. A usage is a place on the keyboard, the same in every layout and with any modifier:
 * on a French keyboard, too, the digit row sends these.
 */
export function meaningOf(usage: number): { readonly digit: string } | "enter" | "erase" | "other" {
  if (usage >= 0x1e && usage <= 0x27) return { digit: String((usage - 0x1d) % 10) };
  if (usage >= 0x59 && usage <= 0x62) return { digit: String((usage - 0x58) % 10) };
  if (usage === 0x28 || usage === 0x58) return "enter";
  return usage === 0x2a ? "erase" : "other";
}
