import { type KeyObject, sign } from "node:crypto";
import { z } from "zod";
import { renderCanonical } from "../audit/canonical.ts";
import { readCanonical } from "../audit/canonical-read.ts";
import { type PublicKey, readPublicKey, verifySignature } from "../audit/ed25519.ts";
import { BoundaryError } from "../core/errors.ts";
import { MODES, type Mode } from "../core/mode.ts";

/**
 * What the daemon tells the worker to run: one command, once, soon. Rules of change: `v` goes up with any change of
 * form, and a worker refuses a version that it does not know. Strings, safe integers, arrays and objects only.
 *
 * It says nothing that the worker would have to believe of a caller: all of it is the daemon's decision, signed with a
 * key that lives as long as the daemon does.
 */
export type RunOrder = {
  readonly v: 1;
  /** 32 lower case hex digits, random: an order is good once. */
  readonly id: string;
  /** The kernel's boot id: an order is of this boot. */
  readonly boot: string;
  /** CLOCK_BOOTTIME, milliseconds: it has to have been started by then. */
  readonly notAfterMs: number;
  /** As it was judged; the first is what the program is told that it was called. */
  readonly argv: readonly string[];
  /** What is run: the file behind all links, and the SHA-256 of its bytes when it was judged. */
  readonly program: { readonly path: string; readonly sha256: string };
  readonly cwd: string;
  readonly workspace: string;
  readonly environment: readonly (readonly [name: string, value: string])[];
  readonly profile: string;
  readonly mode: Mode;
  readonly network: "none" | "proxy";
  /** The Unix socket of this run's proxy; "" when `network` is "none". */
  readonly proxySocket: string;
  /** What may be read beside the workspace and the system's own read-only directories. */
  readonly readable: readonly string[];
  /** SHA-256 of the bytes of stdin, lower case hex. */
  readonly stdinDigest: string;
  readonly limits: RunBounds;
};

/** What a run may use. Output is per stream. */
export type RunBounds = {
  readonly timeoutMs: number;
  /** From TERM to KILL. */
  readonly graceMs: number;
  readonly outputBytes: number;
  readonly memoryBytes: number;
  readonly pids: number;
  readonly cpus: number;
};

/** The key that orders are checked with. */
export type OrderKey = PublicKey;

export type OrderRead =
  | { readonly ok: true; readonly order: RunOrder }
  | { readonly ok: false; readonly why: string };

/** What is before the text in what is signed: a signature for anything else of the daemon's is none here. */
const CONTEXT = "boundary-exec-order/v1\n";

/** From signing to `notAfterMs`. A worker that was started since takes no order of before: it remembers none. */
export const ORDER_LIFETIME_MS = 5_000;
/** Of the text, UTF-16 code units. With stdin it has to fit into one frame. */
export const MAX_ORDER_CHARACTERS = 1_048_576;
/** The ceilings of X2; what is asked for beyond them is refused, not cut. */
export const MAX_TIMEOUT_MS = 180_000;
export const MAX_GRACE_MS = 10_000;
export const MAX_OUTPUT_BYTES = 1_048_576;
/** Of an argument or a value of the environment: the kernel's MAX_ARG_STRLEN, with the byte that ends it. */
const MAX_WORD_BYTES = 131_071;
const MAX_DEPTH = 4;

const Hex64 = z.string().regex(/^[0-9a-f]{64}$/, "64 lower case hex digits");
const Word = z
  .string()
  .max(MAX_WORD_BYTES)
  .refine((word) => !word.includes("\0") && word.isWellFormed(), "no NUL, no lone surrogate")
  .refine((word) => Buffer.byteLength(word) <= MAX_WORD_BYTES, `${MAX_WORD_BYTES} bytes at most`);
const PlainPath = z
  .string()
  .max(4_095)
  .refine(isPlainPath, "an absolute path without control characters, empty parts, . and ..");
/** What prlimit and the bridge, which start the command inside the sandbox, would obey as well: the loader and Node. */
const OURS_OBEY = /^(?:LD_|GLIBC_|NODE_(?!ENV$))/;
const Variable = z.tuple([
  z
    .string()
    .regex(/^[A-Za-z_][A-Za-z0-9_]{0,127}$/, "a plain name")
    .refine((name) => !OURS_OBEY.test(name), "a name that programs of ours obey"),
  Word,
]);

const OrderSchema: z.ZodType<RunOrder> = z
  .strictObject({
    v: z.literal(1),
    id: z.string().regex(/^[0-9a-f]{32}$/, "32 lower case hex digits"),
    boot: z.string().regex(/^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/, "a boot id"),
    notAfterMs: z.number().int().min(0),
    argv: z.array(Word).min(1).max(4_096),
    program: z.strictObject({ path: PlainPath, sha256: Hex64 }),
    cwd: PlainPath,
    workspace: PlainPath,
    environment: z
      .array(Variable)
      .max(256)
      .refine((all) => new Set(all.map(([name]) => name)).size === all.length, "each name once"),
    profile: z.string().min(1).max(64),
    mode: z.enum(MODES),
    network: z.enum(["none", "proxy"]),
    proxySocket: z.union([z.literal(""), PlainPath]),
    readable: z.array(PlainPath).max(64),
    stdinDigest: Hex64,
    limits: z.strictObject({
      timeoutMs: z.number().int().min(1).max(MAX_TIMEOUT_MS),
      graceMs: z.number().int().min(0).max(MAX_GRACE_MS),
      outputBytes: z.number().int().min(0).max(MAX_OUTPUT_BYTES),
      memoryBytes: z
        .number()
        .int()
        .min(1_048_576)
        .max(2 ** 40),
      pids: z.number().int().min(1).max(32_768),
      cpus: z.number().int().min(1).max(1_024),
    }),
  })
  .refine(({ cwd, workspace }) => isWithin(cwd, workspace), "cwd has to be in the workspace")
  .refine(({ workspace }) => workspace !== "/", "the workspace is not the whole host")
  .refine(
    ({ network, proxySocket }) => (network === "proxy") === (proxySocket !== ""),
    "a proxy's socket goes with the network `proxy`, and with nothing else",
  );

/** The text that is signed and sent. Throws BoundaryError("internal") for an order that a worker would not read. */
export function renderOrder(order: RunOrder): string {
  const parsed = OrderSchema.safeParse(order);
  if (!parsed.success) throw new BoundaryError("internal", `rendering an order: ${faultOf(parsed.error)}`);
  const text = renderCanonical(parsed.data);
  if (text.length > MAX_ORDER_CHARACTERS)
    throw new BoundaryError("internal", `rendering an order: it has ${text.length} characters`);
  return text;
}

/** The key as it stands in the hello: its 32 bytes, base64. Null for any other text. */
export function readOrderKey(text: string): OrderKey | null {
  const raw = Buffer.from(text, "base64");
  return raw.toString("base64") === text ? readPublicKey(raw) : null;
}

/** The signature of an order's text, base64. `key` is an Ed25519 private key. */
export function signOrder(text: string, key: KeyObject): string {
  return sign(null, signedBytes(text), key).toString("base64");
}

/** Whether the daemon with this key has signed this text. Never throws for what comes from outside. */
export function verifyOrder(text: string, signature: string, key: OrderKey): boolean {
  const bytes = Buffer.from(signature, "base64");
  // one form only: what Buffer.from skips over is no signature
  if (bytes.toString("base64") !== signature) return false;
  return verifySignature(key, signedBytes(text), bytes);
}

/** Reads an order whose signature is good; nothing of another one is looked at. Says nothing of when it may be used. */
export function readOrder(text: string, signature: string, key: OrderKey): OrderRead {
  if (text.length > MAX_ORDER_CHARACTERS) return { ok: false, why: "it is too long" };
  if (!verifyOrder(text, signature, key)) return { ok: false, why: "its signature is not the daemon's" };
  const value = readCanonical(text, MAX_DEPTH);
  if (value === null) return { ok: false, why: "it is not in canonical form" };
  const parsed = OrderSchema.safeParse(value);
  return parsed.success ? { ok: true, order: parsed.data } : { ok: false, why: faultOf(parsed.error) };
}

/** Whether a plain path is a directory or below it, by its text. */
export function isWithin(path: string, directory: string): boolean {
  return path === directory || path.startsWith(directory.endsWith("/") ? directory : `${directory}/`);
}

/** Absolute, and written the one way: no empty parts, no "." and "..", no "/" at its end, nothing that is not seen. */
export function isPlainPath(path: string): boolean {
  if (!path.startsWith("/") || hasUnseen(path) || !path.isWellFormed()) return false;
  if (path === "/") return true;
  return path
    .slice(1)
    .split("/")
    .every((part) => part !== "" && part !== "." && part !== "..");
}

/** Whether a text has control characters of ASCII. */
function hasUnseen(text: string): boolean {
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code < 0x20 || code === 0x7f) return true;
  }
  return false;
}

function signedBytes(text: string): Buffer {
  return Buffer.from(CONTEXT + text, "utf8");
}

function faultOf(error: z.ZodError): string {
  const issue = error.issues[0];
  return issue === undefined ? "it is not of the form" : `${issue.path.join(".")}: ${issue.message}`;
}
