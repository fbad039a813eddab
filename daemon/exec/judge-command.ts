import { posture } from "../core/posture.ts";
import { readBuiltin } from "./builtins.ts";
import { type Carried, type Input, UNKNOWN } from "./carried.ts";
import { faultOfArgument, faultOfName } from "./characters.ts";
import { judgeName } from "./environment.ts";
import { judgeRedirect } from "./judge-redirect.ts";
import {
  isFull,
  type Judging,
  type Layer,
  type ProgramFile,
  type Reach,
  strictestOf,
  tell,
} from "./judging.ts";
import { isBelow, isWritable, resolvePath } from "./kinds.ts";
import type { Answer, ListedProgram } from "./profile.ts";
import { fits, type Rule } from "./rule.ts";
import { findSecrets, findSecretsInText, type SecretFound, showable } from "./secrets.ts";
import { parseShellLine, type SimpleCommand } from "./shell.ts";
import { unwrap } from "./unwrap.ts";

const MAX_DEPTH = 8;
const NOT_LISTED = "the program is not listed";

/** Judges a line that a shell will read: every command in it, and what in it cannot be known before it runs. */
export function judgeLine(line: string, judging: Judging, depth: number, input: Input): void {
  if (isFull(judging)) return;
  const say = sayerOf(judging, { depth, what: "line", text: "" });
  if (depth > MAX_DEPTH) {
    say("deny", "too-deep", "commands within commands, too deep");
    return;
  }
  const parsed = parseShellLine(line);
  if (!parsed.ok) {
    say("deny", "shell-syntax", parsed.fault);
    return;
  }
  for (const doubt of parsed.line.doubts) say(judging.profile.unresolved, "shell-doubt", doubt);
  tellSecrets(findSecretsInText(line).slice(0, 1), judging, depth);
  const pieces = parsed.line.commands.flatMap(({ words, assignments }) => [
    ...assignments.map(({ value }) => value.text ?? ""),
    ...words.map(({ text }) => text ?? ""),
  ]);
  tellSecrets(
    findSecrets(pieces).filter(({ place }) => !place.startsWith("word")),
    judging,
    depth,
  );
  if (parsed.line.commands.length === 0) say("deny", "empty", "there is no command");
  let here = judging;
  for (const command of parsed.line.commands) {
    if (isFull(judging)) return;
    here = judgeSimple(command, here, depth, input);
  }
}

/** Gives back where the next command of the line stands: `cd` moves it. */
function judgeSimple(command: SimpleCommand, judging: Judging, depth: number, input: Input): Judging {
  const say = sayerOf(judging, { depth, what: "line", text: "" });
  for (const { name, value } of command.assignments) {
    judgeAssignment(name, judging, depth);
    if (value.text === null) say(judging.profile.unresolved, "expansion", `${value.doubt} in an assignment`);
    tellSecrets(findSecrets([`${name}=${value.text ?? ""}`]), judging, depth);
  }
  for (const redirect of command.redirects) judgeRedirect(redirect, judging, depth);
  const all = [
    ...command.words,
    ...command.assignments.map(({ value }) => value),
    ...command.redirects.map(({ target }) => target),
  ];
  for (const nested of all.flatMap((word) => word.nested)) {
    if (nested.startsWith("(")) continue; // arithmetic: in doubt, and no command
    judgeLine(nested, judging, depth + 1, "inherited");
  }
  const [name] = command.words;
  if (name === undefined) return judging;
  if (name.text === null) {
    say("deny", "expansion", `the program's name is not known: ${name.doubt}`);
    return judging;
  }
  for (const word of command.words)
    if (word.text === null) say(judging.profile.unresolved, "expansion", `${word.doubt} among the words`);
  const argv = command.words.map((word) => word.text ?? UNKNOWN);
  return judgeWords(argv, judging, depth, command.input === "inherited" ? input : command.input);
}

function judgeWords(argv: readonly string[], judging: Judging, depth: number, input: Input): Judging {
  const [name = "", ...args] = argv;
  const builtin = readBuiltin(name, args);
  const say = sayerOf(judging, { depth, what: "builtin", text: showable(argv) });
  const { unresolved } = judging.profile;
  if (builtin === null || builtin.kind === "program") {
    judgeArgv(argv, judging, depth, input);
    return judging;
  }
  for (const fault of args.flatMap((one) => (one === UNKNOWN ? [] : (faultOfArgument(one) ?? []))))
    say("deny", "characters", fault);
  tellSecrets(findSecrets(argv), judging, depth);
  switch (builtin.kind) {
    case "harmless":
      say("allow", "builtin", `${name} of the shell`);
      return judging;
    case "unknown":
      say(unresolved, "builtin", builtin.why);
      return judging;
    case "refused":
      say("deny", "builtin", builtin.why);
      return judging;
    case "assigns":
      if (builtin.why !== "") say(unresolved, "builtin", builtin.why);
      for (const one of builtin.names) judgeAssignment(one, judging, depth);
      return judging;
    case "line":
      say(unresolved, "builtin", builtin.why);
      judgeLine(builtin.line, judging, depth + 1, input);
      return judging;
    case "runs":
      if (builtin.why !== "") say(unresolved, "builtin", builtin.why);
      if (depth >= MAX_DEPTH) say("deny", "too-deep", "commands within commands, too deep");
      else if (builtin.argv.length > 0) judgeWords(builtin.argv, judging, depth + 1, input);
      return judging;
    case "moves":
      return move(builtin.to, judging, say);
  }
}

/** Down, within the workspace, by a plain name. After that ".." and relative programs are not known any more. */
function move(to: string, judging: Judging, say: Say): Judging {
  const full = resolvePath(to, judging.places);
  const down = full !== null && isBelow(full, judging.places.cwd) && isWritable(to, judging.places);
  if (down) say("allow", "builtin", "cd within the workspace");
  else say(judging.profile.unresolved, "builtin", "cd to somewhere that is not below");
  return { ...judging, places: { ...judging.places, moved: true } };
}

/** Judges a command given as words: its program, its arguments, and what it carries. */
export function judgeArgv(
  argv: readonly string[],
  judging: Judging,
  depth: number,
  input: Input,
  more = false,
): void {
  const [name, ...args] = argv;
  const say = sayerOf(judging, { depth, what: "program", text: showable(argv) });
  if (depth > MAX_DEPTH) {
    say("deny", "too-deep", "commands within commands, too deep");
    return;
  }
  if (name === undefined) {
    say("deny", "empty", "there is no command");
    return;
  }
  if (name === UNKNOWN) {
    say("deny", "expansion", "the program's name is not known");
    return;
  }
  const faults = [faultOfName(name), ...args.filter((one) => one !== UNKNOWN).map(faultOfArgument)];
  const fault = faults.find((one) => one !== null);
  if (fault !== undefined && fault !== null) {
    say("deny", "characters", fault);
    return;
  }
  tellSecrets(findSecrets(argv), judging, depth);
  if (judging.places.moved && name.includes("/") && !name.startsWith("/")) {
    say(judging.profile.unresolved, "moved", "a relative program after a cd");
    return;
  }
  const file = judging.resolveProgram(name, judging.places.cwd);
  if (file === null) {
    // by a path nobody is to find out what there is on the host
    say("deny", "unlisted", name.includes("/") ? NOT_LISTED : "there is no such program");
    return;
  }
  const carried = unwrap([name, file.found, file.real], args, input);
  judgeProgram(file, args, { judging, depth, say, carried, more });
  for (const one of carried) judgeCarried(one, judging, depth, input);
}

type Given = {
  readonly judging: Judging;
  readonly depth: number;
  readonly say: Say;
  readonly carried: readonly Carried[];
  /** More words come to it. */
  readonly more: boolean;
};

function judgeProgram(file: ProgramFile, args: readonly string[], given: Given): void {
  const { judging, say } = given;
  const { profile } = judging;
  const listed = [...new Set([file.found, file.real])].flatMap((path) => profile.programs.get(path) ?? []);
  if (listed.length === 0) {
    if ([file.found, file.real].some((path) => isBelow(path, judging.places.workspace))) {
      say(profile.unresolved, "workspace-program", "a program of the workspace: what it does is not known");
      return;
    }
    say(profile.unlisted, "unlisted", NOT_LISTED, file.real);
    return;
  }
  const trusted = listed.filter(({ sha256 }) => sha256 === null || sha256 === file.sha256);
  if (trusted.length === 0) {
    say("deny", "digest", "the program's digest is not the listed one", file.real);
    return;
  }
  if (given.more || args.includes(UNKNOWN)) {
    const [verdict, reason] = [profile.unresolved, "its words are not all known before it runs"];
    say(verdict, "expansion", reason, file.real);
    return;
  }
  judgeByRules(trusted, args, file, given);
}

function judgeByRules(
  listed: readonly ListedProgram[],
  args: readonly string[],
  file: ProgramFile,
  given: Given,
): void {
  const { judging, say, carried } = given;
  const carries = carried.some(({ kind }) => kind === "argv" || kind === "line");
  const fitting = listed
    .flatMap((program) => program.rules)
    .filter((rule) => (!rule.carries || carries) && fits(rule, args, judging.profile.kinds, judging.places));
  const first = fitting.filter((rule) => !rule.last);
  const rules = first.length > 0 ? first : fitting;
  const name = file.found.slice(file.found.lastIndexOf("/") + 1);
  if (rules.length === 0) {
    const verdict = strictestOf(listed.map(({ otherwise }) => otherwise));
    say(verdict, `${name}/otherwise`, "no rule of the program fits these arguments", file.real);
    return;
  }
  const usable = rules.filter((rule) => rule.modes === null || rule.modes.includes(judging.mode));
  const id = (rule: Rule | undefined) => `${name}/${rule?.id ?? ""}`;
  if (usable.length === 0) {
    say("deny", id(rules[0]), `the rule is not for ${judging.mode}`, file.real);
    return;
  }
  const reaching = usable.find((rule) => rule.reach === "network");
  if (reaching !== undefined && posture(judging.mode).exec !== "by-policy") {
    say("deny", id(reaching), `${judging.mode}: guarded commands have no network`, file.real);
    return;
  }
  const strictest = usable.find(({ verdict }) => verdict === "ask") ?? usable[0];
  const reach = reaching?.reach ?? (usable.some((rule) => rule.reach === "file") ? "file" : "none");
  say(
    strictest?.verdict ?? "deny",
    id(strictest),
    `a rule of the profile ${judging.profile.name}`,
    file.real,
    reach,
  );
}

function judgeCarried(one: Carried, judging: Judging, depth: number, input: Input): void {
  const say = sayerOf(judging, { depth, what: "carried", text: "" });
  switch (one.kind) {
    case "argv":
      judgeArgv(one.argv, judging, depth + 1, input, one.more);
      return;
    case "line":
      judgeLine(one.line, judging, depth + 1, input);
      return;
    case "assignment":
      judgeAssignment(one.name, judging, depth);
      return;
    case "unknown":
      say(judging.profile.unresolved, "carried", one.why);
      return;
    case "refused":
      say("deny", "carried", one.why);
      return;
  }
}

/** What loops are written with. No program is known to look at one. */
const HARMLESS_VARIABLE = /^(?:[a-z]|dir|file|item|line|name|pkg|try)$/;

function judgeAssignment(name: string, judging: Judging, depth: number): void {
  const say = sayerOf(judging, { depth, what: "environment", text: /^\w{1,64}$/.test(name) ? name : "" });
  const said = HARMLESS_VARIABLE.test(name) ? "passes" : judgeName(name, judging.profile.environment);
  if (said === "passes") say("allow", "environment", "the name may be set");
  else if (said === "never") say("deny", "environment", "this name makes programs do something else");
  else say(judging.profile.unresolved, "environment", "the name is not listed");
}

function tellSecrets(found: readonly SecretFound[], judging: Judging, depth: number): void {
  for (const { kind, place, sure } of found)
    tell(judging, {
      depth,
      what: "secret",
      text: "",
      verdict: sure ? "deny" : "ask",
      rule: `secret-${kind}`,
      reason: `what looks like a secret, in ${place}`,
    });
}

type Say = (verdict: Answer, rule: string, reason: string, path?: string, reach?: Reach) => void;

function sayerOf(judging: Judging, layer: Pick<Layer, "depth" | "what" | "text">): Say {
  return (verdict, rule, reason, path = "", reach = "none") =>
    tell(judging, { ...layer, verdict, rule, reason, path, reach });
}
