import type { ArgumentsCamelCase, Argv } from "yargs";
import type { ExitCode } from "./exit.ts";

/** What every command takes. */
export type Common = {
  readonly json: boolean;
  readonly runtimeDir: string | undefined;
  /** Where the token is that is shown to the daemon; "-" for stdin. */
  readonly tokenFile?: string | undefined;
};

/** Runs a command's work and keeps its exit code. */
export type Settle = (work: () => Promise<ExitCode>) => Promise<void>;

/** One command, ready to be put into yargs. Modules of commands/ export one each, made by `define` or `group`. */
export type CliCommand = {
  /** The yargs form: a word, then positionals: "set <mode>". */
  readonly usage: string;
  readonly describe: string;
  readonly children: readonly CliCommand[];
  /** What its group does when no word names a child. */
  readonly isDefault: boolean;
  /** The options of its own, without "--". */
  readonly optionNames: () => readonly string[];
  register(yargs: Argv<Common>, settle: Settle): void;
  /** For a command that needs no argument: runs it without yargs, which takes longer to load than we to answer. */
  readonly runBare: ((common: Common) => Promise<ExitCode>) | null;
};

export type Example = readonly [line: string, what: string];

/** A command with options of its own. `run` throws BoundaryError, a usage error (exit.ts) among them. */
export function define<A extends Common>(spec: {
  readonly usage: string;
  readonly describe: string;
  readonly examples: readonly Example[];
  readonly options: (yargs: Argv<Common>) => Argv<A>;
  readonly isDefault?: boolean;
  readonly run: (args: ArgumentsCamelCase<A>) => Promise<ExitCode>;
}): CliCommand {
  const { isDefault = false } = spec;
  return {
    usage: spec.usage,
    describe: spec.describe,
    children: [],
    isDefault,
    optionNames: () => declaredBy(spec.options).flatMap(({ name, isOption }) => (isOption ? [name] : [])),
    runBare: null,
    register: (yargs, settle) => {
      yargs.command<A>({
        command: isDefault ? [spec.usage, "$0"] : spec.usage,
        describe: spec.describe,
        builder: (inner: Argv) => addExamples(spec.options(inner as Argv<Common>), spec.examples),
        handler: (args) => settle(async () => spec.run(lastOfEach(args, declaredBy(spec.options)))),
      });
    },
  };
}

/** A command that takes the common options only. */
export function defineBare(spec: {
  readonly usage: string;
  readonly describe: string;
  readonly examples: readonly Example[];
  readonly run: (args: Common) => Promise<ExitCode>;
}): CliCommand {
  return { ...define({ ...spec, options: (yargs) => yargs }), runBare: spec.run };
}

/** A word with commands below it. `alone`: what it does without one; a usage error when there is none. */
export function group(spec: {
  readonly usage: string;
  readonly describe: string;
  readonly examples: readonly Example[];
  readonly children: readonly CliCommand[];
  readonly alone: ((common: Common) => Promise<ExitCode>) | null;
}): CliCommand {
  const { alone } = spec;
  return {
    usage: spec.usage,
    describe: spec.describe,
    children: spec.children,
    isDefault: false,
    optionNames: () => [],
    runBare: alone,
    register: (yargs, settle) => {
      yargs.command<Common>({
        command: spec.usage,
        describe: spec.describe,
        builder: (inner: Argv) => {
          const typed = inner as Argv<Common>;
          for (const child of spec.children) child.register(typed, settle);
          const named = spec.children.map((child) => wordOf(child)).join(", ");
          const isDemanded = alone === null && !spec.children.some((child) => child.isDefault);
          if (isDemanded) typed.demandCommand(1, `name one of: ${named}`);
          return addExamples(typed, spec.examples);
        },
        handler: (args) => (alone === null ? undefined : settle(() => alone(lastOfEach(args, [])))),
      });
    },
  };
}

type Declared = { readonly name: string; readonly isOption: boolean; readonly isList: boolean };

/** What a command tells yargs that it takes: yargs itself takes longer to load, and does not give it out. */
function declaredBy<A>(options: (yargs: Argv<Common>) => Argv<A>): readonly Declared[] {
  const found: Declared[] = [];
  const add = (name: string, spec: unknown, isOption: boolean): void => {
    const isList = typeof spec === "object" && spec !== null && Reflect.get(spec, "array") === true;
    found.push({ name, isOption, isList });
  };
  const listener: object = new Proxy(
    {},
    {
      get: (_target, called) => (name: unknown, spec: unknown) => {
        if (called === "option" || called === "positional") add(String(name), spec, called === "option");
        if (called === "options")
          for (const [each, its] of Object.entries(name as object)) add(each, its, true);
        return listener;
      },
    },
  );
  options(listener as Argv<Common>);
  return found;
}

/** yargs makes a list of what is given twice. Where the command takes none the last counts: two --reason are no list. */
function lastOfEach<T extends object>(args: T, declared: readonly Declared[]): T {
  const lists = new Set(["_", ...declared.flatMap(({ name, isList }) => (isList ? [camelCase(name)] : []))]);
  const given = Object.entries(args).map(([name, value]: [string, unknown]) => [
    name,
    Array.isArray(value) && !lists.has(name) ? value.at(-1) : value,
  ]);
  return Object.fromEntries(given) as T;
}

/** As yargs names an option with dashes for us. */
function camelCase(name: string): string {
  return name.replace(/-([a-z])/g, (_, letter: string) => letter.toUpperCase());
}

/** The word a command is called by. */
export function wordOf(command: CliCommand): string {
  return command.usage.split(" ")[0] ?? "";
}

function addExamples<A>(yargs: Argv<A>, examples: readonly Example[]): Argv<A> {
  for (const [line, what] of examples) yargs.example(line, what);
  return yargs;
}
