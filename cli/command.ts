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
    optionNames: () => namesOf(spec.options),
    runBare: null,
    register: (yargs, settle) => {
      yargs.command<A>({
        command: isDefault ? [spec.usage, "$0"] : spec.usage,
        describe: spec.describe,
        builder: (inner: Argv) => addExamples(spec.options(inner as Argv<Common>), spec.examples),
        handler: (args) => settle(async () => spec.run(args)),
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
        handler: (args) => (alone === null ? undefined : settle(() => alone(args))),
      });
    },
  };
}

/** What a command would tell yargs of its options: yargs itself takes longer to load, and does not give them out. */
function namesOf<A>(options: (yargs: Argv<Common>) => Argv<A>): readonly string[] {
  const names: string[] = [];
  const listener: object = new Proxy(
    {},
    {
      get: (_target, called) => (name: unknown) => {
        if (called === "option") names.push(String(name));
        if (called === "options") names.push(...Object.keys(name as object));
        return listener;
      },
    },
  );
  options(listener as Argv<Common>);
  return names;
}

/** The word a command is called by. */
export function wordOf(command: CliCommand): string {
  return command.usage.split(" ")[0] ?? "";
}

function addExamples<A>(yargs: Argv<A>, examples: readonly Example[]): Argv<A> {
  for (const [line, what] of examples) yargs.example(line, what);
  return yargs;
}
