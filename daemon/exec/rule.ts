import type { Mode } from "../core/mode.ts";
import { isOfKind, KINDS, type Kinds, type Places } from "./kinds.ts";
import { type OptionTable, parseOptions, type SplitRules, splitArguments } from "./options.ts";
import { compilePattern, type Pattern } from "./pattern.ts";
import type { RuleInput } from "./profile-schema.ts";
import { literalWords } from "./shell.ts";

/** What the arguments of a program have to be. */
export type Rule = {
  readonly id: string;
  readonly verdict: "allow" | "ask";
  readonly last: boolean;
  readonly reach: "none" | "file" | "network";
  readonly modes: readonly Mode[] | null;
  readonly carries: boolean;
  readonly exact: readonly (readonly string[])[] | null;
  readonly leading: OptionTable | null;
  readonly first: readonly (readonly string[])[];
  readonly split: SplitRules;
  readonly operands: Operands;
  readonly forbid: readonly Pattern[];
  readonly count: readonly [number, number];
};

/** Each takes as many of the operands as it may, from the left, as long as those after it have what they need. */
type Operands = readonly { readonly kind: string; readonly least: number; readonly most: number }[];

/** A fault in a rule: where in it, and what. */
export class RuleFault extends Error {
  readonly at: string;
  constructor(at: string, what: string) {
    super(what);
    this.at = at;
  }
}

/** Compiles a rule and runs its own examples on it. Throws RuleFault. */
export function compileRule(input: RuleInput, programName: string, kinds: Kinds): Rule {
  const whole = input.exact !== undefined || input.carries === true;
  const partial = input.first ?? input.options ?? input.leading ?? (input.operands.length > 0 || undefined);
  if (whole && (partial !== undefined || (input.exact !== undefined && input.carries === true)))
    throw new RuleFault("", "exact, carries, and options or operands exclude each other");
  const rule: Rule = {
    id: input.id,
    verdict: input.verdict,
    last: input.last,
    reach: input.reach,
    modes: input.modes ?? null,
    carries: input.carries ?? false,
    exact: input.exact?.map((line, index) => wordsOf(line, `exact[${index}]`)) ?? null,
    leading: input.leading === undefined ? null : optionsOf(input.leading, input.style, "leading", kinds),
    first: input.first?.map((line, index) => wordsOf(line, `first[${index}]`)) ?? [[]],
    split: {
      table: optionsOf(input.options ?? "", input.style, "options", kinds),
      style: input.style,
      numbers: input.numbers,
      stopsAtOperand: input.stopsAtOperand,
    },
    operands: operandsOf(input.operands, kinds),
    forbid: input.forbid.map((source, index) => patternOf(source, `forbid[${index}]`)),
    count: input.count,
  };
  runExamples(rule, input, programName, kinds);
  return rule;
}

/** Whether arguments fit a rule. A rule that carries fits anything: what is carried is judged by itself. */
export function fits(rule: Rule, args: readonly string[], kinds: Kinds, places: Places): boolean {
  if (args.length < rule.count[0] || args.length > rule.count[1]) return false;
  const normal = args.map((one) => one.normalize("NFC"));
  if (rule.forbid.some((pattern) => normal.some((one) => pattern.matches(one)))) return false;
  if (rule.carries) return true;
  if (rule.exact !== null) return rule.exact.some((words) => same(words, normal));
  const at = rule.leading === null ? 0 : afterLeading(rule, normal, kinds, places);
  if (at === null) return false;
  const first = rule.first.find((words) => words.every((word, index) => normal[at + index] === word));
  if (first === undefined) return false;
  const split = splitArguments(normal.slice(at + first.length), rule.split, kinds, places);
  return split !== null && operandsFit(split.operands, rule.operands, kinds, places);
}

function afterLeading(rule: Rule, args: readonly string[], kinds: Kinds, places: Places): number | null {
  const rules = { ...rule.split, table: rule.leading ?? new Map(), numbers: false, stopsAtOperand: true };
  const split = splitArguments(args, rules, kinds, places);
  return split === null || (args.includes("--") && args.indexOf("--") < args.length - split.operands.length)
    ? null
    : args.length - split.operands.length;
}

function operandsFit(given: readonly string[], wanted: Operands, kinds: Kinds, places: Places): boolean {
  let spare = given.length - wanted.reduce((sum, { least }) => sum + least, 0);
  if (spare < 0) return false;
  let at = 0;
  for (const { kind, least, most } of wanted) {
    const more = Math.min(spare, most - least);
    spare -= more;
    for (const end = at + least + more; at < end; at++)
      if (!isOfKind(given[at] ?? "", kind, kinds, places)) return false;
  }
  return spare === 0;
}

function operandsOf(texts: readonly string[], kinds: Kinds): Operands {
  return texts.map((text, index) => {
    const hit = /^([a-z][a-z0-9-]*)([?*+]?)$/.exec(text);
    const [kind = "", count = ""] = hit?.slice(1) ?? [];
    if (!isKind(kind, kinds)) throw new RuleFault(`operands[${index}]`, `"${text}" is no kind`);
    const isMany = count === "*" || count === "+";
    return { kind, least: count === "" || count === "+" ? 1 : 0, most: isMany ? 4096 : 1 };
  });
}

function optionsOf(text: string, style: "gnu" | "words", at: string, kinds: Kinds): OptionTable {
  const table = parseOptions(text, style);
  if ("problem" in table) throw new RuleFault(at, table.problem);
  for (const [name, { takes, kind }] of table)
    if (takes !== "nothing" && !isKind(kind, kinds)) throw new RuleFault(at, `${name}: "${kind}" is no kind`);
  return table;
}

function isKind(kind: string, kinds: Kinds): boolean {
  return (KINDS as readonly string[]).includes(kind) || kinds.patterns.has(kind);
}

function patternOf(source: string, at: string): Pattern {
  const pattern = compilePattern(source);
  if ("problem" in pattern) throw new RuleFault(at, pattern.problem);
  return pattern;
}

function wordsOf(line: string, at: string): readonly string[] {
  if (line.trim() === "") return [];
  const words = literalWords(line);
  if (words === null) throw new RuleFault(at, `"${line}" is more than words`);
  return words;
}

/** Examples are judged as if in a workspace of their own. */
const SOMEWHERE: Places = { cwd: "/workspace", workspace: "/workspace", readable: [], moved: false };

function runExamples(rule: Rule, input: RuleInput, programName: string, kinds: Kinds): void {
  const isFitting = (line: string, at: string) => {
    const [name, ...args] = wordsOf(line, at);
    if (name !== programName) throw new RuleFault(at, `an example begins with "${programName}"`);
    return fits(rule, args, kinds, SOMEWHERE);
  };
  for (const [index, line] of input.match.entries())
    if (!isFitting(line, `match[${index}]`))
      throw new RuleFault(`match[${index}]`, `"${line}" does not match`);
  for (const [index, line] of input.not_match.entries())
    if (isFitting(line, `not_match[${index}]`))
      throw new RuleFault(`not_match[${index}]`, `"${line}" matches`);
}

function same(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((one, index) => one === b[index]);
}
