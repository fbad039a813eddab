import type { UsbRule } from "./usb-rule.ts";
import { lintUsbRules, type UsbWarning } from "./usb-rule-lint.ts";
import { linesOf, parseUsbRules } from "./usb-rule-parse.ts";
import { holds } from "./usb-rule-set.ts";
import { tokensOfLine, type UsbProblem } from "./usb-rule-tokens.ts";
import { parseId } from "./usb-rule-values.ts";

export type ImportedUsbRules =
  | {
      readonly ok: true;
      /** The rules to keep: the text as it was, comments too, with a line break at its end. */
      readonly text: string;
      readonly rules: readonly UsbRule[];
      /** By line, what means something else here than there, and what is odd. */
      readonly warnings: readonly UsbWarning[];
    }
  | { readonly ok: false; readonly problems: readonly UsbProblem[] };

/**
 * Reads a rules.conf of USBGuard. The language is the same; what USBGuard (1.x, by its source) does otherwise than it says, or otherwise
 * than we do, is warned of. What it takes and we refuse (`match` and `device` as targets, `key`, conditions or labels
 * within a query, an argument of `true`) is a problem with its line: nothing is left out silently.
 */
export function importUsbGuard(text: string): ImportedUsbRules {
  const parsed = parseUsbRules(text);
  if (!parsed.ok) return parsed;
  const lines = linesOf(text);
  const differences = parsed.rules.flatMap((rule) =>
    differencesOf(rule, lines[rule.line - 1] ?? "").map((message) => ({ line: rule.line, message })),
  );
  const whole = {
    line: 0,
    message:
      "of usbguard-daemon.conf nothing is imported: what no rule matches is blocked, whatever ImplicitPolicyTarget said",
  };
  const warnings = [whole, ...differences, ...lintUsbRules(parsed.rules)].toSorted((a, b) => a.line - b.line);
  return {
    ok: true,
    text: text === "" || text.endsWith("\n") ? text : `${text}\n`,
    rules: parsed.rules,
    warnings,
  };
}

function differencesOf(rule: UsbRule, source: string): readonly string[] {
  const tests = new Set(
    rule.conditions?.list.map(({ test }) => (isTimed(test) ? `${test.kind}()` : test.kind)),
  );
  const found = (condition: boolean, message: string) => (condition ? [message] : []);
  return [
    ...found(
      tests.has("localtime"),
      "`localtime` is local time here; USBGuard compares the time of day in UTC",
    ),
    ...found(
      tests.has("rule-applied()") || tests.has("rule-evaluated()"),
      "the duration is in seconds here; USBGuard counts it in nanoseconds, so there it had always passed",
    ),
    ...found(
      hasUpperCaseId(source),
      "ids are compared without regard to case here; USBGuard never matches upper case",
    ),
    ...found(
      sharesValues(rule),
      "each interface has to be matched by one of its own here; USBGuard lets two equal or overlapping ones share, so there the rule also matches devices with another interface besides",
    ),
    ...found(
      rule.attributes.some(({ name, operator }) => operator === "match-all" && name !== "with-interface"),
      "`match-all` compares the value here; USBGuard lets any value pass for all but `with-interface`",
    ),
    ...found(
      rule.attributes.some(({ name }) => name === "parent-hash") && isRootHub(rule),
      "the parent-hash of a root hub is that of the path without /sys, as newer versions of USBGuard make it; one that was made of the path with /sys never matches",
    ),
  ];
}

function isTimed(test: { readonly kind: string; readonly seconds?: number | null }): boolean {
  return test.seconds !== undefined && test.seconds !== null;
}

function hasUpperCaseId(source: string): boolean {
  return tokensOfLine(source, 1).tokens.some(
    ({ kind, text }) => kind === "word" && parseId(text) !== null && text !== text.toLowerCase(),
  );
}

/** Two wanted interfaces of an `equals`, of which what fits one fits the other too. */
function sharesValues({ attributes }: UsbRule): boolean {
  return attributes.some(({ name, operator, values }) => {
    if (name !== "with-interface" || operator !== "equals") return false;
    const narrowFirst = values.toSorted(
      (a, b) => b.replaceAll("*", "").length - a.replaceAll("*", "").length,
    );
    return narrowFirst.some((value, index) =>
      narrowFirst
        .slice(index + 1)
        .some((wider) => holds({ name, operator: "one-of", values: [wider] }, [value])),
    );
  });
}

function isRootHub({ attributes }: UsbRule): boolean {
  return attributes.some(
    ({ name, values }) => name === "id" && values.some((value) => value.startsWith("1d6b:")),
  );
}
