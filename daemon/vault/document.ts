import { z } from "zod";
import { decodeUtf8, parseStrictJson } from "../core/json.ts";

/** What a secret may have, and so what a frame of the control socket can carry. Bytes. */
export const MAX_SECRET_BYTES = 32_768;
/** Of one file of the vault: the ciphertext in base64, and what stands around it. */
export const MAX_DOCUMENT_BYTES = 65_536;
export const KINDS = ["secret", "psk"] as const;
export type Kind = (typeof KINDS)[number];

export const NAME = /^[a-z0-9][a-z0-9_-]{0,62}$/;
const NameSchema = z.string().regex(NAME, "use lower case letters, digits, - and _, 63 at most");
const Id = z.string().regex(/^(?:dek|kek)-[0-9a-f]{16}$/);
const Base64 = (most: number) =>
  z
    .string()
    .max(Math.ceil(most / 3) * 4)
    .regex(/^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/);
const Version = z.number().int().min(1).max(999_999_999);
const Address = z.union([z.literal("%any"), z.ipv4(), z.ipv6()]);
const Subnet = z.union([z.cidrv4(), z.cidrv6()]);
const Identity = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9@.:_-]{0,126}$/, "use letters, digits and @ . : _ -");

/** Who shares a pre-shared key, as strongSwan is told. Nothing of it is secret; all of it is authenticated. */
export const PeerSchema = z.strictObject({
  localAddress: Address,
  remoteAddress: Address,
  localId: Identity,
  remoteId: Identity,
  localSubnets: z.array(Subnet).max(16),
  remoteSubnets: z.array(Subnet).max(16),
});
export type PeerFacts = z.infer<typeof PeerSchema>;

const HeaderFields = {
  v: z.literal(1),
  kind: z.enum(KINDS),
  workspace: NameSchema,
  name: NameSchema,
  version: Version,
} as const;

const SealedSchema = z.strictObject({
  ...HeaderFields,
  /** Names the data-encryption key; each is used for one version of one secret. */
  dek: Id,
  created: z.iso.datetime({ precision: 3 }),
  fingerprint: z.string().regex(/^[0-9a-f]{16}$/),
  peer: PeerSchema.optional(),
  nonce: Base64(12),
  ciphertext: Base64(MAX_SECRET_BYTES),
  tag: Base64(16),
  /** One, or two while the KEK is changed. */
  wraps: z
    .array(z.strictObject({ kek: Id, wrapped: Base64(512) }))
    .min(1)
    .max(4),
});
export type SealedDocument = z.infer<typeof SealedSchema>;

const TombstoneSchema = z.strictObject({ ...HeaderFields, revoked: z.iso.datetime({ precision: 3 }) });
export type Tombstone = z.infer<typeof TombstoneSchema>;

const KeyringSchema = z.strictObject({
  v: z.literal(1),
  workspace: NameSchema,
  kek: z.strictObject({
    id: Id,
    kind: z.string().regex(/^[a-z0-9-]{1,32}$/),
    /** What the KEK's source needs to find it again; nothing secret. */
    spec: z.string().max(16_384),
  }),
  /** The key of the fingerprints, wrapped under the KEK. */
  fingerprintKey: Base64(512),
});
export type Keyring = z.infer<typeof KeyringSchema>;

/** What a file of the vault says, or why it cannot be read. Never what is in it: it may be somebody's secret. */
export type Read<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly why: string };

/** One version of a secret, as it stands on disk. */
export function parseSealed(bytes: Uint8Array): Read<SealedDocument> {
  return parse(bytes, SealedSchema);
}

/** What stands where a secret was revoked: its number is not used again. */
export function parseTombstone(bytes: Uint8Array): Read<Tombstone> {
  return parse(bytes, TombstoneSchema);
}

/** The keys of a workspace: wrapped, or where to find them. */
export function parseKeyring(bytes: Uint8Array): Read<Keyring> {
  return parse(bytes, KeyringSchema);
}

export function renderDocument(document: SealedDocument | Tombstone | Keyring): Buffer {
  return Buffer.from(`${JSON.stringify(document)}\n`);
}

function parse<T>(bytes: Uint8Array, schema: z.ZodType<T>): Read<T> {
  if (bytes.length > MAX_DOCUMENT_BYTES) return { ok: false, why: `${bytes.length} bytes are too many` };
  const text = decodeUtf8(bytes);
  if (!text.ok) return { ok: false, why: "it is not UTF-8" };
  const json = parseStrictJson(text.value, { maxDepth: 4 });
  if (!json.ok) return { ok: false, why: `it cannot be read (${json.code})` };
  const found = schema.safeParse(json.value);
  if (found.success) return { ok: true, value: found.data };
  const [issue] = found.error.issues;
  const known = issue?.code === "unrecognized_keys" ? "" : (issue?.path.join(".") ?? "");
  return { ok: false, why: known === "" ? "it has fields that are unknown" : `its ${known} is wrong` };
}
