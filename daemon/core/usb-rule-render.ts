import type { UsbAttribute, UsbCondition, UsbConditions, UsbRule, UsbTest, UsbValues } from "./usb-rule.ts";
import { linesOf, parseUsbRules } from "./usb-rule-parse.ts";
import { quoteText } from "./usb-rule-text.ts";
import { isQuoted, MILLION, renderProbability, renderTime } from "./usb-rule-values.ts";

/** A rule as a line of a file, without the line break. Reading it gives the rule again. */
export function renderUsbRule(rule: UsbRule): string {
  const parts = [
    rule.target,
    ...rule.attributes.map((attribute) => renderAttribute(attribute, null)),
    ...(rule.conditions ? [`if ${renderConditions(rule.conditions)}`] : []),
    ...(rule.label
      ? [
          `label ${renderSet(
            rule.label,
            rule.label.values.map((value) => quoteText(value)),
          )}`,
        ]
      : []),
  ];
  return parts.join(" ");
}

/**
 * What the history of a rule (rule-applied, rule-evaluated) is kept under: its text, so that it outlives a reload and an
 * edit elsewhere in the file. Two rules of the same text share one history.
 */
export function ruleKey(rule: UsbRule): string {
  return renderUsbRule(rule);
}

/** A set of values in a message or a rule: `one-of { a b }`; `equals` is not written, and one value has no braces. */
export function renderAttribute(attribute: UsbAttribute, also: ")" | null): string {
  const values = isQuoted(attribute.name)
    ? attribute.values.map((value) => quoteText(value, also))
    : attribute.values;
  return `${attribute.name} ${renderSet(attribute, values)}`;
}

/** `[!]name(argument)`. */
export function renderCondition({ negated, test }: UsbCondition): string {
  return `${negated ? "!" : ""}${renderTest(test)}`;
}

/**
 * A rules file with rules added before its first rule, or after its last line. Every other line stays as it is, comments
 * too. First match wins, so a rule that has to decide comes first.
 */
export function addUsbRules(text: string, rules: readonly UsbRule[], where: "first" | "last"): string {
  const added = rules.map((rule) => `${renderUsbRule(rule)}\n`).join("");
  if (where === "last") return `${text}${text === "" || text.endsWith("\n") ? "" : "\n"}${added}`;
  const at = startOfFirstRule(text);
  const before = text.slice(0, at);
  return `${before}${before === "" || before.endsWith("\n") ? "" : "\n"}${added}${text.slice(at)}`;
}

/** A rules file without the rules on these lines (from 1). Comments on lines of their own stay. */
export function removeUsbRules(text: string, lines: readonly number[]): string {
  const gone = new Set(lines);
  return text
    .split("\n")
    .filter((_, index) => !gone.has(index + 1))
    .join("\n");
}

function startOfFirstRule(text: string): number {
  let at = 0;
  for (const line of linesOf(text)) {
    const read = parseUsbRules(line);
    if (!read.ok || read.rules.length > 0) return at;
    const next = text.indexOf("\n", at);
    if (next === -1) return text.length;
    at = next + 1;
  }
  return at;
}

function renderSet({ operator, values }: UsbValues, written: readonly string[]): string {
  if (operator === "equals" && values.length === 1) return written.join("");
  return `${operator === "equals" ? "" : `${operator} `}{ ${written.join(" ")} }`;
}

function renderConditions({ operator, list }: UsbConditions): string {
  const written = list.map(renderCondition);
  return renderSet({ operator, values: written }, written);
}

function renderTest(test: UsbTest): string {
  switch (test.kind) {
    case "constant":
      return String(test.value);
    case "random":
      return test.millionths === MILLION / 2 ? "random" : `random(${renderProbability(test.millionths)})`;
    case "rule-applied":
    case "rule-evaluated":
      return test.seconds === null ? test.kind : `${test.kind}(${renderTime(test.seconds)})`;
    case "localtime":
      return `localtime(${renderTime(test.from)}${test.to === test.from ? "" : `-${renderTime(test.to)}`})`;
    case "allowed-matches":
      // USBGuard ends the query at the first `)`, also within quotes
      return `allowed-matches(${test.query.map((attribute) => renderAttribute(attribute, ")")).join(" ")})`;
  }
}
