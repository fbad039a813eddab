import { z } from "zod";
import { EgressSchema, HostList } from "../core/config.ts";
import { REFUSALS } from "./gate.ts";

/**
 * What daemon and egress process say to each other, one message a frame (core/frames.ts). The daemon says `hello` once,
 * then of each run `open` and `end`; the process answers `ready`, and of each run `opened`, and at its end, once and last,
 * `ended`; or `refused`, and nothing more. Meanwhile it asks (`ask`, `record`) and is told (`answer`, `recorded`). `n`
 * counts what a run's proxy asks, questions and records alike: what it says of the log it says by these numbers.
 */
const Id = z.string().regex(/^[0-9a-f]{32}$/);
const N = z.number().int().min(1).max(Number.MAX_SAFE_INTEGER);
const Why = z.string().max(1_024);

const SettingsSchema = EgressSchema.pick({
  addresses: true,
  plainPorts: true,
  resolvers: true,
  limits: true,
});
const ListsSchema = z.strictObject({
  global: HostList.nullable(),
  project: HostList.nullable(),
  blueprint: HostList.nullable(),
  session: HostList.nullable(),
});

const FromDaemonSchema = z.discriminatedUnion("kind", [
  z.strictObject({ kind: z.literal("hello"), settings: SettingsSchema }),
  z.strictObject({ kind: z.literal("open"), id: Id, lists: ListsSchema }),
  z.strictObject({ kind: z.literal("answer"), id: Id, n: N, allow: z.boolean(), why: Why }),
  z.strictObject({ kind: z.literal("recorded"), id: Id, n: N, durable: z.boolean() }),
  z.strictObject({ kind: z.literal("end"), id: Id, why: Why }),
]);

/** What of the configuration the process works by. */
export type SettingsText = z.output<typeof SettingsSchema>;
/** The lists of a run, as they are written. */
export type ListTexts = z.output<typeof ListsSchema>;
export type FromDaemon = z.output<typeof FromDaemonSchema>;

/** What the ledger says may have been made shorter or replaced: it is no name to be judged. */
const Told = z.string().regex(/^[\x20-\x7e]{1,512}$/);
const Port = z.number().int().min(1).max(65_535);
const Count = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);
const Address = z.string().regex(/^[0-9a-f:.]{2,45}$/);
const Place = { run: Id, way: z.enum(["tls", "plain", "http"]), host: Told, port: Port };

/** The records of egress/ledger.ts, with the numbers of this protocol instead of the log's. */
const ClaimSchema = z.discriminatedUnion("kind", [
  z.strictObject({
    kind: z.literal("egress.opened"),
    data: z.strictObject({
      ...Place,
      addresses: z.array(Address).min(1).max(8),
      serverName: Told.optional(),
      /** The question that it was allowed by. */
      decision: N,
    }),
  }),
  z.strictObject({
    kind: z.literal("egress.refused"),
    data: z.strictObject({
      run: Id,
      way: Place.way.optional(),
      host: Told.optional(),
      port: Port.optional(),
      code: z.enum(REFUSALS),
      why: z.string().max(200),
    }),
  }),
  z.strictObject({
    kind: z.literal("egress.repeated"),
    data: z.strictObject({ run: Id, count: Count, first: N.optional() }),
  }),
  z.strictObject({
    kind: z.literal("egress.closed"),
    data: z.strictObject({
      ...Place,
      opened: N,
      connections: Count,
      sent: Count,
      received: Count,
      ms: Count,
      why: Why,
      failed: z.string().max(1_024).optional(),
    }),
  }),
]);

const FromEgressSchema = z.discriminatedUnion("kind", [
  z.strictObject({ kind: z.literal("ready") }),
  z.strictObject({ kind: z.literal("opened"), id: Id }),
  z.strictObject({ kind: z.literal("refused"), id: Id, why: Why }),
  z.strictObject({ kind: z.literal("ask"), id: Id, n: N, host: z.string().min(1).max(253), port: Port }),
  z.strictObject({ kind: z.literal("record"), id: Id, n: N, entry: ClaimSchema }),
  z.strictObject({ kind: z.literal("ended"), id: Id }),
]);

/** A record that the process wants written. */
export type Claim = z.output<typeof ClaimSchema>;
export type FromEgress = z.output<typeof FromEgressSchema>;

/** Of one frame of the egress process: a record with eight addresses has far less. */
export const MAX_EGRESS_FRAME = 16_384;

type Read<T> = { readonly ok: true; readonly message: T } | { readonly ok: false; readonly why: string };

/** Reads a message of the daemon's. */
export function readFromDaemon(value: unknown): Read<FromDaemon> {
  return readBy(FromDaemonSchema, value);
}

/** Reads a message of the egress process: what it says is outside data. */
export function readFromEgress(value: unknown): Read<FromEgress> {
  return readBy(FromEgressSchema, value);
}

function readBy<T>(schema: z.ZodType<T>, value: unknown): Read<T> {
  const parsed = schema.safeParse(value);
  if (parsed.success) return { ok: true, message: parsed.data };
  const issue = parsed.error.issues[0];
  return { ok: false, why: `${issue?.path.join(".") ?? ""}: ${issue?.message ?? "not a message"}` };
}
