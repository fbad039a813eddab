import type { UsbFacts } from "./usb-facts.ts";
import type { EvaluateContext, UsbCondition, UsbConditions, UsbRule, UsbTest } from "./usb-rule.ts";
import { renderCondition, ruleKey } from "./usb-rule-render.ts";
import { holds, valuesOf } from "./usb-rule-set.ts";
import { clipText } from "./usb-rule-text.ts";
import { atLocalTime, nextOffsetChange, type Timed, within } from "./usb-rule-time.ts";
import { MILLION } from "./usb-rule-values.ts";

/** What the conditions of a rule say: are they met, until when time alone cannot change that, and each one's answer. */
export type Answer = { readonly met: boolean; readonly untilMs: number | null; readonly because: string };

/**
 * Asks the conditions of rules, all in one look: the next change of the clocks is looked for once. Every condition of a
 * rule is asked, whatever the others say.
 */
export function conditionsIn(context: EvaluateContext): (rule: UsbRule) => Answer {
  let change: { readonly atMs: number | null } | null = null;
  const offsetChangeMs = () => {
    change ??= { atMs: nextOffsetChange(context) };
    return change.atMs;
  };
  return (rule) => {
    const { conditions } = rule;
    if (conditions === null) return { met: true, untilMs: null, because: "every attribute matches" };
    const key = ruleKey(rule);
    const answers = conditions.list.map((condition) => {
      const timed = ask(condition.test, key, context, offsetChangeMs);
      return { condition, untilMs: timed.untilMs, holds: timed.holds !== condition.negated };
    });
    return {
      met: areMet(conditions, answers),
      untilMs: firstOf(answers.map(({ untilMs }) => untilMs)),
      because: tell(conditions, answers),
    };
  };
}

/** The earliest of some moments; null where there is none. */
export function firstOf(moments: readonly (number | null)[]): number | null {
  return moments.reduce(
    (first, one) => (first === null || (one !== null && one < first) ? one : first),
    null,
  );
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

function areMet({ operator }: UsbConditions, answers: readonly Timed[]): boolean {
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

function tell(
  { operator }: UsbConditions,
  answers: readonly (Timed & { readonly condition: UsbCondition })[],
): string {
  const list = answers.map((one) => `${renderCondition(one.condition)} ${one.holds ? "holds" : "does not"}`);
  return clipText(`if ${answers.length > 1 ? `${operator}: ` : ""}${list.join(", ")}`);
}
