import { lintUsbRules, type UsbWarning } from "../daemon/core/usb-rule-lint.ts";
import { parseUsbRules } from "../daemon/core/usb-rule-parse.ts";
import type { UsbProblem } from "../daemon/core/usb-rule-tokens.ts";

/** What there is to say of a rules file, without any daemon. `ok` is false where a daemon would not take it. */
export type UsbCheck = {
  readonly ok: boolean;
  /** How many rules there are; 0 where there is a problem. */
  readonly rules: number;
  readonly problems: readonly UsbProblem[];
  readonly warnings: readonly UsbWarning[];
};

/** `boundaryctl usb check FILE`: reads a rules file and looks for what is odd in it. */
export function checkUsbRules(text: string): UsbCheck {
  const parsed = parseUsbRules(text);
  if (!parsed.ok) return { ok: false, rules: 0, problems: parsed.problems, warnings: [] };
  return { ok: true, rules: parsed.rules.length, problems: [], warnings: lintUsbRules(parsed.rules) };
}

/** As lines that editors can jump to: "FILE:3:7: unknown attribute …: did you mean …?". */
export function renderUsbCheck(check: UsbCheck, file: string): readonly string[] {
  return [
    ...check.problems.map((one) => `${file}:${one.line}:${one.column}: ${one.message}: ${one.hint}`),
    ...check.warnings.map((one) => `${file}:${one.line}: warning: ${one.message}`),
    check.ok ? countOf(check.rules, "rule") : `refused: ${countOf(check.problems.length, "problem")}`,
  ];
}

function countOf(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? "" : "s"}`;
}
