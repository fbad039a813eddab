import { posix } from "node:path";
import { type Parsed, type Problem, parseYaml } from "../core/config-parse.ts";
import type { Mode } from "../core/mode.ts";
import { isNeverPassed } from "./environment.ts";
import type { Kinds } from "./kinds.ts";
import { unaccepted } from "./lint.ts";
import { compilePattern, type Pattern } from "./pattern.ts";
import { type ProfileInput, ProfilesSchema, type ProgramInput } from "./profile-schema.ts";
import { compileRule, type Rule, RuleFault } from "./rule.ts";

/** A program that a profile lists. */
export type ListedProgram = {
  readonly paths: readonly string[];
  readonly sha256: string | null;
  readonly otherwise: "ask" | "deny";
  readonly rules: readonly Rule[];
};

/** What may be run, compiled. Made by parseExecProfiles alone. */
export type Profile = {
  readonly name: string;
  readonly modes: readonly Mode[];
  readonly unlisted: "ask" | "deny";
  readonly unresolved: "ask" | "deny";
  readonly searchPath: readonly string[];
  readonly environment: ReadonlySet<string>;
  readonly readable: readonly string[];
  readonly redirects: { readonly read: Answer; readonly write: Answer };
  /** By path; a path may be listed more than once, by profiles that are included. */
  readonly programs: ReadonlyMap<string, readonly ListedProgram[]>;
  readonly kinds: Kinds;
};
export type Answer = "allow" | "ask" | "deny";
export type ExecProfiles = ReadonlyMap<string, Profile>;

/**
 * Reads a file of exec profiles and runs the examples in it. One fault anywhere refuses the whole file: a profile that
 * says something else than its writer meant is worse than none.
 */
export function parseExecProfiles(text: string): Parsed<ExecProfiles> {
  const parsed = parseYaml(text, ProfilesSchema);
  if (!parsed.ok) return parsed;
  const problems: Problem[] = [];
  const tell = (at: string, problem: string) => problems.push({ line: 1, column: 1, at, problem });
  const kinds: Kinds = {
    patterns: compilePatterns(parsed.value.patterns, tell),
    notPaths: new Set(parsed.value.notPaths),
  };
  for (const name of kinds.notPaths)
    if (!Object.hasOwn(parsed.value.patterns, name)) tell("notPaths", `there is no pattern "${name}"`);
  const profiles = new Map<string, Profile>();
  for (const input of parsed.value.profiles) {
    if (profiles.has(input.name)) tell(`profiles.${input.name}`, "the name is used twice");
    profiles.set(input.name, compileProfile(input, profiles, kinds, tell));
  }
  return problems.length > 0 ? { ok: false, problems } : { ok: true, value: profiles };
}

type Tell = (at: string, problem: string) => void;

function compilePatterns(
  sources: Readonly<Record<string, string>>,
  tell: Tell,
): ReadonlyMap<string, Pattern> {
  const patterns = new Map<string, Pattern>();
  for (const [name, source] of Object.entries(sources)) {
    const pattern = compilePattern(source);
    if ("problem" in pattern) tell(`patterns.${name}`, pattern.problem);
    else patterns.set(name, pattern);
  }
  return patterns;
}

function compileProfile(input: ProfileInput, known: ExecProfiles, kinds: Kinds, tell: Tell): Profile {
  const at = `profiles.${input.name}`;
  for (const name of input.environment)
    if (isNeverPassed(name))
      tell(`${at}.environment`, `${name} makes programs do something else: it never passes`);
  const programs = new Map<string, readonly ListedProgram[]>();
  const add = (program: ListedProgram, paths: readonly string[]) => {
    for (const path of paths) programs.set(path, [...(programs.get(path) ?? []), program]);
  };
  for (const name of input.includes) {
    const other = known.get(name);
    if (other === undefined || name === input.name)
      tell(`${at}.includes`, `there is no profile "${name}" further up`);
    for (const [path, list] of other?.programs ?? []) for (const program of list) add(program, [path]);
  }
  for (const program of input.programs) {
    const compiled = compileProgram(program, input, kinds, tell);
    add(compiled, compiled.paths);
  }
  return {
    name: input.name,
    modes: input.modes,
    unlisted: input.unlisted,
    unresolved: input.unresolved,
    searchPath: input.searchPath,
    environment: new Set(input.environment),
    readable: input.readable,
    redirects: input.redirects,
    programs,
    kinds,
  };
}

function compileProgram(input: ProgramInput, profile: ProfileInput, kinds: Kinds, tell: Tell): ListedProgram {
  const named = input.name?.flatMap((name) =>
    profile.searchPath.map((directory) => posix.join(directory, name)),
  );
  const paths = input.path ?? named ?? [];
  const name = input.name?.[0] ?? posix.basename(paths[0] ?? "");
  const seen = new Set<string>();
  const rules = input.rules.flatMap((rule) => {
    const at = `profiles.${profile.name}.${name}.${rule.id}`;
    if (seen.has(rule.id)) tell(at, "the id is used twice");
    seen.add(rule.id);
    try {
      return [compileRule(rule, name, kinds)];
    } catch (error) {
      if (!(error instanceof RuleFault)) throw error;
      tell(error.at === "" ? at : `${at}.${error.at}`, error.message);
      return [];
    }
  });
  const accepted = new Set(input.accepts?.risks ?? []);
  const allows = rules.some(
    ({ verdict, carries, exact }) => verdict === "allow" && !carries && exact === null,
  );
  for (const risk of new Set(paths.flatMap((path) => unaccepted(path, allows, accepted))))
    tell(
      `profiles.${profile.name}.${name}`,
      `it can give away "${risk}": say in accepts why that is no harm`,
    );
  return {
    paths,
    sha256: input.sha256 ?? null,
    otherwise: input.otherwise,
    rules,
  };
}
