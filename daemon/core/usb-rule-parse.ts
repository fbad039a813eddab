import { nearest } from "./nearest.ts";
import type { UsbTarget } from "./usb-facts.ts";
import {
  USB_ATTRIBUTES,
  USB_OPERATORS,
  type UsbAttribute,
  type UsbConditions,
  type UsbOperator,
  type UsbRule,
  type UsbValues,
} from "./usb-rule.ts";
import { takeCondition } from "./usb-rule-condition.ts";
import { type Cursor, cursorOver } from "./usb-rule-cursor.ts";
import { showText } from "./usb-rule-text.ts";
import { tokensOfLine, type UsbProblem } from "./usb-rule-tokens.ts";
import { ID_HINT, INTERFACE_HINT, isQuoted, parseId, parseInterface } from "./usb-rule-values.ts";

export type ParsedUsbRules =
  | { readonly ok: true; readonly rules: readonly UsbRule[] }
  | { readonly ok: false; readonly problems: readonly UsbProblem[] };

const LONGEST_TEXT = 4_194_304;
const LONGEST_LINE = 16_384;
const MOST_RULES = 4_096;
const MOST_PROBLEMS = 1_000;

const TARGETS: readonly UsbTarget[] = ["allow", "block", "reject"];
const WORDS = [...USB_ATTRIBUTES, "label", "if"] as const;
/** Where reading goes on after a mistake. */
const STOPS: readonly string[] = [...WORDS, ")"];

/**
 * Reads a rules file of USBGuard's language: one rule a line, `#` begins a comment. All or nothing: with one problem
 * there are no rules, since a rule left out may have been the one that blocks. Every problem is told (the first
 * thousand). Stricter than USBGuard where it takes what it then ignores or never matches: see usb-rule-import.ts.
 */
export function parseUsbRules(text: string): ParsedUsbRules {
  if (text.length > LONGEST_TEXT)
    return refused(1, "the file is too long", `at most ${LONGEST_TEXT} characters`);
  const rules: UsbRule[] = [];
  const problems: UsbProblem[] = [];
  for (const [index, source] of linesOf(text).entries()) {
    const parsed = parseLine(source, index + 1);
    if (!parsed.ok) problems.push(...parsed.problems);
    else if (parsed.rule !== null) rules.push(parsed.rule);
    if (rules.length > MOST_RULES) {
      return refused(index + 1, `there are more than ${MOST_RULES} rules`, "merge some with `one-of { … }`");
    }
    if (problems.length > MOST_PROBLEMS) break;
  }
  if (problems.length === 0) return { ok: true, rules };
  return { ok: false, problems: problems.slice(0, MOST_PROBLEMS) };
}

/** The lines of a file, without their line breaks. */
export function linesOf(text: string): readonly string[] {
  return text.split("\n").map((line) => (line.endsWith("\r") ? line.slice(0, -1) : line));
}

function refused(line: number, message: string, hint: string): ParsedUsbRules {
  return { ok: false, problems: [{ line, column: 1, message, hint }] };
}

type ParsedLine =
  | { readonly ok: true; readonly rule: UsbRule | null }
  | { readonly ok: false; readonly problems: readonly UsbProblem[] };

function parseLine(source: string, line: number): ParsedLine {
  if (source.length > LONGEST_LINE) {
    const message = `the line is longer than ${LONGEST_LINE} characters`;
    return {
      ok: false,
      problems: [{ line, column: LONGEST_LINE + 1, message, hint: "make several rules of it" }],
    };
  }
  const { tokens, problems } = tokensOfLine(source, line);
  const cursor = cursorOver(tokens, line, problems);
  if (cursor.peek().kind === "end") return { ok: true, rule: null };
  const target = takeTarget(cursor);
  // after a word that is no target at all, the rest of the line says nothing about what was meant
  if (target === null) return { ok: false, problems: cursor.problems() };
  const parts = takeParts(cursor, "rule");
  if (cursor.problems().length > 0) return { ok: false, problems: cursor.problems() };
  return { ok: true, rule: { line, target, ...parts } };
}

function takeTarget(cursor: Cursor): UsbTarget | null {
  const token = cursor.take();
  const target = TARGETS.find((one) => token.kind === "word" && one === token.text);
  if (target !== undefined) return target;
  const guess = token.kind === "word" ? nearest(token.text, TARGETS) : null;
  const hint = guess ? `did you mean \`${guess}\`?` : "a rule begins with `allow`, `block` or `reject`";
  cursor.refuse(token, `unknown target \`${showText(token.text)}\``, hint);
  return guess;
}

type Parts = Pick<UsbRule, "attributes" | "conditions" | "label">;

/** What comes after the target, up to the end; in a query, which has device attributes only, up to its parenthesis. */
function takeParts(cursor: Cursor, where: "rule" | "query"): Parts {
  const attributes: UsbAttribute[] = [];
  const seen = new Set<string>();
  let conditions: UsbConditions | null = null;
  let label: UsbValues | null = null;
  const shorthand = takeShorthandId(cursor);
  if (shorthand !== null) {
    attributes.push(shorthand);
    seen.add("id");
  }
  for (let token = cursor.peek(); token.kind !== "end"; token = cursor.peek()) {
    if (token.kind === ")" && where === "query") break;
    const word = WORDS.find((one) => token.kind === "word" && one === token.text);
    cursor.take();
    if (word === undefined) {
      refuseUnknown(cursor, token.kind, token.text, token.column);
      continue;
    }
    if (seen.has(word)) {
      const hint =
        word === "if" ? "use one `if { … }`" : `give its values together: \`${word} one-of { … }\``;
      cursor.refuse(token, `\`${word}\` is given twice`, hint);
    }
    seen.add(word);
    if (where === "query" && (word === "if" || word === "label")) {
      cursor.refuse(
        token,
        `\`${word}\` has no place in a query`,
        "a query is made of device attributes only",
      );
    }
    if (word === "if") conditions = takeConditions(cursor);
    else if (word === "label") label = takeValues(cursor, word);
    else attributes.push({ name: word, ...takeValues(cursor, word) });
  }
  return { attributes, conditions, label };
}

/** `allow 1d6b:0002 …`: an id right after the target. */
function takeShorthandId(cursor: Cursor): UsbAttribute | null {
  const token = cursor.peek();
  if (token.kind !== "word" || !token.text.includes(":")) return null;
  cursor.take();
  const id = parseId(token.text);
  if (id === null) cursor.refuse(token, `\`${showText(token.text)}\` is no device id`, ID_HINT);
  return { name: "id", operator: "equals", values: [id ?? ""] };
}

function refuseUnknown(cursor: Cursor, kind: string, text: string, column: number): void {
  const at = { column };
  if (kind !== "word") {
    cursor.refuse(
      at,
      `an attribute has to come here, not \`${showText(text)}\``,
      `one of ${WORDS.join(", ")}`,
    );
    cursor.skipTo(STOPS);
    return;
  }
  const guess = nearest(text, WORDS);
  const hint = guess ? `did you mean \`${guess}\`?` : `the attributes are ${WORDS.join(", ")}`;
  const known = { match: "target", device: "target", allow: "target", block: "target", reject: "target" }[
    text
  ];
  cursor.refuse(
    at,
    `unknown attribute \`${showText(text)}\``,
    known ? "a rule has one target, at its beginning" : hint,
  );
  cursor.skipTo(STOPS);
}

function takeValues(cursor: Cursor, name: UsbAttribute["name"] | "label"): UsbValues {
  const { operator, braces } = takeOperator(cursor);
  if (!braces) return { operator, values: [takeValue(cursor, name)] };
  const open = cursor.take();
  const values: string[] = [];
  while (cursor.peek().kind === "text" || cursor.peek().kind === "word") values.push(takeValue(cursor, name));
  closeSet(cursor, open, values.length);
  return { operator, values };
}

/** The operator before a set, `equals` where there is none, and whether a set follows. */
function takeOperator(cursor: Cursor): { readonly operator: UsbOperator; readonly braces: boolean } {
  const token = cursor.peek();
  if (token.kind === "{") return { operator: "equals", braces: true };
  const operator = USB_OPERATORS.find((one) => token.kind === "word" && one === token.text);
  const braces = cursor.peek(1).kind === "{";
  if (operator !== undefined) {
    cursor.take();
    if (!braces) cursor.refuse(cursor.peek(), `a set has to follow \`${operator}\``, `\`${operator} { … }\``);
    return { operator, braces };
  }
  if (token.kind !== "word" || !braces) return { operator: "equals", braces: false };
  cursor.take();
  const guess = nearest(token.text, USB_OPERATORS);
  const hint = guess ? `did you mean \`${guess}\`?` : `the operators are ${USB_OPERATORS.join(", ")}`;
  cursor.refuse(token, `unknown operator \`${showText(token.text)}\``, hint);
  return { operator: "equals", braces };
}

function closeSet(cursor: Cursor, open: { readonly column: number }, size: number): void {
  const token = cursor.peek();
  if (token.kind !== "}") {
    const found = token.kind === "end" ? "the line ends" : `\`${showText(token.text)}\` comes`;
    cursor.refuse(token, `${found} before the set is closed`, "put a `}` after the last value");
    cursor.skipTo(STOPS);
    return;
  }
  cursor.take();
  if (size === 0) cursor.refuse(open, "an empty set", "give at least one value, or leave the attribute out");
}

function takeValue(cursor: Cursor, name: UsbAttribute["name"] | "label"): string {
  const token = cursor.peek();
  const quoted = isQuoted(name);
  if (token.kind !== (quoted ? "text" : "word")) {
    refuseValue(cursor, name);
    return "";
  }
  cursor.take();
  if (quoted) return token.text;
  const value = name === "id" ? parseId(token.text) : parseInterface(token.text);
  if (value !== null) return value;
  const what = name === "id" ? "device id" : "interface";
  cursor.refuse(token, `\`${showText(token.text)}\` is no ${what}`, name === "id" ? ID_HINT : INTERFACE_HINT);
  return "";
}

function refuseValue(cursor: Cursor, name: UsbAttribute["name"] | "label"): void {
  const token = cursor.peek();
  const hint = isQuoted(name)
    ? `a text in double quotes: \`${name} "…"\``
    : `without quotes: ${name === "id" ? ID_HINT : INTERFACE_HINT}`;
  const missing = token.kind === "end" || WORDS.some((word) => word === token.text);
  if (missing) cursor.refuse(token, `\`${name}\` has no value`, hint);
  else {
    cursor.refuse(token, `\`${showText(token.text)}\` is no value of \`${name}\``, hint);
    cursor.take();
  }
}

function takeConditions(cursor: Cursor): UsbConditions {
  const at = cursor.peek();
  const { operator, braces } = takeOperator(cursor);
  if (operator === "match-all") {
    cursor.refuse(at, "`match-all` says nothing of conditions", "`all-of`, `one-of` or `none-of`");
  }
  const means = operator === "match-all" ? "all-of" : operator;
  const query = (inner: Cursor) => takeParts(inner, "query").attributes;
  if (!braces) return { operator: means, list: [takeCondition(cursor, query)] };
  const open = cursor.take();
  const list = [];
  while (cursor.peek().kind === "word" || cursor.peek().kind === "!") list.push(takeCondition(cursor, query));
  closeSet(cursor, open, list.length);
  return { operator: means, list };
}
