import type { UsbFacts } from "./usb-facts.ts";
import type { EvaluateContext, UsbAttribute, UsbDecision, UsbExplanation, UsbRule } from "./usb-rule.ts";
import { conditionsIn, firstOf } from "./usb-rule-ask.ts";
import { renderAttribute, renderUsbRule, ruleKey } from "./usb-rule-render.ts";
import { holds, isUnknown, valuesOf } from "./usb-rule-set.ts";
import { clipText, quoteText } from "./usb-rule-text.ts";
import { isQuoted } from "./usb-rule-values.ts";

/**
 * What the rules say of a device. The first rule whose attributes match and whose conditions hold decides; where none
 * does, the device is blocked. What is not known of a device (a hash that could not be read, no interfaces) matches no
 * attribute of an `allow`, not even `none-of`.
 *
 * Conditions, all of a rule's asked whenever its attributes match:
 * - localtime(a-b): local time of day is from a up to the end of second b; over midnight where b comes before a.
 * - allowed-matches(query): one of context.allowedDevices matches.
 * - rule-applied, rule-evaluated: this rule decided about a device, or its attributes matched one and so its conditions
 *   were asked, at any time, or at most so many seconds ago.
 * - random(p): a new draw is below p; a half where none is given. true, false: that.
 */
export function evaluate(rules: readonly UsbRule[], device: UsbFacts, context: EvaluateContext): UsbDecision {
  const askConditions = conditionsIn(context);
  const untils: (number | null)[] = [];
  for (const rule of rules) {
    if (failingAttribute(rule, device) !== null) continue;
    const { met, untilMs } = askConditions(rule);
    untils.push(untilMs);
    if (!met) continue;
    return {
      target: rule.target,
      rule,
      why: `line ${rule.line}: ${clipText(renderUsbRule(rule))}`,
      validUntilMs: firstOf(untils),
    };
  }
  return { target: "block", rule: null, why: "no rule matches", validUntilMs: firstOf(untils) };
}

/**
 * Each rule up to the one that decides, and those after it too: did it match, and which attribute or condition did not.
 * A draw of `random` is another than the one `evaluate` made.
 */
export function explain(
  rules: readonly UsbRule[],
  device: UsbFacts,
  context: EvaluateContext,
): readonly UsbExplanation[] {
  const askConditions = conditionsIn(context);
  return rules.map((rule) => {
    const failing = failingAttribute(rule, device);
    if (failing !== null) return { rule, matched: false, because: whyNot(failing, device) };
    const { met, because } = askConditions(rule);
    return { rule, matched: met, because };
  });
}

/**
 * The keys of the rules whose conditions a decision asked on its way and that want to know when that was
 * (`rule-evaluated`): what `context.evaluated` is to answer from now on. For `context.applied` it is the decision's rule.
 */
export function askedKeys(
  rules: readonly UsbRule[],
  device: UsbFacts,
  decision: Pick<UsbDecision, "rule">,
): readonly string[] {
  const asked = decision.rule === null ? rules : rules.slice(0, rules.indexOf(decision.rule) + 1);
  const wants = (rule: UsbRule) => rule.conditions?.list.some(({ test }) => test.kind === "rule-evaluated");
  return asked.filter((rule) => wants(rule) && failingAttribute(rule, device) === null).map(ruleKey);
}

/** The first attribute that does not match; null: all do. */
function failingAttribute(rule: UsbRule, device: UsbFacts): UsbAttribute | null {
  for (const attribute of rule.attributes) {
    const values = valuesOf(device, attribute.name);
    if (rule.target === "allow" && isUnknown(attribute.name, values)) return attribute;
    if (!holds(attribute, values)) return attribute;
  }
  return null;
}

function whyNot(attribute: UsbAttribute, device: UsbFacts): string {
  const values = valuesOf(device, attribute.name);
  const written = isQuoted(attribute.name) ? values.map((value) => quoteText(value)) : values;
  const has = isUnknown(attribute.name, values)
    ? "that is not known of the device"
    : `the device has ${written.join(" ")}`;
  return `${clipText(renderAttribute(attribute, null))} does not match: ${clipText(has)}`;
}
