import { nearest } from "./nearest.ts";
import type { UsbAttribute, UsbCondition, UsbTest } from "./usb-rule.ts";
import type { Cursor } from "./usb-rule-cursor.ts";
import { showText } from "./usb-rule-text.ts";
import type { UsbToken } from "./usb-rule-tokens.ts";
import {
  DURATION_HINT,
  MILLION,
  PROBABILITY_HINT,
  parseDuration,
  parseProbability,
  parseTimeRange,
  TIME_HINT,
} from "./usb-rule-values.ts";

const TESTS = [
  "allowed-matches",
  "localtime",
  "rule-applied",
  "rule-evaluated",
  "random",
  "true",
  "false",
] as const;

/** What stands for a condition that was refused: the rule is not used, whatever is in it. */
const NEVER: UsbTest = { kind: "constant", value: false };

/** Reads `[!]name` or `[!]name(argument)`. `query` reads the device attributes of `allowed-matches(…)`. */
export function takeCondition(
  cursor: Cursor,
  query: (cursor: Cursor) => readonly UsbAttribute[],
): UsbCondition {
  const negated = cursor.peek().kind === "!";
  if (negated) cursor.take();
  const token = cursor.peek();
  const name = TESTS.find((one) => token.kind === "word" && one === token.text);
  if (name === undefined) {
    refuseName(cursor, token);
    return { negated, test: NEVER };
  }
  cursor.take();
  return { negated, test: takeTest(cursor, name, token, query) };
}

function takeTest(
  cursor: Cursor,
  name: (typeof TESTS)[number],
  token: UsbToken,
  query: (cursor: Cursor) => readonly UsbAttribute[],
): UsbTest {
  switch (name) {
    case "true":
    case "false":
      if (cursor.peek().kind === "(") refuseArgument(cursor, `\`${name}\` takes no argument`, "leave it out");
      return { kind: "constant", value: name === "true" };
    case "random":
      return {
        kind: "random",
        millionths: takeArgument(cursor, parseProbability, PROBABILITY_HINT) ?? MILLION / 2,
      };
    case "rule-applied":
    case "rule-evaluated":
      return { kind: name, seconds: takeArgument(cursor, parseDuration, DURATION_HINT) };
    case "localtime": {
      if (cursor.peek().kind === "(") return takeArgument(cursor, parseTimeRange, TIME_HINT) ?? NEVER;
      cursor.refuse(token, "`localtime` has no time", TIME_HINT);
      return NEVER;
    }
    case "allowed-matches":
      return { kind: "allowed-matches", query: takeQuery(cursor, token, query) };
  }
}

/** `(word)`; null where there is none, or one that was refused. */
function takeArgument<Value>(
  cursor: Cursor,
  parse: (text: string) => Value | null,
  hint: string,
): Value | null {
  if (cursor.peek().kind !== "(") return null;
  const open = cursor.take();
  const token = cursor.peek();
  const value = token.kind === "word" ? parse(token.text) : null;
  if (value === null) cursor.refuse(token, `\`${showText(token.text)}\` is no argument here`, hint);
  if (token.kind === "word" || token.kind === "text") cursor.take();
  close(cursor, open);
  return value;
}

function takeQuery(
  cursor: Cursor,
  token: UsbToken,
  query: (cursor: Cursor) => readonly UsbAttribute[],
): readonly UsbAttribute[] {
  const hint = "`allowed-matches(with-interface one-of { 03:00:01 03:01:01 })`";
  if (cursor.peek().kind !== "(") {
    cursor.refuse(token, "`allowed-matches` has no query", hint);
    return [];
  }
  const open = cursor.take();
  const known = cursor.problems().length;
  const attributes = query(cursor);
  if (attributes.length === 0 && cursor.problems().length === known)
    cursor.refuse(open, "an empty query", hint);
  close(cursor, open);
  return attributes;
}

function close(cursor: Cursor, open: UsbToken): void {
  if (cursor.peek().kind === ")") cursor.take();
  else cursor.refuse(open, "this parenthesis is not closed", "put a `)` after the argument");
}

function refuseArgument(cursor: Cursor, message: string, hint: string): void {
  cursor.refuse(cursor.peek(), message, hint);
  while (cursor.peek().kind !== "end" && cursor.peek().kind !== ")") cursor.take();
  cursor.take();
}

function refuseName(cursor: Cursor, token: UsbToken): void {
  if (token.kind !== "word") {
    cursor.refuse(token, "a condition is missing", `one of ${TESTS.join(", ")}`);
    if (token.kind !== "end" && token.kind !== "}") cursor.take();
    return;
  }
  cursor.take();
  const guess = nearest(token.text, TESTS);
  const hint = guess ? `did you mean \`${guess}\`?` : `the conditions are ${TESTS.join(", ")}`;
  cursor.refuse(token, `unknown condition \`${showText(token.text)}\``, hint);
  if (cursor.peek().kind === "(") {
    while (cursor.peek().kind !== "end" && cursor.peek().kind !== ")") cursor.take();
    cursor.take();
  }
}
