import { z } from "zod";
import { MAX_ORDER_CHARACTERS } from "../exec/run-order.ts";

/** What passes between the daemon and its worker, one message a frame. Fields are only added. */
const Base64 = z.string().regex(/^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/, "base64");

const MessageSchema = z.discriminatedUnion("kind", [
  /** The first, and once: the key that orders are signed with, its 32 bytes. */
  z.strictObject({ kind: z.literal("hello"), publicKey: Base64.max(64) }),
  z.strictObject({
    kind: z.literal("run"),
    order: z.string().max(MAX_ORDER_CHARACTERS),
    signature: z.string().max(128),
    stdin: Base64,
  }),
  z.strictObject({
    kind: z.literal("end"),
    id: z.string().regex(/^[0-9a-f]{32}$/),
    why: z.string().max(1_024),
  }),
]);

export type FromDaemon = z.infer<typeof MessageSchema>;

/** Why nothing was run. The codes are the daemon's (core/errors.ts). */
export type RefusalCode =
  | "exec-order"
  | "exec-cwd"
  | "exec-isolation"
  | "exec-spawn"
  | "exec-unavailable"
  | "exec-invalid";

export type Stream = "stdout" | "stderr";

/** What of the sandbox holds, as it was found out by trying; `missing` names what does not, for a person. */
export type Sandbox = {
  readonly namespaces: boolean;
  readonly seccomp: boolean;
  readonly cgroup: boolean;
  readonly readOnlyRoot: boolean;
  readonly missing: readonly string[];
};

export type Ending = {
  /** null when it did not end by itself, or was never begun. 128 and a signal's number when a signal of its own ended it. */
  readonly exitCode: number | null;
  /** The signal that we ended it with. */
  readonly signal: string | null;
  readonly timedOut: boolean;
  readonly cancelled: boolean;
  readonly why: string;
  /** Bytes that were read and not passed on. */
  readonly truncated: Readonly<Record<Stream, number>>;
  readonly durationMs: number;
};

export type ToDaemon =
  | { readonly kind: "ready"; readonly sandbox: Sandbox }
  | { readonly kind: "started"; readonly id: string; readonly sandbox: Sandbox }
  | { readonly kind: "output"; readonly id: string; readonly stream: Stream; readonly data: string }
  | ({ readonly kind: "ended"; readonly id: string } & Ending)
  | { readonly kind: "refused"; readonly id: string; readonly code: RefusalCode; readonly why: string };

export type MessageRead =
  | { readonly ok: true; readonly message: FromDaemon }
  | { readonly ok: false; readonly why: string };

/** Reads a message of the daemon's. */
export function readMessage(value: unknown): MessageRead {
  const parsed = MessageSchema.safeParse(value);
  if (parsed.success) return { ok: true, message: parsed.data };
  const issue = parsed.error.issues[0];
  return { ok: false, why: `${issue?.path.join(".") ?? ""}: ${issue?.message ?? "not a message"}` };
}
