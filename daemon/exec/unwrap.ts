import { type Carried, type Input, refused, unknown } from "./carried.ts";
import { unwrapGit } from "./carried-git.ts";
import { isCarrier, unwrapCarrier } from "./carriers.ts";
import { codeFromInput, isInterpreter, unwrapInterpreter } from "./interpreters.ts";
import { unwrapOptions } from "./running-options.ts";
import { isPlainWrapper, skipOptions, unwrapPlain } from "./wrappers.ts";

const SHELLS: ReadonlySet<string> = new Set(
  "sh bash dash ash zsh ksh mksh lksh posh yash rbash csh tcsh fish nu elvish xonsh".split(" "),
);
/** Those whose grammar shell.ts reads; a line for any other is in doubt. */
const READ_SHELLS: ReadonlySet<string> = new Set("sh bash dash ash".split(" "));

/** What a program is, under whatever name it is called: "/usr/bin/python3.12" is python, "nodejs" is node. */
export function familyOf(path: string): string {
  const base = path.slice(path.lastIndexOf("/") + 1);
  const name = base.replace(/\.(?:exe|static|basic|tiny|nox|gtk3|real|bin|dpkg-dist)$/, "");
  if (name === "[") return "test";
  if (name === "nodejs") return "node";
  if (/^(?:vim|nvim|gvim|rvim|view|vimdiff|vim\.\w+)$/.test(name)) return "vim";
  if (/^(?:x86_64|aarch64|arm|i\d86)-linux-gnu\w*-(.+)$/.test(name))
    return familyOf(name.replace(/^.*-linux-gnu\w*-/, ""));
  const versioned =
    /^(python|pypy|perl|ruby|lua|php|tclsh|wish|guile|bash|zsh|ksh|gcc|g\+\+|clang|node|gawk|pip)[-]?\d+(?:\.\d+)*$/.exec(
      name,
    );
  return versioned?.[1] ?? name;
}

/**
 * What a command carries beside itself, for every name that its program goes by (as it was called, as it was found, and
 * what is behind the links): empty for a command that is nothing but itself.
 */
export function unwrap(names: readonly string[], args: readonly string[], input: Input): readonly Carried[] {
  const families = [...new Set(names.map(familyOf))];
  return families.flatMap((family) => ofFamily(family, args, input));
}

/** Whether a program's work is to run something else: no rule about its arguments says enough about it. */
export function carriesCommands(path: string): boolean {
  const family = familyOf(path);
  return isShell(family) || isPlainWrapper(family) || isInterpreter(family) || isCarrier(family);
}

function isShell(family: string): boolean {
  return SHELLS.has(family);
}

function ofFamily(family: string, args: readonly string[], input: Input): readonly Carried[] {
  if (isShell(family)) return unwrapShell(family, args, input);
  if (family === "git") return unwrapGit(args);
  return [
    ...(unwrapPlain(family, args) ?? []),
    ...(unwrapInterpreter(family, args, input) ?? []),
    ...(unwrapCarrier(family, args) ?? []),
    ...unwrapOptions(family, args),
  ];
}

/** `sh -c LINE`: the line is judged. A file of commands is an argument that the profile's rule has to name. */
function unwrapShell(name: string, args: readonly string[], input: Input): readonly Carried[] {
  if (args.length === 1 && args[0] === "--version") return [];
  const bad = args.find((word) =>
    /^(?:--(?:rcfile|init-file|login|posix|debugger|wordexp|rpm-requires)|\+)/.test(word),
  );
  if (bad !== undefined) return [refused(`${name}: ${bad} changes what runs`)];
  const withCode = args.findIndex((word) => /^-[a-zA-Z]*c/.test(word));
  const flags = new Set("-e -u -x -v -n -f -C -c -a -b -m -h --noprofile --norc".split(" "));
  const at = skipOptions(args, flags, new Set(["-o", "+o"]));
  if (typeof at === "string") return [unknown(`${name}: the option ${at} is not known`)];
  if (withCode === -1 || withCode >= at) {
    const operand = args[at];
    if (operand === undefined || operand === "-") return codeFromInput(name, input);
    return /^\/(?:dev|proc)\//.test(operand) ? codeFromInput(name, "pipe") : [];
  }
  const line = args[at];
  if (line === undefined) return [refused(`${name}: -c without a line`)];
  const doubt = READ_SHELLS.has(name) ? [] : [unknown(`${name}: its grammar is not read`)];
  return [...doubt, { kind: "line", line }];
}
