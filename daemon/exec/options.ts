import { isOfKind, type Kinds, type Places } from "./kinds.ts";

/** How an option takes its value: not at all, always ("-n 5", "-n5", "--n=5"), or only when joined on ("-j4", "--color=no"). */
export type Option = { readonly takes: "nothing" | "value" | "joined"; readonly kind: string };
export type OptionTable = ReadonlyMap<string, Option>;

/**
 * Reads a table of options: "-alh" stands for three flags, "--color?word" for one with a value that may be joined on,
 * "-n:number" for one that takes a value. In the style "words" (find, java) a single dash begins a whole name.
 */
export function parseOptions(text: string, style: Style): OptionTable | { readonly problem: string } {
  const table = new Map<string, Option>();
  for (const word of text.split(/\s+/).filter((one) => one !== "")) {
    if (style === "words" && /^[!(),]$/.test(word)) {
      table.set(word, { takes: "nothing", kind: "" });
      continue;
    }
    const hit = /^(-{1,2}|\+)([A-Za-z0-9@#?%.][\w.,+-]*?)(?:([:?])([a-z][a-z0-9-]*))?$/.exec(word);
    if (hit === null) return { problem: `"${word}" is no option` };
    const [, dash = "", name = "", mark, kind = ""] = hit;
    const letters = dash === "-" && style === "gnu" && mark === undefined ? Array.from(name) : [name];
    if (dash === "-" && style === "gnu" && mark !== undefined && name.length > 1)
      return { problem: `"${word}": one letter may take a value, not several` };
    for (const letter of letters)
      table.set(`${dash}${letter}`, {
        takes: mark === undefined ? "nothing" : mark === ":" ? "value" : "joined",
        kind,
      });
  }
  return table;
}

export type Style = "gnu" | "words";

/** Arguments told apart; null where one of them is not in the table. */
export type Split = { readonly operands: readonly string[] };

export type SplitRules = {
  readonly table: OptionTable;
  readonly style: Style;
  /** "-5" is an option. */
  readonly numbers: boolean;
  /** Options end with the first operand, and all that follows is one. */
  readonly stopsAtOperand: boolean;
};

/**
 * Takes the options out. Names are compared whole: an abbreviation of a long option, which the program itself would
 * take, is not in the table and so is not let through.
 */
export function splitArguments(
  args: readonly string[],
  rules: SplitRules,
  kinds: Kinds,
  places: Places,
): Split | null {
  const operands: string[] = [];
  for (let at = 0; at < args.length; at++) {
    const argument = args[at] ?? "";
    if (argument === "--" && rules.style === "gnu") return { operands: [...operands, ...args.slice(at + 1)] };
    if (argument === "-" || !(argument.startsWith("-") || rules.table.has(argument))) {
      if (rules.stopsAtOperand) return { operands: args.slice(at) };
      operands.push(argument);
      continue;
    }
    if (rules.numbers && /^-\d{1,9}$/.test(argument)) continue;
    const read = readOption(argument, args[at + 1], rules);
    if (read === null || !read.values.every(([value, kind]) => isOfKind(value, kind, kinds, places)))
      return null;
    if (read.tookNext) at++;
  }
  return { operands };
}

type Read = {
  readonly values: readonly (readonly [value: string, kind: string])[];
  readonly tookNext: boolean;
};

function readOption(argument: string, next: string | undefined, rules: SplitRules): Read | null {
  if (rules.style === "gnu" && !argument.startsWith("--") && argument.startsWith("-"))
    return readLetters(argument, next, rules.table);
  const cut = argument.indexOf("=");
  const name = cut === -1 ? argument : argument.slice(0, cut);
  const option = rules.table.get(name);
  if (option === undefined) return null;
  if (cut !== -1)
    return option.takes === "nothing"
      ? null
      : { values: [[argument.slice(cut + 1), option.kind]], tookNext: false };
  return withNext(option, next);
}

function withNext(option: Option, next: string | undefined): Read | null {
  if (option.takes !== "value") return { values: [], tookNext: false };
  return next === undefined ? null : { values: [[next, option.kind]], tookNext: true };
}

function readLetters(argument: string, next: string | undefined, table: OptionTable): Read | null {
  const letters = Array.from(argument).slice(1);
  for (const [index, letter] of letters.entries()) {
    const option = table.get(`-${letter}`);
    if (option === undefined) return null;
    const rest = letters.slice(index + 1).join("");
    if (option.takes !== "nothing" && rest !== "") return { values: [[rest, option.kind]], tookNext: false };
    if (option.takes === "value") return withNext(option, next);
  }
  return { values: [], tookNext: false };
}
