import { z } from "zod";
import { ERRORS, type ErrorCode } from "../core/errors.ts";
import { MAX_FRAME_BYTES } from "../core/frames.ts";
import type { ExecEnding } from "../protocol/exec.ts";

/**
 * What daemon and worker say to each other, one message a frame (core/frames.ts). The daemon says `hello` once, with the
 * public key of its orders, then `run` and `end`; the worker answers `ready`, and tells of each run `started`, `output`,
 * `ended` or `refused`.
 */
/** What holds a command, as the worker says. `missing`: what of it is not there, and why, a sentence each. */
export type Sandbox = {
  readonly namespaces: boolean;
  readonly seccomp: boolean;
  readonly cgroup: boolean;
  readonly readOnlyRoot: boolean;
  readonly missing: readonly string[];
};

export type ToWorker =
  | { readonly kind: "hello"; readonly publicKey: string }
  | { readonly kind: "run"; readonly order: string; readonly signature: string; readonly stdin: string }
  | { readonly kind: "end"; readonly id: string; readonly why: string };

export type RunEnd = ExecEnding;

export type FromWorker =
  | { readonly kind: "ready"; readonly sandbox: Sandbox }
  | { readonly kind: "started"; readonly id: string; readonly sandbox: Sandbox }
  | {
      readonly kind: "output";
      readonly id: string;
      readonly stream: "stdout" | "stderr";
      readonly data: Buffer;
    }
  | ({ readonly kind: "ended"; readonly id: string } & RunEnd)
  | { readonly kind: "refused"; readonly id: string; readonly code: ErrorCode; readonly why: string };

const Id = z.string().regex(/^[0-9a-f]{32}$/);
const Why = z.string().max(4_096);
const SandboxSchema = z.strictObject({
  namespaces: z.boolean(),
  seccomp: z.boolean(),
  cgroup: z.boolean(),
  readOnlyRoot: z.boolean(),
  missing: z.array(z.string().max(512)).max(32),
});
const Count = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);
const Code = z.string().refine((code): code is ErrorCode => Object.hasOwn(ERRORS, code), "no known code");

const FromWorkerSchema = z.discriminatedUnion("kind", [
  z.strictObject({ kind: z.literal("ready"), sandbox: SandboxSchema }),
  z.strictObject({ kind: z.literal("started"), id: Id, sandbox: SandboxSchema }),
  z.strictObject({
    kind: z.literal("output"),
    id: Id,
    stream: z.enum(["stdout", "stderr"]),
    data: z
      .base64()
      .max(MAX_FRAME_BYTES)
      .transform((text) => Buffer.from(text, "base64")),
  }),
  z.strictObject({
    kind: z.literal("ended"),
    id: Id,
    exitCode: z.number().int().min(0).max(255).nullable(),
    signal: z
      .string()
      .regex(/^SIG[A-Z0-9+]{1,16}$/)
      .nullable(),
    timedOut: z.boolean(),
    cancelled: z.boolean(),
    why: Why,
    truncated: z.strictObject({ stdout: Count, stderr: Count }),
    durationMs: z.number().min(0).max(Number.MAX_SAFE_INTEGER).transform(Math.round),
  }),
  z.strictObject({ kind: z.literal("refused"), id: Id, code: Code, why: Why }),
]);

/** One message of the worker, or why it is none: then nothing more of that worker is believed. */
export function readFromWorker(
  value: unknown,
): { readonly ok: true; readonly message: FromWorker } | { readonly ok: false; readonly why: string } {
  const parsed = FromWorkerSchema.safeParse(value);
  if (parsed.success) return { ok: true, message: parsed.data };
  const issue = parsed.error.issues[0];
  return { ok: false, why: `${issue?.path.join(".") ?? ""}: ${issue?.message ?? "not of the form"}` };
}
