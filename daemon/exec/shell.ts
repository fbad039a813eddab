import type { Input } from "./carried.ts";
import { type Cursor, readWord, ShellFault, type Word } from "./shell-word.ts";

export type Redirect = {
  /** As written before the operator; null for the usual one. */
  readonly descriptor: number | null;
  readonly operator: string;
  readonly target: Word;
};

/** A command with nothing in it but words: what runs in the end. */
export type SimpleCommand = {
  readonly assignments: readonly { readonly name: string; readonly value: Word }[];
  readonly words: readonly Word[];
  readonly redirects: readonly Redirect[];
  /** Where its standard input comes from. */
  readonly input: Input;
};

/** A line, taken apart: every simple command in it in the order it is written, whatever decides whether it runs. */
export type ShellLine = {
  readonly commands: readonly SimpleCommand[];
  /** What is in the line beside words and makes it mean something else from one shell to another. */
  readonly doubts: readonly string[];
};

export type ShellParsed =
  | { readonly ok: true; readonly line: ShellLine }
  | { readonly ok: false; readonly fault: string };

export const MAX_LINE = 65_536;
const MAX_DEPTH = 24;
const MAX_TOKENS = 8_192;

type Token =
  | { readonly kind: "word"; readonly word: Word; readonly number: boolean }
  | { readonly kind: "operator"; readonly text: string; readonly here: HereDocument | null };
type HereDocument = { readonly strip: boolean; body: Word | null };

/** Longest first. */
const OPERATORS = "<<- <<< &>> && || ;; ;& |& &> << >> >| <> >& <& <( >( ; & | ( ) < >".split(" ");
const REDIRECTS = new Set("<<- <<< &>> &> << >> >| <> >& <& < >".split(" "));
const BASH_ONLY: ReadonlyMap<string, string> = new Map([
  ["<<<", "a here-string"],
  ["&>", "&>, which shells read differently"],
  ["&>>", "&>>, which shells read differently"],
  ["|&", "|&, which shells read differently"],
  ["<(", "a process substitution"],
  [">(", "a process substitution"],
]);
/** Not read at all: what is in them could not be judged. */
const NOT_READ = new Set(["case", "function", "select", "coproc", "[["]);
const NEVER_FIRST = new Set(["then", "elif", "else", "fi", "do", "done", "esac", "}", "in"]);

/**
 * Takes a shell line apart, by the grammar of POSIX.1-2024 (XCU 2.10) as far as dash and bash agree on it. `case`,
 * functions and the grammar of bash alone are refused; what is left is judged command by command. Linear in the line.
 */
export function parseShellLine(source: string): ShellParsed {
  try {
    if (source.length > MAX_LINE) throw new ShellFault(`the line is longer than ${MAX_LINE} characters`);
    if (/\p{Cc}/u.test(source.replace(/[\n\t]/g, "")))
      throw new ShellFault("the line holds a control character");
    const doubts = new Set<string>();
    const commands = parse(tokensOf(source, doubts), doubts);
    return { ok: true, line: { commands, doubts: [...doubts] } };
  } catch (error) {
    if (error instanceof ShellFault) return { ok: false, fault: error.message };
    throw error;
  }
}

/** The words of a line that is nothing but literal words; null for any other. */
export function literalWords(source: string): readonly string[] | null {
  const parsed = parseShellLine(source);
  if (!parsed.ok || parsed.line.doubts.length > 0 || parsed.line.commands.length !== 1) return null;
  const command = parsed.line.commands[0];
  if (command === undefined || command.assignments.length > 0 || command.redirects.length > 0) return null;
  const texts = command.words.flatMap(({ text }) => (text === null ? [] : [text]));
  return texts.length === command.words.length ? texts : null;
}

function tokensOf(source: string, doubts: Set<string>): readonly Token[] {
  const tokens: Token[] = [];
  const cursor: Cursor = { source, at: 0 };
  const waiting: { readonly here: HereDocument; readonly delimiter: Word }[] = [];
  let opened: HereDocument | null = null;
  while (cursor.at < source.length) {
    const sign = source[cursor.at] ?? "";
    if (tokens.length > MAX_TOKENS) throw new ShellFault("the line has too many words");
    if (sign === " " || sign === "\t") cursor.at++;
    else if (source.startsWith("\\\n", cursor.at)) cursor.at += 2;
    else if (sign === "\n") {
      cursor.at++;
      tokens.push({ kind: "operator", text: "\n", here: null });
      for (const { here, delimiter } of waiting.splice(0))
        here.body = readHere(cursor, here.strip, delimiter);
    } else if (sign === "#") {
      const end = source.indexOf("\n", cursor.at);
      cursor.at = end === -1 ? source.length : end;
    } else {
      const operator = OPERATORS.find((one) => source.startsWith(one, cursor.at));
      if (operator === undefined) {
        const word = readWord(cursor);
        if (opened !== null) waiting.push({ here: opened, delimiter: word });
        opened = null;
        if (/^\{\w+\}$/.test(word.raw) && /[<>]/.test(source[cursor.at] ?? ""))
          doubts.add("a variable for a descriptor");
        const number = /^\d+$/.test(word.raw) && /[<>]/.test(source[cursor.at] ?? "");
        tokens.push({ kind: "word", word, number });
        continue;
      }
      if (opened !== null) throw new ShellFault("a here-document without a delimiter");
      // a continuation within an operator would join it: shells do, and nobody writes it
      if (source.startsWith("\\\n", cursor.at + operator.length))
        doubts.add("an operator before a line continuation");
      cursor.at += operator.length;
      const why = BASH_ONLY.get(operator);
      if (why !== undefined) doubts.add(why);
      opened = operator === "<<" || operator === "<<-" ? { strip: operator === "<<-", body: null } : null;
      tokens.push({ kind: "operator", text: operator, here: opened });
    }
  }
  if (waiting.length > 0 || opened !== null) throw new ShellFault("a here-document has no end");
  return tokens;
}

function readHere(cursor: Cursor, strip: boolean, delimiter: Word): Word {
  const { source } = cursor;
  const quoted = /['"\\]/.test(delimiter.raw);
  if (delimiter.text === null) throw new ShellFault("a here-document's delimiter is not plain");
  let body = "";
  while (cursor.at < source.length) {
    const end = source.indexOf("\n", cursor.at);
    const stop = end === -1 ? source.length : end;
    const line = source.slice(cursor.at, stop);
    cursor.at = end === -1 ? stop : stop + 1;
    const kept = strip ? line.replace(/^\t+/, "") : line;
    if (kept === delimiter.text) {
      const doubt = !quoted && /[$`\\]/.test(body) ? "an expansion in a here-document" : "";
      return { text: doubt === "" ? body : null, raw: body, doubt, nested: [] };
    }
    body += `${kept}\n`;
  }
  throw new ShellFault("a here-document has no end");
}

function parse(tokens: readonly Token[], doubts: Set<string>): readonly SimpleCommand[] {
  const commands: SimpleCommand[] = [];
  let at = 0;
  const operatorAt = (place: number): string | null => {
    const token = tokens[place];
    return token?.kind === "operator" ? token.text : null;
  };
  const rawAt = (place: number): string | null => {
    const token = tokens[place];
    return token?.kind === "word" && !token.number ? token.word.raw : null;
  };
  const fail = (): never => {
    throw new ShellFault(at >= tokens.length ? "the line ends too soon" : "the line is not well-formed");
  };
  const skipLines = () => {
    while (operatorAt(at) === "\n") at++;
  };

  /** Commands up to one of `ends`, at least one. */
  function list(ends: readonly string[], depth: number, input: Input): void {
    if (depth > MAX_DEPTH) throw new ShellFault("too deeply nested");
    let count = 0;
    for (;;) {
      skipLines();
      if (isEnd(ends)) break;
      if (at >= tokens.length) fail();
      andOr(depth, input);
      count++;
      const separator = operatorAt(at);
      if (separator === ";" || separator === "&" || separator === "\n") at++;
      else if (!isEnd(ends)) fail();
    }
    if (count === 0 && ends.length > 0) fail();
  }

  function isEnd(ends: readonly string[]): boolean {
    if (ends.length === 0) return at >= tokens.length;
    const here = operatorAt(at) ?? rawAt(at);
    return here !== null && ends.includes(here);
  }

  function andOr(depth: number, input: Input): void {
    pipeline(depth, input);
    while (operatorAt(at) === "&&" || operatorAt(at) === "||") {
      at++;
      skipLines();
      pipeline(depth, input);
    }
  }

  function pipeline(depth: number, input: Input): void {
    if (rawAt(at) === "!") at++;
    command(depth, input);
    while (operatorAt(at) === "|" || operatorAt(at) === "|&") {
      at++;
      skipLines();
      command(depth, "pipe");
    }
  }

  function command(depth: number, input: Input): void {
    if (operatorAt(at) === "(") {
      if (operatorAt(at + 1) === "(") throw new ShellFault("(( is not read");
      at++;
      list([")"], depth + 1, input);
      at++;
      redirectsAfter(input);
      return;
    }
    const raw = rawAt(at);
    if (raw !== null && NOT_READ.has(raw)) throw new ShellFault(`"${raw}" is not read`);
    if (raw !== null && NEVER_FIRST.has(raw)) fail();
    if (raw === "{") {
      between(["}"], depth, input);
      return;
    }
    if (raw === "if") {
      between(["then"], depth, input, "open");
      for (;;) {
        list(["elif", "else", "fi"], depth + 1, input);
        const word = rawAt(at++);
        if (word === "fi") {
          redirectsAfter(input);
          return;
        }
        if (word === "elif") {
          list(["then"], depth + 1, input);
          at++;
        } else {
          list(["fi"], depth + 1, input);
          at++;
          redirectsAfter(input);
          return;
        }
      }
    }
    if (raw === "while" || raw === "until") {
      between(["do"], depth, input, "open");
      list(["done"], depth + 1, input);
      at++;
      redirectsAfter(input);
      return;
    }
    if (raw === "for") {
      loop(depth, input);
      return;
    }
    simple(input);
  }

  function between(ends: readonly string[], depth: number, input: Input, then = "close"): void {
    at++;
    list(ends, depth + 1, input);
    at++;
    if (then === "close") redirectsAfter(input);
  }

  /** `for NAME in WORDS; do …; done`. Without `in` it goes over the arguments of whoever runs the line. */
  function loop(depth: number, input: Input): void {
    at++;
    const name = tokens[at++];
    if (name?.kind !== "word" || !/^[A-Za-z_][A-Za-z0-9_]*$/.test(name.word.raw)) {
      fail();
      return;
    }
    if (rawAt(at) !== "in") throw new ShellFault("a `for` without `in` is not read");
    at++;
    const values: Word[] = [];
    for (let token = tokens[at]; token?.kind === "word"; token = tokens[++at]) values.push(token.word);
    commands.push({
      assignments: [{ name: name.word.raw, value: joined(values) }],
      words: [],
      redirects: [],
      input: "inherited",
    });
    if (operatorAt(at) === ";") at++;
    skipLines();
    if (rawAt(at) !== "do") fail();
    between(["done"], depth, input);
  }

  function redirectsAfter(input: Input): void {
    const redirects: Redirect[] = [];
    for (let one = redirect(); one !== null; one = redirect()) redirects.push(one);
    if (
      tokens[at]?.kind === "word" &&
      !["then", "do", "done", "fi", "else", "elif", "}"].includes(rawAt(at) ?? "")
    )
      fail();
    if (redirects.length > 0) commands.push({ assignments: [], words: [], redirects, input });
  }

  function redirect(): Redirect | null {
    const first = tokens[at];
    const numbered = first?.kind === "word" && first.number;
    const operator = tokens[numbered ? at + 1 : at];
    if (operator?.kind !== "operator" || !REDIRECTS.has(operator.text)) return null;
    at += numbered ? 2 : 1;
    const target = tokens[at++];
    if (target?.kind !== "word" || target.number) return fail();
    return {
      descriptor: numbered ? Number(first.word.raw) : null,
      operator: operator.text,
      target: operator.here?.body ?? target.word,
    };
  }

  function simple(input: Input): void {
    const assignments: { name: string; value: Word }[] = [];
    const words: Word[] = [];
    const redirects: Redirect[] = [];
    for (;;) {
      const one = redirect();
      if (one !== null) {
        redirects.push(one);
        continue;
      }
      const token = tokens[at];
      if (token?.kind !== "word") break;
      at++;
      const assigned = words.length === 0 ? /^([A-Za-z_][A-Za-z0-9_]*)=/.exec(token.word.raw) : null;
      if (assigned?.[1] !== undefined) {
        const skip = assigned[0].length;
        const { text } = token.word;
        const value = { ...token.word, text: text === null ? null : text.slice(skip) };
        assignments.push({ name: assigned[1], value });
        continue;
      }
      if (words.length === 0 && /^[A-Za-z_][A-Za-z0-9_]*(?:\+=|\[)/.test(token.word.raw))
        doubts.add("an assignment that only bash knows");
      words.push(token.word);
    }
    if (operatorAt(at) === "(") throw new ShellFault("a function, or a list in round brackets, is not read");
    if (operatorAt(at) === "<(" || operatorAt(at) === ">(")
      throw new ShellFault("a process substitution is not read");
    if (assignments.length + words.length + redirects.length === 0) fail();
    commands.push({ assignments, words, redirects, input: inputOf(redirects) ?? input });
  }

  list([], 0, "inherited");
  return commands;
}

function inputOf(redirects: readonly Redirect[]): Input | null {
  const last = redirects.findLast((one) => (one.descriptor ?? 0) === 0 && one.operator.startsWith("<"));
  if (last === undefined) return null;
  return last.operator.startsWith("<<") ? "here" : "file";
}

function joined(words: readonly Word[]): Word {
  const unknown = words.find((word) => word.text === null);
  return {
    text: unknown === undefined ? words.map((word) => word.text).join(" ") : null,
    raw: words.map((word) => word.raw).join(" "),
    doubt: unknown?.doubt ?? "",
    nested: words.flatMap((word) => word.nested),
  };
}
