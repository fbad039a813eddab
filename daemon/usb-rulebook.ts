import { createHash } from "node:crypto";
import { BoundaryError } from "./core/errors.ts";
import type { UsbFacts, UsbTarget } from "./core/usb-facts.ts";
import { generatePolicy } from "./core/usb-generate.ts";
import { FIRST_START } from "./core/usb-memory.ts";
import type { UsbWord } from "./core/usb-policy.ts";
import type { EvaluateContext, UsbExplanation, UsbRule } from "./core/usb-rule.ts";
import { askedKeys, evaluate, explain } from "./core/usb-rule-match.ts";
import { parseUsbRules } from "./core/usb-rule-parse.ts";
import { addUsbRules, removeUsbRules, renderUsbRule, ruleKey } from "./core/usb-rule-render.ts";
import type { UsbRulesStore } from "./ports.ts";

export type RulebookParts = {
  readonly store: UsbRulesStore;
  /** The rules of the configuration, and whether a person chose them (else they are the shipped ones). */
  readonly configured: { readonly rules: readonly UsbRule[]; readonly chosen: boolean };
  /** SHA-256 of the permanent rules that the log signed, hex; "" when there were none. */
  readonly signed: string;
};

/** Rules that are on their way to be the permanent ones. */
export type RulesDraft = {
  readonly digest: string;
  /** The new ones, and the port of the device that each is for. */
  readonly rules: readonly { readonly port: string; readonly rule: string }[];
  readonly commit: () => void;
};

/** What a decision by rules leaves behind for `rule-applied` and `rule-evaluated`. */
export type RuledWord = UsbWord & { readonly evaluated: readonly string[]; readonly applied: string | null };

/**
 * The rules, in the order in which they are asked: first the permanent ones, which people of this host gave by
 * `boundaryctl usb allow|block|reject --permanent`, the newest first; then the configuration's. A person's word about one
 * device so goes before what was written of many, whichever of the two is the stricter; the mode stands above both.
 */
export type Rulebook = {
  readonly decide: (device: UsbFacts, context: EvaluateContext) => RuledWord;
  readonly explain: (device: UsbFacts, context: EvaluateContext) => readonly UsbExplanation[];
  readonly counts: () => { readonly permanent: number; readonly configured: number };
  /** Whether a person of this host has given any rules: those that were made at a first start are no person's. */
  readonly arePersonal: () => boolean;
  /** SHA-256 of the permanent rules, hex; "" when there are none. */
  readonly digest: () => string;
  /** Why the permanent rules are not in use; "" when they are, or there are none. */
  readonly fault: () => string;
  /** A policy that allows these devices, as text. */
  readonly propose: (
    devices: readonly UsbFacts[],
    options: { readonly withPorts: boolean; readonly withHashes: boolean },
  ) => string;
  /**
   * A rule for each of these devices, before all others; rules that are not in use are gone then. A device of which too
   * little is known gets none. Nothing is changed before `commit`. Throws "state-unwritable".
   */
  readonly prepare: (
    target: UsbTarget,
    devices: readonly UsbFacts[],
    by: "a person" | typeof FIRST_START,
  ) => RulesDraft;
};

/** Throws BoundaryError("config-invalid") when the permanent rules cannot be read as rules. */
export function createRulebook({ store, configured, signed }: RulebookParts): Rulebook {
  const loaded = store.load((text) => digestOf(text) === signed);
  let text = loaded.kind === "rules" ? loaded.text : "";
  let permanent = parsed(store.path, text);
  let fault = faultOf(loaded, signed);
  const all = () => [...permanent, ...configured.rules];

  function decideByRules(device: UsbFacts, context: EvaluateContext): RuledWord {
    const rules = all();
    const decision = evaluate(rules, device, context);
    const { target, rule, why, validUntilMs } = decision;
    const evaluated = askedKeys(rules, device, decision);
    if (rule === null) return { target, rule: "", names: false, why, validUntilMs, evaluated, applied: null };
    const whose = permanent.includes(rule) ? "permanent rule" : "rule of the configuration";
    return {
      target,
      rule: renderUsbRule(rule),
      names: namesDevice(rule),
      why: `${whose}, line ${rule.line}`,
      validUntilMs,
      evaluated,
      applied: rule.conditions === null ? null : ruleKey(rule),
    };
  }

  function prepare(
    target: UsbTarget,
    devices: readonly UsbFacts[],
    by: "a person" | typeof FIRST_START,
  ): RulesDraft {
    const label = by === FIRST_START ? ({ operator: "equals", values: [FIRST_START] } as const) : null;
    const given = devices.flatMap((device) =>
      parsed("the new rule", generatePolicy([device], { withPorts: false, withHashes: true })).map(
        (rule) => ({
          port: device.port,
          rule: { ...(target === "allow" ? rule : anywhere(rule)), target, label },
        }),
      ),
    );
    const told = new Set(given.map(({ rule }) => keyWithout(rule)));
    const isDecided = (one: UsbRule) =>
      told.has(keyWithout(one)) || (target !== "allow" && told.has(keyWithout(anywhere(one))));
    const kept = removeUsbRules(
      text,
      permanent.filter(isDecided).map(({ line }) => line),
    );
    const next = addUsbRules(
      kept,
      given.map(({ rule }) => rule),
      "first",
    );
    const rules = parsed("the new rules", next);
    store.prepare(next);
    return {
      digest: digestOf(next),
      rules: given.map(({ port, rule }) => ({ port, rule: renderUsbRule(rule) })),
      commit: () => {
        store.commit();
        text = next;
        permanent = rules;
        fault = "";
      },
    };
  }

  return {
    decide: decideByRules,
    explain: (device, context) => explain(all(), device, context),
    counts: () => ({ permanent: permanent.length, configured: configured.rules.length }),
    arePersonal: () => configured.chosen || !permanent.every(isOfFirstStart),
    digest: () => (text === "" ? "" : digestOf(text)),
    fault: () => fault,
    propose: generatePolicy,
    prepare,
  };
}

function faultOf(loaded: ReturnType<UsbRulesStore["load"]>, signed: string): string {
  if (loaded.kind === "unreadable") return loaded.why;
  return loaded.kind === "missing" && signed !== "" ? "they are gone" : "";
}

function parsed(path: string, text: string): readonly UsbRule[] {
  const found = parseUsbRules(text);
  if (found.ok) return found.rules;
  const told = found.problems.map(({ line, column, message }) => `${path}:${line}:${column}: ${message}`);
  throw new BoundaryError("config-invalid", told.join("\n"));
}

/** What tells one device from others. */
const NAMING: ReadonlySet<string> = new Set(["id", "hash", "serial", "via-port"]);

/** Whether it is about one device, not a class of them: an id without wildcards, a hash, a serial or a port. */
function namesDevice({ attributes }: UsbRule): boolean {
  return attributes.some(
    ({ name, operator, values }) =>
      NAMING.has(name) &&
      operator !== "none-of" &&
      values.every((value) => value !== "" && !(name === "id" && value.includes("*"))),
  );
}

/** What tells where a device is plugged in, and not which one it is. */
const PLACE: ReadonlySet<string> = new Set(["via-port", "parent-hash", "with-connect-type"]);

/** The same rule for any port: what is refused is refused at the next one too. */
function anywhere(rule: UsbRule): UsbRule {
  return { ...rule, attributes: rule.attributes.filter(({ name }) => !PLACE.has(name)) };
}

/** What a rule is about, whatever it says of it and whoever gave it. */
function keyWithout(rule: UsbRule): string {
  return ruleKey({ ...rule, target: "allow", label: null });
}

function isOfFirstStart({ label }: UsbRule): boolean {
  return label?.operator === "equals" && label.values.includes(FIRST_START);
}

function digestOf(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}
