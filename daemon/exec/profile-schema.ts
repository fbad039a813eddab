import { z } from "zod";
import { MODES } from "../core/mode.ts";

/** The form of a file of exec profiles. Unknown keys are refused everywhere; a list that is not given is empty. */
const Name = z
  .string()
  .regex(/^[a-z0-9][a-z0-9-]{0,63}$/, "use lower case letters, digits and dashes, 64 at most");
const PlainPath = z
  .string()
  .max(4096)
  .regex(/^\/(?:[!-.0-~]+\/)*[!-.0-~]*$/, "give an absolute path in printable ASCII")
  .refine((path) => !/\/\.{0,2}\/|\/\.{1,2}$/.test(path), "give a path without . and ..");
const Text = z.string().max(1024);
const Modes = z.array(z.enum(MODES)).max(6);
const AskOrDeny = z.enum(["ask", "deny"]).default("deny");
const Reach = z.enum(["none", "file", "network"]);

const RuleSchema = z.strictObject({
  id: Name,
  verdict: z.enum(["allow", "ask"]),
  /** What the program reaches when it is called so. "network" is denied where the mode gives guarded commands none. */
  reach: Reach.default("file"),
  /** In which modes; without it, those of the profile. */
  modes: Modes.optional(),
  /** It counts only where no other rule fits: for what is asked about unless it is known to be harmless. */
  last: z.boolean().default(false),
  /** The whole of the arguments, one of these. With it nothing below may be given. */
  exact: z.array(Text).max(64).optional(),
  /** The command in the arguments is judged by itself; this rule says whether the program may carry one. */
  carries: z.literal(true).optional(),
  /** Options before the subcommand. */
  leading: Text.optional(),
  /** The subcommand: the arguments have to begin with one of these. */
  first: z.array(Text).min(1).max(128).optional(),
  options: z.string().max(8192).optional(),
  style: z.enum(["gnu", "words"]).default("gnu"),
  /** "-5" is an option, too. */
  numbers: z.boolean().default(false),
  /** Options end with the first operand. */
  stopsAtOperand: z.boolean().default(false),
  /** What the operands have to be, in order: a kind, "kind?", "kind*" or "kind+". */
  operands: z.array(Text).max(16).default([]),
  /** Patterns that no argument may fit. */
  forbid: z.array(Text).max(32).default([]),
  /** How many arguments there may be, with options. */
  count: z.tuple([z.number().int().min(0), z.number().int().max(4096)]).default([0, 4096]),
  match: z.array(Text).min(1, "give at least one command that this is for").max(64),
  not_match: z.array(Text).max(64).default([]),
});

const ProgramSchema = z
  .strictObject({
    /** Where it is, before or behind links. The name of the first is what examples begin with. */
    path: z.array(PlainPath).min(1).max(16).optional(),
    /** Instead: what it is called, in each directory of the profile's searchPath. */
    name: z
      .array(z.string().regex(/^[!-.0-~]{1,64}$/, "a name in printable ASCII, without a /"))
      .min(1)
      .max(64)
      .optional(),
    /** Of the file that would run. */
    sha256: z
      .string()
      .regex(/^[0-9a-f]{64}$/, "64 lower case hex digits")
      .optional(),
    /** What is said of arguments that no rule fits. */
    otherwise: AskOrDeny,
    /** What the linter says of it and is meant to be so, with the reason. */
    accepts: z
      .strictObject({
        risks: z.array(z.enum(["shell", "read", "write", "code", "network"])).min(1),
        why: z.string().min(10).max(256),
      })
      .optional(),
    rules: z.array(RuleSchema).min(1, "a program without rules allows nothing: leave it out").max(64),
  })
  .refine(({ path, name }) => (path === undefined) !== (name === undefined), "give either path or name");

const ProfileSchema = z.strictObject({
  name: Name,
  /** Profiles of this file, further up, whose programs this one has, too. */
  includes: z.array(Name).max(8).default([]),
  modes: Modes,
  /** What is said of a program that is not listed. */
  unlisted: AskOrDeny,
  /** What is said of what cannot be resolved. */
  unresolved: AskOrDeny,
  /** Where programs are looked for, in order. The caller's PATH is nothing to us. */
  searchPath: z.array(PlainPath).max(16),
  /** Names of the environment, beside the harmless ones. */
  environment: z.array(z.string().max(128)).max(64).default([]),
  /** What may be read beside the workspace. */
  readable: z.array(PlainPath).max(64).default([]),
  /** `< file` and `> file` of a shell line, in the workspace. */
  redirects: z
    .strictObject({
      read: z.enum(["allow", "ask", "deny"]).default("deny"),
      write: z.enum(["allow", "ask", "deny"]).default("deny"),
    })
    .prefault({}),
  programs: z.array(ProgramSchema).max(512),
});

export const ProfilesSchema = z.strictObject({
  version: z.literal(1),
  /** Kinds of arguments by name: patterns that fit the whole of one. */
  patterns: z.record(Name, Text).default({}),
  /** Those of them whose texts never name a file: all others may not climb out of the workspace, or name what is guarded. */
  notPaths: z.array(Name).max(64).default([]),
  profiles: z.array(ProfileSchema).min(1).max(32),
});

export type RuleInput = z.output<typeof RuleSchema>;
export type ProgramInput = z.output<typeof ProgramSchema>;
export type ProfileInput = z.output<typeof ProfileSchema>;
