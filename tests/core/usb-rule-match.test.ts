import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { parse } from "yaml";
import type { UsbFacts, UsbTarget } from "../../daemon/core/usb-facts.ts";
import type { UsbAttribute, UsbRule } from "../../daemon/core/usb-rule.ts";
import { askedKeys, evaluate, explain } from "../../daemon/core/usb-rule-match.ts";
import { ruleKey } from "../../daemon/core/usb-rule-render.ts";
import { attributes, devices, rules, rulesOf, usbContext, usbDevice } from "../support/usb-rules.ts";

const vector = (name: string) => readFileSync(new URL(`../vectors/usb/${name}`, import.meta.url), "utf8");

type Documented = {
  policy: number;
  device: Partial<UsbFacts>;
  allowed?: Partial<UsbFacts>[];
  random?: number;
  target: UsbTarget;
};

describe("the documented examples", () => {
  const policies = vector("documented.rules").split(/^# policy \d+$/m);
  test.each(
    (parse(vector("documented.yaml")) as Documented[]).map((one) => [JSON.stringify(one), one] as const),
  )("%s", (_name, { policy, device, allowed, random, target }) => {
    const context = usbContext({
      allowedDevices: (allowed ?? []).map(usbDevice),
      random: () => random ?? 0,
    });
    expect(evaluate(rulesOf(policies[policy] ?? "alow"), usbDevice(device), context).target).toBe(target);
  });
});

describe("attributes", () => {
  const matches = (rule: string, device: Partial<UsbFacts>) =>
    evaluate(rulesOf(rule), usbDevice(device), usbContext()).rule !== null;

  const interfaces = ["03:01:01", "03:00:01", "08:06:50"];
  test.each([
    ["all-of { 08:06:50 03:*:* }", true],
    ["all-of { 08:06:50 09:*:* }", false],
    ["one-of { 09:*:* 08:06:50 }", true],
    ["one-of { 09:*:* 0a:00:00 }", false],
    ["none-of { 09:*:* 0a:00:00 }", true],
    ["none-of { 09:*:* 08:06:* }", false],
    ["equals { 08:06:50 03:00:01 03:01:01 }", true],
    ["equals { 08:06:50 03:*:* 03:01:01 }", true],
    ["equals { 03:*:* 03:*:* 08:*:* }", true],
    ["equals { 03:*:* 08:*:* 08:06:50 }", false],
    ["equals { 03:*:* 08:*:* }", false],
    ["equals-ordered { 03:01:01 03:00:01 08:06:50 }", true],
    ["equals-ordered { 03:01:01 03:*:* 08:*:* }", true],
    ["equals-ordered { 03:00:01 03:01:01 08:06:50 }", false],
    ["match-all { 03:*:* 08:06:50 09:00:00 }", true],
    ["match-all { 03:*:* 09:00:00 }", false],
    ["03:*:*", false],
  ])("with-interface %s of %j: %s", (set, holds) => {
    expect(matches(`allow with-interface ${set}`, { interfaces })).toBe(holds);
  });

  test("two equal interfaces are two: another one in the place of the second does not match", () => {
    const camera = "allow with-interface { 0e:01:00 0e:02:00 0e:02:00 }";
    expect(matches(camera, { interfaces: ["0e:01:00", "0e:02:00", "0e:02:00"] })).toBe(true);
    expect(matches(camera, { interfaces: ["0e:01:00", "0e:02:00", "03:01:01"] })).toBe(false);
  });

  test.each([
    ["allow 0781:*", { id: "0781:5581" }, true],
    ["allow 0781:*", { id: "0782:5581" }, false],
    ["allow *:*", { id: "0781:5581" }, true],
    ['allow serial ""', {}, true],
    ['allow serial { "1" "2" }', { serial: "1" }, false],
    ['allow serial one-of { "1" "2" }', { serial: "1" }, true],
    ['allow serial match-all { "1" "2" }', { serial: "3" }, false],
    ['allow name "Stick*"', { name: "Stick 1" }, false],
    ['allow via-port "1-2"', { port: "1-2.1" }, false],
    ['allow parent-hash "p" with-connect-type "hotplug"', {}, true],
    ['allow label "never asked"', {}, true],
  ])("%s of %j: %s", (rule, device, holds) => {
    expect(matches(rule, device)).toBe(holds);
  });

  test.each([
    ['hash none-of { "x" }', { hash: "" }],
    ['hash ""', { hash: "" }],
    ['parent-hash none-of { "x" }', { parentHash: "" }],
    ["*:*", { id: "????:????" }],
    ["with-interface none-of { 08:*:* }", { interfaces: [] }],
    ["with-interface match-all { 03:*:* }", { interfaces: [] }],
    ["with-interface none-of { 08:*:* }", { interfaces: ["03:01:01", "??:??:??"] }],
  ])("what is not known matches no allow, and none-of of a block: %s", (attribute, device) => {
    expect(matches(`allow ${attribute}`, device)).toBe(false);
    expect(matches(`block ${attribute}`, device)).toBe(true);
  });
});

describe("conditions", () => {
  const rule = (text: string) => rulesOf(`allow if ${text}`);
  const met = (text: string, over = {}) => evaluate(rule(text), usbDevice(), usbContext(over)).rule !== null;

  test.each([
    ["true", true],
    ["!true", false],
    ["false", false],
    ["{ true !false }", true],
    ["{ true false }", false],
    ["equals-ordered { true true }", true],
    ["one-of { false true }", true],
    ["one-of { false false }", false],
    ["none-of { false !true }", true],
    ["none-of { false true }", false],
    ["localtime(11:00-12:00)", true],
    ["localtime(12:00:01-13:00)", false],
    ["!localtime(12:00:01-13:00)", true],
    ["localtime(22:00-11:59:59)", false],
    ["localtime(22:00-12:00)", true],
    ["random", false],
    ["random(0.8)", true],
    ["random(1)", true],
    ["random(0)", false],
  ])("at noon, drawing 0.75: %s is %s", (text, is) => expect(met(text)).toBe(is));

  test.each(["rule-applied", "rule-evaluated"])(
    "%s: ever, or in the last seconds, that one included",
    (name) => {
      const at = (atMs: number | null) => ({ applied: () => atMs, evaluated: () => atMs });
      expect(met(name, at(null))).toBe(false);
      expect(met(name, at(0))).toBe(true);
      expect(met(`${name}(10)`, at(5_000_000 - 10_000))).toBe(true);
      expect(met(`${name}(10)`, at(5_000_000 - 10_001))).toBe(false);
      expect(met(`${name}(10)`, at(5_000_001))).toBe(true);
    },
  );

  test("the history that is asked for is that of the rule itself", () => {
    const [own] = rulesOf("allow if rule-applied");
    if (!own) throw new Error("no rule");
    expect(met("rule-applied", { applied: (key: string) => (key === ruleKey(own) ? 0 : null) })).toBe(true);
    expect(met("rule-applied", { applied: (key: string) => (key === "other" ? 0 : null) })).toBe(false);
  });

  test("the rules whose history a decision changes: those that were asked and want to know", () => {
    const list = rulesOf(
      "allow if { rule-evaluated false }\nallow 1d6b:* if rule-evaluated\nblock if true\nallow if rule-evaluated",
    );
    const keys = (of: UsbRule[]) => of.map(ruleKey);
    const decision = evaluate(list, usbDevice(), usbContext());
    expect(decision.rule?.line).toBe(3);
    expect(askedKeys(list, usbDevice(), decision)).toEqual(keys(list.slice(0, 1)));
    expect(askedKeys(list, usbDevice(), { rule: null })).toEqual(
      keys([list[0], list[3]].filter((one) => one !== undefined)),
    );
  });
});

describe("until when", () => {
  const noon = usbContext().nowMs;
  const until = (text: string, over = {}) => {
    const found = evaluate(rulesOf(text), usbDevice(), usbContext(over)).validUntilMs;
    return found === null ? null : found - noon;
  };
  const hour = 3_600_000;

  test.each([
    ["allow", null],
    ["allow if random", null],
    ["allow if localtime(12:00-12:59:59)", hour],
    ["allow if !localtime(12:00-12:59:59)", hour],
    ["allow if localtime(13:00-14:00)", hour],
    ["allow if localtime(00:00-23:59:59)", null],
    // a rule that was passed over may come to match; one that was not asked does not matter
    ["reject if localtime(14:00-15:00)\nallow if localtime(11:00-12:59:59)", hour],
    ["reject if localtime(12:30-15:00)\nallow", hour / 2],
    ["reject 1d6b:* if localtime(12:30-15:00)\nallow", null],
    ["allow\nreject if localtime(12:30-15:00)", null],
    ["allow if { localtime(13:00-14:00) localtime(12:10-12:20) }", hour / 6],
  ])("%s at noon: %s ms", (text, ms) => expect(until(text)).toBe(ms));

  test("a duration that runs out, whichever way it is asked", () => {
    const applied = () => 5_000_000 - 4_000;
    expect(until("allow if rule-applied(10)", { applied })).toBe(6_001);
    expect(until("allow if !rule-applied(10)", { applied })).toBe(6_001);
    expect(until("allow if !rule-applied(4)", { applied })).toBe(1);
    expect(until("allow if !rule-applied(3)", { applied })).toBe(null);
    expect(until("allow if rule-applied", { applied })).toBe(null);
  });
});

describe("explain", () => {
  test("says of each rule what failed, in text that can do a terminal no harm", () => {
    const text =
      'allow 1d6b:*\nallow hash "x"\nallow with-interface 03:*:* if true\nallow if { true random(0.1) }\nblock';
    const device = usbDevice({ hash: "", name: "\u001b[2J" });
    expect(explain(rulesOf(text), device, usbContext()).map((one) => [one.matched, one.because])).toEqual([
      [false, "id 1d6b:* does not match: the device has 0781:5581"],
      [false, 'hash "x" does not match: that is not known of the device'],
      [false, "with-interface 03:*:* does not match: the device has 08:06:50"],
      [false, "if equals: true holds, random(0.1) does not"],
      [true, "every attribute matches"],
    ]);
    const [named] = explain(rulesOf('allow name "a"'), device, usbContext());
    expect(named?.because).toBe('name "a" does not match: the device has "\\x1b[2J"');
  });

  test("and stays short", () => {
    const device = usbDevice({ name: "x".repeat(500) });
    const [one] = explain(rulesOf(`allow name "${"y".repeat(500)}"`), device, usbContext());
    expect(one?.because.length).toBeLessThan(450);
  });
});

describe("properties", () => {
  const lists = fc
    .array(rules, { maxLength: 6 })
    .map((list) => list.map((rule, index) => ({ ...rule, line: index + 1 })));
  const contexts = fc
    .record({
      now: fc.integer({ min: 0, max: 86_400_000 }),
      draw: fc.constantFrom(0, 0.3, 0.999),
      other: devices,
    })
    .map(({ now, draw, other }) =>
      usbContext({
        nowMs: 1_780_000_000_000 + now,
        random: () => draw,
        allowedDevices: [other],
        applied: () => 4_000_000,
        evaluated: () => 4_999_999,
      }),
    );

  test("the first rule that matches decides; none: block. explain says the same", () => {
    fc.assert(
      fc.property(lists, devices, contexts, (list, device, context) => {
        const decision = evaluate(list, device, context);
        const first = list.find((rule) => evaluate([rule], device, context).rule !== null) ?? null;
        expect(decision.rule).toBe(first);
        expect(decision.target).toBe(first?.target ?? "block");
        const explained = explain(list, device, context);
        expect(explained.find((one) => one.matched)?.rule ?? null).toBe(first);
      }),
      { numRuns: 2_000 },
    );
  });

  test("a rule with one attribute more matches no device that it did not match before", () => {
    fc.assert(
      fc.property(rules, attributes, devices, contexts, (rule, more, device, context) => {
        const names = new Set(rule.attributes.map(({ name }) => name));
        const added: readonly UsbAttribute[] = more.filter(({ name }) => !names.has(name));
        const narrower = { ...rule, attributes: [...rule.attributes, ...added] };
        fc.pre(added.length > 0 && rule.conditions === null);
        if (evaluate([narrower], device, context).rule !== null) {
          expect(evaluate([rule], device, context).rule).toBe(rule);
        }
      }),
      { numRuns: 3_000 },
    );
  });

  test("until its validUntilMs no decision changes by time alone", () => {
    const timed = lists.map((list) => list.filter((rule) => !hasRandom(rule)));
    fc.assert(
      fc.property(
        timed,
        devices,
        contexts,
        fc.array(fc.nat(86_400_000), { maxLength: 8 }),
        (list, device, context, later) => {
          const decision = evaluate(list, device, context);
          const end = decision.validUntilMs;
          if (end !== null) expect(end).toBeGreaterThan(context.nowMs);
          for (const ms of [...later, ...(end === null ? [] : [end - 1 - context.nowMs])]) {
            if (end !== null && context.nowMs + ms >= end) continue;
            const then = { ...context, nowMs: context.nowMs + ms, monoMs: context.monoMs + ms };
            expect(evaluate(list, device, then).rule).toBe(decision.rule);
          }
        },
      ),
      { numRuns: 2_000 },
    );
  });

  function hasRandom(rule: UsbRule): boolean {
    return rule.conditions?.list.some(({ test: { kind } }) => kind === "random") ?? false;
  }

  test("equals is what counting every pairing says", () => {
    const patterns = fc.array(
      fc.constantFrom("03:01:01", "03:00:01", "08:06:50", "03:*:*", "03:01:*", "08:*:*"),
      {
        minLength: 1,
        maxLength: 4,
      },
    );
    const has = fc.array(fc.constantFrom("03:01:01", "03:01:02", "03:00:01", "08:06:50"), {
      minLength: 1,
      maxLength: 4,
    });
    fc.assert(
      fc.property(patterns, has, (values, interfaces) => {
        const rule: UsbRule = {
          line: 1,
          target: "allow",
          attributes: [{ name: "with-interface", operator: "equals", values }],
          conditions: null,
          label: null,
        };
        const matched = evaluate([rule], usbDevice({ interfaces }), usbContext()).rule !== null;
        expect(matched).toBe(permutations(interfaces).some((order) => fitsInOrder(values, order)));
      }),
      { numRuns: 2_000 },
    );
  });

  function permutations(list: readonly string[]): readonly (readonly string[])[] {
    if (list.length === 0) return [[]];
    return list.flatMap((one, index) => permutations(list.toSpliced(index, 1)).map((rest) => [one, ...rest]));
  }

  function fitsInOrder(values: readonly string[], order: readonly string[]): boolean {
    const fits = (pattern: string, value: string) =>
      pattern.split(":").every((part, index) => part === "*" || part === value.split(":")[index]);
    return values.length === order.length && values.every((value, index) => fits(value, order[index] ?? ""));
  }
});
