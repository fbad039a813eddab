import { type Carried, type Input, refused, unknown } from "./carried.ts";
import { skipOptions } from "./wrappers.ts";

/**
 * Programs that run code. Code in the arguments cannot be resolved. A file of code is judged by its name, as an argument of
 * the profile's rule. Options that are not here are unknown.
 */
type Interpreter = {
  readonly flags: string;
  readonly values: string;
  /** Options that bring code, or load it. */
  readonly code: string;
  /** Options after which nothing runs: they ask for the version, or for help. */
  readonly ask: string;
  /** The first operand is code itself (awk). */
  readonly operandIsCode: boolean;
  /** Words of the operand's place that are subcommands, and what they do is the profile's to say. */
  readonly subcommands: boolean;
};

const VERSION = "-V -v -h --version --help";
const INTERPRETERS: ReadonlyMap<string, Interpreter> = new Map([
  interpreter("python", {
    flags: "-B -E -I -O -OO -P -s -S -u -q -b -bb",
    values: "-W -X",
    code: "-c -i -x",
  }),
  interpreter("pypy", { flags: "-B -E -s -S -u", values: "-W -X", code: "-c -i" }),
  interpreter("perl", {
    flags: "-w -t -T -W",
    code: "-e -E -n -p -i -M -m -I -x -a -F -S -s -d -D -C -0 -l",
  }),
  interpreter("ruby", { flags: "-w -W", code: "-e -r -n -p -i -I -x -S -s -C -a -F -l" }),
  interpreter("node", {
    flags:
      "--test --check -c --enable-source-maps --trace-warnings --no-warnings --experimental-strip-types --watch --trace-deprecation --throw-deprecation",
    values:
      "--test-name-pattern --test-reporter --max-old-space-size --stack-trace-limit --test-concurrency --test-timeout",
    code: "-e -p -pe -i -r --eval --print --require --import --loader --experimental-loader --inspect --inspect-brk --env-file --interactive --run --openssl-config --icu-data-dir",
  }),
  interpreter("deno", { code: "eval repl", subcommands: true, ask: `${VERSION} -V` }),
  interpreter("bun", { code: "-e --eval -p --print -r --preload --import", subcommands: true }),
  interpreter("tsx", { code: "-e --eval -p -r --require --import" }),
  interpreter("ts-node", { code: "-e --eval -p -r --require" }),
  interpreter("php", {
    flags: "-n -q",
    code: "-r -B -R -E -F -a -d -z -c -S",
    values: "-f",
    ask: `${VERSION} -l -i -m`,
  }),
  interpreter("lua", { flags: "-W", code: "-e -i -l" }),
  interpreter("luajit", { code: "-e -i -l -j -b" }),
  interpreter("tclsh", {}),
  interpreter("wish", {}),
  interpreter("expect", { code: "-c -i -d -D -f -b" }),
  interpreter("guile", { code: "-c -l -e -s -L" }),
  interpreter("R", { code: "-e -f --file", ask: VERSION }),
  interpreter("Rscript", { flags: "--vanilla", code: "-e" }),
  interpreter("julia", { code: "-e -E -L -J -p", flags: "-q", values: "-t" }),
  interpreter("ghci", { code: "-e" }),
  interpreter("runghc", { code: "-e" }),
  interpreter("elixir", { code: "-e -r -S --eval" }),
  interpreter("erl", { code: "-eval -run -s" }),
  interpreter("groovy", { code: "-e" }),
  interpreter("scala", { code: "-e" }),
  interpreter("jshell", {}),
  interpreter("osascript", { code: "-e" }),
  interpreter("pwsh", { code: "-c -Command -e -EncodedCommand -f -File" }),
  interpreter("awk", { code: "-f -i -l -e -E", values: "-F -v", operandIsCode: true }),
  interpreter("gawk", {
    code: "-f -i -l -e -E --file --source --include --load",
    values: "-F -v",
    operandIsCode: true,
  }),
  interpreter("mawk", { code: "-f -W", values: "-F -v", operandIsCode: true }),
  interpreter("nawk", { code: "-f", values: "-F -v", operandIsCode: true }),
  interpreter("bc", { flags: "-l -q -s" }),
  interpreter("dc", { code: "-e -f", ask: VERSION }),
  interpreter("m4", {}),
]);

function interpreter(name: string, given: Partial<Interpreter>): readonly [string, Interpreter] {
  const usual = { flags: "", values: "", code: "", ask: VERSION, operandIsCode: false, subcommands: false };
  return [name, { ...usual, ...given }];
}

/** True for a program that runs code from its arguments, from a file or from its input. */
export function isInterpreter(name: string): boolean {
  return INTERPRETERS.has(name);
}

/** What an interpreter is given to run; null when the program is none. Empty: a file, or nothing at all. */
export function unwrapInterpreter(
  name: string,
  args: readonly string[],
  input: Input,
): readonly Carried[] | null {
  const known = INTERPRETERS.get(name);
  if (known === undefined) return null;
  if (args.length === 1 && known.ask.split(" ").includes(args[0] ?? "")) return [];
  const flags = new Set(known.flags.split(" "));
  const values = new Set(known.values.split(" "));
  const isModule = (name === "python" || name === "pypy") && moduleAt(args, flags, values);
  if (isModule) return [];
  const read = skipOptions(args, flags, values);
  if (typeof read === "string") {
    if (brings(read, known.code.split(" "))) return [unknown(`${name}: code in its arguments (${read})`)];
    return [unknown(`${name}: the option ${read} is not known`)];
  }
  const operand = args[read];
  if (operand === undefined && name === "node" && args.includes("--test")) return [];
  if (operand === undefined || operand === "-") return codeFromInput(name, input);
  if (/^\/(?:dev|proc)\//.test(operand)) return codeFromInput(name, "pipe");
  if (known.operandIsCode)
    return isPrintOnly(operand) ? [] : [unknown(`${name}: its program is code that can run others`)];
  if (known.subcommands && known.code.split(" ").includes(operand))
    return [unknown(`${name}: code in its arguments`)];
  return [];
}

/** `python -m name`, with nothing but known flags before it: the profile's rule names the module. */
function moduleAt(args: readonly string[], flags: ReadonlySet<string>, values: ReadonlySet<string>): boolean {
  const at = args.findIndex((word) => !flags.has(word));
  return values.size > 0 && args[at] === "-m" && /^[A-Za-z_][\w.]*$/.test(args[at + 1] ?? "");
}

/** An option that brings code, also among other letters, or with the code joined on. */
function brings(word: string, code: readonly string[]): boolean {
  const [name = ""] = word.split("=", 1);
  if (word.startsWith("--")) return code.includes(name);
  return Array.from(word.slice(1)).some((letter) => code.includes(`-${letter}`)) || code.includes(name);
}

/** Code that comes in by a pipe was made by the command before: nobody can have seen it. */
export function codeFromInput(name: string, input: Input): readonly Carried[] {
  if (input === "pipe") return [refused(`${name}: runs what comes in by a pipe`)];
  return [unknown(`${name}: runs what comes in by its standard input`)];
}

/**
 * The awk programs that do nothing but print fields, texts and counts of lines that fit: read whole, by a grammar in which
 * there is no redirection, no pipe, no call and no getline.
 */
export function isPrintOnly(program: string): boolean {
  const value = String.raw`(?:\$?(?:NF|NR|FNR)|\$\d{1,3}|\d{1,9}|"[^"\\|<>\n]*")`;
  const test = String.raw`(?:/[^/\\\n]*/|${value}\s*(?:==|!=|<=|>=|<|>|~|!~)\s*(?:${value}|/[^/\\\n]*/))`;
  const print = String.raw`\{\s*print(?:\s+${value}(?:(?:\s*,\s*|\s+)${value}){0,20})?\s*;?\s*\}`;
  const tests = `${test}(?:\\s*(?:&&|\\|\\|)\\s*${test}){0,8}`;
  // short, because blanks between the parts can be shared out in several ways
  if (program.length > 256 || program.trim() === "") return false;
  return new RegExp(`^(?:${tests})?\\s*(?:${print})?$`).test(program.trim());
}
