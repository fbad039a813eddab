import { z } from "zod";
import type { Evaluation } from "../core/access.ts";
import type { ErrorCode } from "../core/errors.ts";
import type { Mode } from "../core/mode.ts";
import { NAME } from "../vault/document.ts";

/** What the verbs of guarded execution take and answer. docs/EXEC.md says what it means. */
const Profile = z
  .string()
  .regex(/^[a-z0-9][a-z0-9-]{0,63}$/, "use lower case letters, digits and dashes, 64 at most");
const Word = z.string().max(32_768);
const Path = z.string().min(1).max(4_095);
const SecretName = z.string().regex(NAME, "use lower case letters, digits, - and _, 63 at most");
/** Of a run: who was not told it cannot guess it. */
const Id = z.string().regex(/^[0-9a-f]{32}$/, "an id has 32 hex digits");
/** Of what is judged and not run. A longer one would keep everybody else waiting. */
export const MAX_JUDGED = 16_384;
/** The whole has to fit into a frame. */
export const MAX_STDIN_BYTES = 32_768;
export const RUN_DEFAULTS = { timeoutMs: 30_000, graceMs: 5_000, outputBytes: 51_200 } as const;

const Place = {
  cwd: Path,
  /** Without it, the configured one that `cwd` is in. */
  workspace: Path.optional(),
};

export const EXEC_PARAMS = {
  /** Judged by the profile alone: nothing is run, nobody is asked, and it is recorded. */
  "exec.check": z
    .strictObject({
      argv: z
        .array(Word)
        .min(1)
        .max(1_024)
        .refine((words) => words.join(" ").length <= MAX_JUDGED, `${MAX_JUDGED} characters at most`)
        .optional(),
      /** Instead: what a shell would read. */
      line: z.string().max(MAX_JUDGED).optional(),
      /** Without it: that of an agent's hook (`exec.hookProfile`). */
      profile: Profile.optional(),
      ...Place,
      /** Names that the command is to get. */
      environment: z.array(z.string().max(128)).max(64).default([]),
    })
    .refine(({ argv, line }) => (argv === undefined) !== (line === undefined), "give either argv or line"),
  "exec.run": z
    .strictObject({
      argv: z.array(Word).min(1).max(1_024),
      profile: Profile.default("default"),
      ...Place,
      environment: z
        .record(z.string().max(128), Word)
        .refine((all) => Object.keys(all).length <= 64, "64 names at most")
        .default({}),
      /** Its stdin, base64. */
      stdin: z
        .base64()
        .max(Math.ceil(MAX_STDIN_BYTES / 3) * 4)
        .default(""),
      /** Instead: a secret of the vault. */
      secret: z.strictObject({ workspace: SecretName.default("default"), name: SecretName }).optional(),
      timeoutMs: z.number().int().min(1).max(180_000).default(RUN_DEFAULTS.timeoutMs),
      /** From TERM to KILL. */
      graceMs: z.number().int().min(0).max(10_000).default(RUN_DEFAULTS.graceMs),
      /** Of stdout and of stderr. */
      outputBytes: z.number().int().min(0).max(1_048_576).default(RUN_DEFAULTS.outputBytes),
      /** The way out through the proxy. */
      network: z.boolean().default(false),
      /** With it: hosts that it is held to beside what the configuration lists (docs/EGRESS.md, "Lists"). */
      hosts: z.array(z.string().min(1).max(512)).max(64).optional(),
    })
    .refine(({ network, hosts }) => network || hosts === undefined, "hosts are for what has the network")
    .refine(({ stdin, secret }) => stdin === "" || secret === undefined, "give either stdin or secret"),
  /** What it has put out from a place on, and its end: as soon as there is some, or after this time. */
  "exec.wait": z.strictObject({
    id: Id,
    after: z.number().int().min(0).max(Number.MAX_SAFE_INTEGER).default(0),
    forMs: z.number().int().min(0).max(60_000).default(30_000),
  }),
  "exec.end": z.strictObject({ id: Id }),
} as const;

/** One thing in a command that was judged; texts without secrets. */
export type ExecLayer = {
  readonly depth: number;
  readonly what: string;
  readonly text: string;
  readonly verdict: "allow" | "ask" | "deny";
  readonly rule: string;
  readonly reason: string;
};

export type ExecVerdict = {
  readonly verdict: "allow" | "ask" | "deny";
  readonly rule: string;
  readonly why: string;
  readonly reach: "none" | "file" | "network";
  readonly profile: string;
  readonly mode: Mode;
  /** Outermost first, as many as fit. */
  readonly layers: readonly ExecLayer[];
  readonly moreLayers: number;
  /** What the worker's sandbox lacks, a sentence each; what it is where there is no worker. */
  readonly missing: readonly string[];
};

/** `configured`: whether the profile that was meant is there; without it nothing was judged. */
export type ExecCheckReply = ExecVerdict & { readonly configured: boolean; readonly correlationId: string };

/** Whether it runs, and why not: the answer to `check`, and what there is of a run beside it. */
export type ExecRunReply = Omit<Evaluation, "retryable"> & {
  /** Of the run; "" where there is none. */
  readonly id: string;
  readonly why: string;
  /** null: it did not come to that. */
  readonly verdict: ExecVerdict | null;
};

/** How a command ended, as the worker tells it. */
export type ExecEnding = {
  /** null where a signal ended it, or it never started. */
  readonly exitCode: number | null;
  readonly signal: string | null;
  readonly timedOut: boolean;
  readonly cancelled: boolean;
  readonly why: string;
  /** Bytes that were over the limit. */
  readonly truncated: { readonly stdout: number; readonly stderr: number };
  readonly durationMs: number;
};

export type ExecEnd = ExecEnding & {
  /** Secrets that were taken out of the output. */
  readonly redacted: number;
  /** What there is to say of it: exec-timeout, exec-truncated, exec-redaction, exec-unavailable, cancelled. */
  readonly codes: readonly ErrorCode[];
  /** The number of its record; "" where it could not be written. */
  readonly correlationId: string;
};

export type ExecWaitReply = {
  readonly id: string;
  readonly state: "starting" | "running" | "ended";
  /** In the order in which they came; data in base64. */
  readonly output: readonly { readonly stream: "stdout" | "stderr"; readonly data: string }[];
  /** What `after` is to be next. */
  readonly next: number;
  /** Once all of the output has been given. */
  readonly end: ExecEnd | null;
};

export type ExecEndReply = { readonly id: string; readonly state: "starting" | "running" | "ended" };
