import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { UsbRule } from "../../daemon/core/usb-rule.ts";
import { importUsbGuard } from "../../daemon/core/usb-rule-import.ts";
import { parseUsbRules } from "../../daemon/core/usb-rule-parse.ts";
import { addUsbRules, removeUsbRules, renderUsbRule, ruleKey } from "../../daemon/core/usb-rule-render.ts";
import { rules, rulesOf } from "../support/usb-rules.ts";

const vector = (name: string) => readFileSync(new URL(`../vectors/usb/${name}`, import.meta.url), "utf8");

/** "column: message: hint" of each problem, in order. */
function problemsOf(text: string): readonly string[] {
  const parsed = parseUsbRules(text);
  return parsed.ok
    ? []
    : parsed.problems.map((one) => `${one.line}:${one.column} ${one.message}: ${one.hint}`);
}

describe("what is read", () => {
  test("the documented examples, each as it stands", () => {
    const lines = vector("documented.rules")
      .split("\n")
      .filter((line) => line !== "" && !line.startsWith("#"));
    expect(rulesOf(vector("documented.rules"))).toHaveLength(lines.length);
    expect(rulesOf(vector("documented.rules")).map(renderUsbRule)).toEqual(
      lines.map((line) =>
        line
          // the same, shorter: equals of one is the value, an id after the target is the attribute
          .replace("equals { 08:*:* }", "08:*:*")
          .replace("allow 1050:0011", "allow id 1050:0011"),
      ),
    );
  });

  test.each([
    ["allow", "allow"],
    ["  allow\t", "allow"],
    ["block # why", "block"],
    ["reject#why", "reject"],
    ["allow 1D6B:*", "allow id 1d6b:*"],
    ["allow *:*", "allow id *:*"],
    ["allow id one-of {1d6b:0002 0781:*}", "allow id one-of { 1d6b:0002 0781:* }"],
    ["allow id equals { 1d6b:0002 }", "allow id 1d6b:0002"],
    ["allow id { 1d6b:0002 1d6b:0003 }", "allow id { 1d6b:0002 1d6b:0003 }"],
    [
      "allow with-interface match-all { 08:06:* 0A:*:* }",
      "allow with-interface match-all { 08:06:* 0a:*:* }",
    ],
    ['allow name "a # b { \\" \\\\ \\x41"', 'allow name "a # b { \\" \\\\ A"'],
    ['allow name "\\xc3\\xbc" label "ü"', 'allow name "\\xc3\\xbc" label "\\xc3\\xbc"'],
    ["allow if !true", "allow if !true"],
    ["allow if { true !false }", "allow if { true !false }"],
    ["allow if equals { true }", "allow if true"],
    [
      "allow if none-of { random random(0.25) random(1) }",
      "allow if none-of { random random(0.25) random(1) }",
    ],
    ["allow if localtime(8:00)", "allow if localtime(08:00)"],
    ["allow if localtime(08:00-17:30:59)", "allow if localtime(08:00-17:30:59)"],
    ["allow if localtime(22:00-6:00)", "allow if localtime(22:00-06:00)"],
    ["allow if rule-applied", "allow if rule-applied"],
    ["allow if rule-applied(90)", "allow if rule-applied(00:01:30)"],
    ["allow if rule-evaluated(01:00)", "allow if rule-evaluated(01:00)"],
    [
      'allow if !allowed-matches(1d6b:* name "a)b" with-interface { 03:01:01 })',
      'allow if !allowed-matches(id 1d6b:* name "a\\x29b" with-interface 03:01:01)',
    ],
  ])("%s is %s", (text, written) => {
    expect(rulesOf(text).map(renderUsbRule)).toEqual([written]);
  });

  test("several rules, with their lines; comments, blank lines and both kinds of line break", () => {
    const text = "# a\n\nallow 1d6b:*\r\n \t\nblock\n  # b";
    expect(rulesOf(text).map(({ line, target }) => [line, target])).toEqual([
      [3, "allow"],
      [5, "block"],
    ]);
    expect(rulesOf("")).toEqual([]);
  });
});

describe("what is refused", () => {
  test.each([
    ["alow", "1:1 unknown target `alow`: did you mean `allow`?"],
    ["permit", "1:1 unknown target `permit`: a rule begins with `allow`, `block` or `reject`"],
    ["Allow", "1:1 unknown target `Allow`: did you mean `allow`?"],
    [
      "allow with-interfaces 08:*:*",
      "1:7 unknown attribute `with-interfaces`: did you mean `with-interface`?",
    ],
    ["allow serail 1", "1:7 unknown attribute `serail`: did you mean `serial`?"],
    ["allow block", "1:7 unknown attribute `block`: a rule has one target, at its beginning"],
    ["allow id 1234:123", "1:10 `1234:123` is no device id: vendor:product, four hex digits each"],
    ["allow *:1234", "1:7 `*:1234` is no device id"],
    ["allow id 1d6b:00*", "1:10 `1d6b:00*` is no device id"],
    ["allow 1d6b:0002 id 1d6b:0003", "1:17 `id` is given twice: give its values together"],
    ["allow id", "1:9 `id` has no value: without quotes"],
    ['allow id "1d6b:0002"', "1:10 `1d6b:0002` is no value of `id`: without quotes"],
    ["allow name foo", '1:12 `foo` is no value of `name`: a text in double quotes: `name "…"`'],
    ["allow name", '1:11 `name` has no value: a text in double quotes: `name "…"`'],
    ['allow name serial "1"', "1:12 `name` has no value"],
    ['allow name "a', '1:12 this text does not end: put a `"` after it'],
    ['allow name "a\\"', "1:12 this text does not end"],
    ['allow name "a\\n"', "1:14 unknown escape"],
    ['allow name "\\x4"', "1:13 unknown escape"],
    ['allow name "\\xff"', "1:12 these bytes are not UTF-8"],
    ['allow name"a"', '1:11 a blank is missing before `"a"`'],
    ['allow name { "a""b" }', '1:17 a blank is missing before `"b"`'],
    ['allow name "a" name "b"', "1:16 `name` is given twice"],
    ["allow name { }", "1:12 an empty set: give at least one value, or leave the attribute out"],
    ['allow name one-of "a"', "1:19 a set has to follow `one-of`"],
    ['allow name on-of { "a" }', "1:12 unknown operator `on-of`: did you mean `one-of`?"],
    ['allow name some { "a" }', "1:12 unknown operator `some`: the operators are all-of, one-of"],
    ['allow name { "a"', "1:17 the line ends before the set is closed: put a `}` after the last value"],
    ['allow name { "a" # }', "1:18 the line ends before the set is closed"],
    ["allow with-interface 08", "1:22 `08` is no interface"],
    ["allow with-interface 08:*:50", "1:22 `08:*:50` is no interface"],
    ["allow with-interface *:*:*", "1:22 `*:*:*` is no interface"],
    ["allow with-interface 08:*:* 03:*:*", "1:29 unknown attribute `03:*:*`"],
    ["allow with-interface { 08:*:* * }", "1:31 `*` is no interface"],
    ["allow }", "1:7 an attribute has to come here, not `}`"],
    ["allow if", "1:9 a condition is missing"],
    ["allow if !", "1:11 a condition is missing"],
    ["allow if !!true", "1:11 a condition is missing"],
    ["allow if lcaltime(1:00)", "1:10 unknown condition `lcaltime`: did you mean `localtime`?"],
    ["allow if true()", "1:14 `true` takes no argument"],
    ["allow if true false", "1:15 unknown attribute `false`"],
    ["allow if true if false", "1:15 `if` is given twice: use one `if { … }`"],
    ["allow if { }", "1:10 an empty set"],
    ["allow if match-all { true }", "1:10 `match-all` says nothing of conditions"],
    ["allow if localtime", "1:10 `localtime` has no time"],
    ["allow if localtime(24:00)", "1:20 `24:00` is no argument here"],
    ["allow if localtime(08:00-)", "1:20 `08:00-` is no argument here"],
    ["allow if localtime(08:00-09:00-10:00)", "1:20 `08:00-09:00-10:00` is no argument here"],
    ["allow if rule-applied(0)", "1:23 `0` is no argument here"],
    ["allow if rule-applied()", "1:23 `)` is no argument here"],
    ["allow if rule-applied(24:00)", "1:23 `24:00` is no argument here"],
    ["allow if random(1.5)", "1:17 `1.5` is no argument here: from 0 to 1 with at most six decimals"],
    ["allow if random(1.000001)", "1:17 `1.000001` is no argument here"],
    ["allow if random(1e-3)", "1:17 `1e-3` is no argument here"],
    ["allow if random(0.5", "1:16 this parenthesis is not closed"],
    ["allow if allowed-matches", "1:10 `allowed-matches` has no query"],
    ["allow if allowed-matches()", "1:25 an empty query"],
    ["allow if allowed-matches(if true)", "1:26 `if` has no place in a query"],
    ["allow if allowed-matches(allow 1d6b:*)", "1:26 unknown attribute `allow`: a rule has one target"],
    ['allow key "x"', "1:7 unknown attribute `key`"],
    ["match", "1:1 unknown target `match`"],
    ["allow \u00a0", "1:7 unknown attribute `?`"],
    ["allow\u001b[2J", "1:1 unknown target `allow?[2J`"],
  ])("%j: %s", (text, problem) => {
    expect(problemsOf(text)[0]).toContain(problem);
  });

  test("every problem of a file is told, with its place", () => {
    const text = 'allow 1d6b:0002\nalow nme "x" with-interface 8\n# alow\nblock serial "1" serial "2" if tru';
    expect(problemsOf(text).map((one) => one.split(" ")[0])).toEqual(["2:1", "2:6", "2:29", "4:18", "4:32"]);
  });

  test("limits: the line, the rules, the file; and no more than a thousand problems", () => {
    expect(problemsOf(`allow name "${"x".repeat(20_000)}"`)[0]).toContain("longer than 16384");
    expect(problemsOf("allow\n".repeat(4_097))[0]).toContain("4097:1 there are more than 4096 rules");
    expect(rulesOf("allow\n".repeat(4_096))).toHaveLength(4_096);
    expect(problemsOf("#".repeat(4_200_000))[0]).toContain("the file is too long");
    expect(problemsOf("alow\n".repeat(5_000))).toHaveLength(1_000);
  });
});

describe("properties", () => {
  test("a rule that is written and read is the same rule", () => {
    fc.assert(
      fc.property(rules, (rule) => {
        expect(rulesOf(renderUsbRule(rule))).toEqual([rule]);
      }),
      { numRuns: 3_000 },
    );
  });

  test("what is written is printable ASCII on one line", () => {
    fc.assert(fc.property(rules, (rule) => /^[ -~]+$/.test(renderUsbRule(rule))));
  });

  test("every byte there is comes back as it was, and none is written that does something to a terminal", () => {
    const name = Array.from({ length: 0x180 }, (_, code) => String.fromCharCode(code)).join("");
    const rule: UsbRule = {
      line: 1,
      target: "allow",
      attributes: [{ name: "name", operator: "equals", values: [name] }],
      conditions: null,
      label: null,
    };
    expect(renderUsbRule(rule)).toMatch(/^[ -~]+$/);
    expect(rulesOf(renderUsbRule(rule))).toEqual([rule]);
  });

  const piece = fc.oneof(
    fc.constantFrom(
      "allow",
      "block",
      "id",
      "name",
      "if",
      "one-of",
      "{",
      "}",
      "(",
      ")",
      "!",
      '"',
      "\\",
      "#",
      " ",
      "\n",
    ),
    fc.constantFrom(
      "1d6b:0002",
      "08:*:*",
      '"a"',
      "localtime",
      "08:00-09:00",
      "allowed-matches",
      "random",
      "\\x",
    ),
    fc.string({ unit: "binary", maxLength: 4 }),
  );

  test("whatever the text is, reading ends and throws nothing; each problem stands within the text", () => {
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 40 }), fc.boolean(), (pieces, blanks) => {
        const text = pieces.join(blanks ? " " : "");
        const parsed = parseUsbRules(text);
        const lines = text.split("\n");
        for (const { line, column, message, hint } of parsed.ok ? [] : parsed.problems) {
          expect(column).toBeGreaterThanOrEqual(1);
          expect(column).toBeLessThanOrEqual((lines[line - 1] ?? "").length + 1);
          expect(message).toMatch(/^[ -~…]+$/);
          expect(hint).not.toBe("");
        }
        // whatever is read is also imported, and looked over
        expect(importUsbGuard(text).ok).toBe(parsed.ok);
      }),
      { numRuns: 5_000 },
    );
  });

  test("a rule with one character wrong is refused, or asks for no less than before", () => {
    const right =
      'allow id 1d6b:0002 serial "a" with-interface one-of { 08:06:50 03:*:* } if !rule-applied(00:10)';
    fc.assert(
      fc.property(fc.nat(right.length - 1), fc.constantFrom("", "x", " ", "_"), (at, other) => {
        const parsed = parseUsbRules(right.slice(0, at) + other + right.slice(at + 1));
        if (!parsed.ok) return;
        expect(parsed.rules.flatMap((rule) => rule.attributes.map(({ name }) => name))).toEqual([
          "id",
          "serial",
          "with-interface",
        ]);
        expect(parsed.rules[0]?.conditions).not.toBe(null);
      }),
      { numRuns: 2_000 },
    );
  });
});

describe("files that are edited", () => {
  const text = "# ours\n\n# the dock\nallow 17ef:* # dock\nblock\n# end";

  test("a rule goes before the first one, or after the last line; all else stays", () => {
    const [rule] = rulesOf("reject 0781:*");
    if (!rule) throw new Error("no rule");
    expect(addUsbRules(text, [rule], "first")).toBe(
      "# ours\n\n# the dock\nreject id 0781:*\nallow 17ef:* # dock\nblock\n# end",
    );
    expect(addUsbRules(text, [rule], "last")).toBe(`${text}\nreject id 0781:*\n`);
    expect(addUsbRules("", [rule], "first")).toBe("reject id 0781:*\n");
    expect(addUsbRules("# only this", [rule], "first")).toBe("# only this\nreject id 0781:*\n");
    expect(addUsbRules("# only this\n", [rule], "last")).toBe("# only this\nreject id 0781:*\n");
  });

  test("a rule is taken out by its line, with the comment on it", () => {
    expect(removeUsbRules(text, [4])).toBe("# ours\n\n# the dock\nblock\n# end");
  });

  test("added and removed again, a file is what it was", () => {
    const line = fc.constantFrom("", "# a", "allow 1d6b:* # x", "  block", "\t# b");
    fc.assert(
      fc.property(fc.array(line), rules, fc.constantFrom("first", "last"), (lines, rule, where) => {
        const before = lines.map((one) => `${one}\n`).join("");
        const added = addUsbRules(before, [rule], where);
        const found = rulesOf(added).filter((one) => ruleKey(one) === ruleKey(rule));
        const own = where === "first" ? found[0] : found.at(-1);
        expect(own === undefined ? null : removeUsbRules(added, [own.line])).toBe(before);
        expect(rulesOf(added)[where === "first" ? 0 : rulesOf(added).length - 1]).toEqual({
          ...rule,
          line: own?.line,
        });
      }),
    );
  });
});
