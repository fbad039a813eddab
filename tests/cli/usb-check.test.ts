import { expect, test } from "vitest";
import { checkUsbRules, renderUsbCheck } from "../../cli/usb-check.ts";

const shown = (text: string) => renderUsbCheck(checkUsbRules(text), "my.rules");

test("a file that can be used: how many rules, and what is odd", () => {
  expect(shown("allow 1d6b:0002\nblock")).toEqual(["2 rules"]);
  expect(shown('block\nallow name "a*"')).toEqual([
    'my.rules:2: warning: `name` "a*": a `*` in a text is a star, no pattern',
    "my.rules:2: warning: never reached: line 1 matches every device",
    "2 rules",
  ]);
  expect(checkUsbRules("")).toEqual({ ok: true, rules: 0, problems: [], warnings: [] });
});

test("a file that cannot: every problem, where editors jump to", () => {
  expect(shown("allow with-interfaces 08:*:*")).toEqual([
    "my.rules:1:7: unknown attribute `with-interfaces`: did you mean `with-interface`?",
    "refused: 1 problem",
  ]);
  expect(checkUsbRules("alow").ok).toBe(false);
});
