import { assignmentAt } from "./wrappers.ts";

/**
 * What a shell does by itself, when a word without "/" names it. `program`: it is the same as the program of that name, as
 * far as its arguments go.
 */
export type Builtin =
  | { readonly kind: "harmless" }
  | { readonly kind: "program" }
  | { readonly kind: "moves"; readonly to: string }
  | { readonly kind: "assigns"; readonly names: readonly string[]; readonly why: string }
  | { readonly kind: "runs"; readonly argv: readonly string[]; readonly why: string }
  | { readonly kind: "line"; readonly line: string; readonly why: string }
  | { readonly kind: "unknown"; readonly why: string }
  | { readonly kind: "refused"; readonly why: string };

/** Built into bash or dash, and not harmless in every form. */
const OTHERS: ReadonlySet<string> = new Set(
  "caller chdir dirs disown fc fg bg help history jobs local logout popd pushd return shift suspend ulimit unset source .".split(
    " ",
  ),
);
/** What makes later words of the same line mean something else. */
const REBINDS: ReadonlySet<string> = new Set([
  "alias",
  "unalias",
  "enable",
  "hash",
  "trap",
  "bind",
  "complete",
  "shopt",
  "compgen",
  "compopt",
  "declare",
  "getopts",
  "let",
  "mapfile",
  "readarray",
  "typeset",
]);
const SET_OPTIONS = /^(?:-[eux]{1,3}|-[eux]{0,3}o|\+[eux]{1,3}|pipefail|errexit|nounset)$/;

/** What a shell makes of a command's words; null when it looks for a program. */
export function readBuiltin(name: string, args: readonly string[]): Builtin | null {
  switch (name) {
    case ":":
    case "true":
    case "false":
      return { kind: "harmless" };
    case "pwd":
    case "wait":
    case "times":
    case "break":
    case "continue":
      return args.length === 0 ? { kind: "harmless" } : { kind: "unknown", why: `${name} with arguments` };
    case "exit":
    case "umask":
      return args.length === 0 || (args.length === 1 && /^\d{1,4}$/.test(args[0] ?? ""))
        ? { kind: "harmless" }
        : { kind: "unknown", why: `${name} with something else than a number` };
    case "set":
      return args.length > 0 && args.every((one) => SET_OPTIONS.test(one))
        ? { kind: "harmless" }
        : { kind: "unknown", why: "set changes the words or the shell's ways" };
    case "cd":
      return args.length === 1 && !(args[0] ?? "").startsWith("-")
        ? { kind: "moves", to: args[0] ?? "" }
        : { kind: "unknown", why: "cd to a place that is not named" };
    case "export":
    case "readonly":
      return exported(name, args);
    case "read":
      return {
        kind: "assigns",
        names: args.filter((one) => !one.startsWith("-")),
        why: args.every((one) => one === "-r" || !one.startsWith("-")) ? "" : "read with options",
      };
    case "type":
      return args.every((one) => /^[\w.-]+$/.test(one) && !one.startsWith("-"))
        ? { kind: "harmless" }
        : { kind: "unknown", why: "type with options" };
    case "command":
      return ofCommand(args);
    case "exec":
      return { kind: "runs", argv: args, why: "exec puts it in the shell's own place" };
    case "builtin":
      return { kind: "runs", argv: args, why: "builtin" };
    case "eval":
      return { kind: "line", line: args.join(" "), why: "eval reads its words once more" };
    case "test":
    case "[":
      // bash runs what is in the brackets of `-v 'a[$(…)]'`
      return args.some((one) => /^-[vR]$/.test(one) || /[[$`]/.test(one))
        ? { kind: "unknown", why: "a test of a variable's name" }
        : { kind: "program" };
    case "printf":
      // bash's %n assigns to a variable, as -v does
      return (args[0] ?? "").startsWith("-") || /%[^%a-zA-Z]*[hjlLtz]*n/.test(args[0] ?? "")
        ? { kind: "unknown", why: "printf -v and %n assign" }
        : { kind: "program" };
    case "echo":
    case "kill":
      return { kind: "program" };
    default:
      if (REBINDS.has(name)) return { kind: "refused", why: `${name} changes what later words mean` };
      return OTHERS.has(name) ? { kind: "unknown", why: `${name} is of the shell itself` } : null;
  }
}

function exported(name: string, args: readonly string[]): Builtin {
  const names = args.map((word, at) => assignmentAt(args, at) ?? word);
  if (names.some((one) => !/^[A-Za-z_][A-Za-z0-9_]*$/.test(one)))
    return { kind: "unknown", why: `${name} with options` };
  return { kind: "assigns", names, why: "" };
}

function ofCommand(args: readonly string[]): Builtin {
  const [first = ""] = args;
  if (/^-[vV]$/.test(first))
    return args.slice(1).every((one) => /^[\w.-]+$/.test(one))
      ? { kind: "harmless" }
      : { kind: "unknown", why: "command -v" };
  if (first.startsWith("-")) return { kind: "unknown", why: `command ${first}` };
  return { kind: "runs", argv: args, why: "" };
}
