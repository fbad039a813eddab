import type { UsbFacts } from "./usb-facts.ts";
import type {
  EvaluateContext,
  UsbAttribute,
  UsbCondition,
  UsbConditions,
  UsbDecision,
  UsbExplanation,
  UsbRule,
  UsbTest,
} from "./usb-rule.ts";
import { renderAttribute, renderCondition, renderUsbRule, ruleKey } from "./usb-rule-render.ts";
import { holds, isUnknown, valuesOf } from "./usb-rule-set.ts";
import { quoteText } from "./usb-rule-text.ts";
import { atLocalTime, nextOffsetChange, type Timed, within } from "./usb-rule-time.ts";
import { isQuoted, MILLION } from "./usb-rule-values.ts";

const LONGEST_SHOWN = 200;

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
  const ask = asker(context);
  const untils: number[] = [];
  for (const rule of rules) {
    if (failingAttribute(rule, device) !== null) continue;
    const { met, untilMs } = ask(rule);
    if (untilMs !== null) untils.push(untilMs);
    if (!met) continue;
    return {
      target: rule.target,
      rule,
      why: `line ${rule.line}: ${shown(renderUsbRule(rule))}`,
      ...valid(untils),
    };
  }
  return { target: "block", rule: null, why: "no rule matches", ...valid(untils) };
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
  const ask = asker(context);
  return rules.map((rule) => {
    const failing = failingAttribute(rule, device);
    if (failing !== null) return { rule, matched: false, because: whyNot(failing, device) };
    const { met, because } = ask(rule);
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

type Answer = { readonly met: boolean; readonly untilMs: number | null; readonly because: string };

/** Asks the conditions of rules, in one look: the moment of the next change of the clocks is looked for once. */
function asker(context: EvaluateContext): (rule: UsbRule) => Answer {
  let change: { readonly atMs: number | null } | null = null;
  const offsetChangeMs = () => {
    change ??= { atMs: nextOffsetChange(context) };
    return change.atMs;
  };
  return ({ conditions, ...rule }) => {
    if (conditions === null) return { met: true, untilMs: null, because: "every attribute matches" };
    const key = ruleKey({ ...rule, conditions });
    const answers = conditions.list.map((condition) => ({
      condition,
      ...answer(condition, key, context, offsetChangeMs),
    }));
    const untils = answers.flatMap(({ untilMs }) => (untilMs === null ? [] : [untilMs]));
    return {
      met: meets(conditions, answers),
      untilMs: valid(untils).validUntilMs,
      because: said(conditions, answers),
    };
  };
}

function answer(
  { negated, test }: UsbCondition,
  key: string,
  context: EvaluateContext,
  offsetChangeMs: () => number | null,
): Timed {
  const said = ask(test, key, context, offsetChangeMs);
  return { ...said, holds: said.holds !== negated };
}

function ask(
  test: UsbTest,
  key: string,
  context: EvaluateContext,
  offsetChangeMs: () => number | null,
): Timed {
  switch (test.kind) {
    case "constant":
      return { holds: test.value, untilMs: null };
    case "random":
      return { holds: context.random() * MILLION < test.millionths, untilMs: null };
    case "localtime":
      return atLocalTime(test, context, offsetChangeMs());
    case "rule-applied":
      return within(context.applied(key), test.seconds, context);
    case "rule-evaluated":
      return within(context.evaluated(key), test.seconds, context);
    case "allowed-matches": {
      const matches = (device: UsbFacts) =>
        test.query.every((attribute) => holds(attribute, valuesOf(device, attribute.name)));
      return { holds: context.allowedDevices.some(matches), untilMs: null };
    }
  }
}

function meets({ operator }: UsbConditions, answers: readonly Timed[]): boolean {
  const count = answers.filter((one) => one.holds).length;
  switch (operator) {
    case "one-of":
      return count > 0;
    case "none-of":
      return count === 0;
    case "all-of":
    case "equals":
    case "equals-ordered":
      return count === answers.length;
  }
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
  return `${shown(renderAttribute(attribute, null))} does not match: ${shown(has)}`;
}

function said(
  { operator }: UsbConditions,
  answers: readonly (Timed & { readonly condition: UsbCondition })[],
): string {
  const list = answers.map(
    ({ condition, holds: held }) => `${renderCondition(condition)} ${held ? "holds" : "does not"}`,
  );
  return shown(`if ${answers.length > 1 ? `${operator}: ` : ""}${list.join(", ")}`);
}

function valid(untils: readonly number[]): { readonly validUntilMs: number | null } {
  const first = untils.reduce((least, until) => Math.min(least, until), Number.POSITIVE_INFINITY);
  return { validUntilMs: Number.isFinite(first) ? first : null };
}

function shown(text: string): string {
  return text.length > LONGEST_SHOWN ? `${text.slice(0, LONGEST_SHOWN)}…` : text;
}
