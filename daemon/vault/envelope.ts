import { createCipheriv, createDecipheriv, randomBytes } from "node:crypto";
import { BoundaryError } from "../core/errors.ts";
import type { KekProvider } from "../ports.ts";
import type { SealedDocument } from "./document.ts";

/**
 * Envelope encryption. Each version of a secret has a data-encryption key (DEK) of its own, 256 random bits, used for
 * one encryption: AES-256-GCM (NIST SP 800-38D) with a random nonce of 96 bits. The DEK is wrapped by a KEK provider.
 *
 * GCM and not secretbox: it authenticates what stands beside the ciphertext, runs in native code at any size, and has
 * published vectors in this form.
 */
const DEK_BYTES = 32;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;

/** All of a document that says what it is. Whatever is changed of it, it does not open any more. */
export type Header = Omit<SealedDocument, "nonce" | "ciphertext" | "tag" | "wraps" | "dek" | "v">;

/** Seals a secret under a new DEK. Rejects as the provider's wrap does. */
export async function seal(
  plain: Uint8Array,
  header: Header,
  kek: Pick<KekProvider, "id" | "wrap">,
): Promise<SealedDocument> {
  const dek = randomBytes(DEK_BYTES);
  try {
    const wrapped = await kek.wrap(dek);
    const described = { v: 1, ...header, dek: `dek-${randomBytes(8).toString("hex")}` } as const;
    const nonce = randomBytes(NONCE_BYTES);
    const { ciphertext, tag } = encrypt(dek, nonce, boundTo(described), plain);
    return {
      ...described,
      nonce: nonce.toString("base64"),
      ciphertext: ciphertext.toString("base64"),
      tag: tag.toString("base64"),
      wraps: [{ kek: kek.id, wrapped: wrapped.toString("base64") }],
    };
  } finally {
    dek.fill(0);
  }
}

/** The secret, for the caller to wipe. Rejects with BoundaryError("secret-damaged") when anything of it was altered, or it is not this KEK's. */
export async function unseal(
  sealed: SealedDocument,
  kek: Pick<KekProvider, "id" | "unwrap">,
): Promise<Buffer> {
  const dek = await dekOf(sealed, kek);
  try {
    const plain = decrypt(dek, {
      nonce: Buffer.from(sealed.nonce, "base64"),
      bound: boundTo(sealed),
      ciphertext: Buffer.from(sealed.ciphertext, "base64"),
      tag: Buffer.from(sealed.tag, "base64"),
    });
    if (plain === null) throw damaged(sealed, "it does not open");
    return plain;
  } finally {
    dek.fill(0);
  }
}

/** The same document with its DEK wrapped for another KEK too. The ciphertext stays as it is. Rejects as `unseal` does. */
export async function addWrap(
  sealed: SealedDocument,
  from: Pick<KekProvider, "id" | "unwrap">,
  to: Pick<KekProvider, "id" | "wrap">,
): Promise<SealedDocument> {
  const dek = await dekOf(sealed, from);
  try {
    const wrapped = (await to.wrap(dek)).toString("base64");
    return {
      ...keepWrap(sealed, from.id),
      wraps: [...keepWrap(sealed, from.id).wraps, { kek: to.id, wrapped }],
    };
  } finally {
    dek.fill(0);
  }
}

/** The same document, wrapped for one KEK alone. */
export function keepWrap(sealed: SealedDocument, kekId: string): SealedDocument {
  return { ...sealed, wraps: sealed.wraps.filter(({ kek }) => kek === kekId) };
}

async function dekOf(sealed: SealedDocument, kek: Pick<KekProvider, "id" | "unwrap">): Promise<Buffer> {
  const wrap = sealed.wraps.find((each) => each.kek === kek.id);
  if (wrap === undefined) throw damaged(sealed, "it is wrapped under another key");
  const dek = await kek.unwrap(Buffer.from(wrap.wrapped, "base64"));
  if (dek.length === DEK_BYTES) return dek;
  dek.fill(0);
  throw damaged(sealed, "its key has a wrong length");
}

/** The additional authenticated data: one JSON array, in an order of its own, so that no two headers are the same bytes. */
function boundTo(header: Header & Pick<SealedDocument, "dek">): Buffer {
  const { kind, workspace, name, version, dek, created, fingerprint, peer } = header;
  const facts = peer && [
    peer.localAddress,
    peer.remoteAddress,
    peer.localId,
    peer.remoteId,
    peer.localSubnets,
    peer.remoteSubnets,
  ];
  return Buffer.from(
    JSON.stringify([
      "boundary-vault-1",
      kind,
      workspace,
      name,
      version,
      dek,
      created,
      fingerprint,
      facts ?? [],
    ]),
  );
}

/** AES-256-GCM. `key` 32 bytes, `nonce` 12. */
export function encrypt(
  key: Uint8Array,
  nonce: Uint8Array,
  bound: Uint8Array,
  plain: Uint8Array,
): { readonly ciphertext: Buffer; readonly tag: Buffer } {
  const cipher = createCipheriv("aes-256-gcm", key, nonce, { authTagLength: TAG_BYTES });
  cipher.setAAD(bound);
  const ciphertext = Buffer.concat([cipher.update(plain), cipher.final()]);
  return { ciphertext, tag: cipher.getAuthTag() };
}

/** The plain text, or null when the tag does not fit. */
export function decrypt(
  key: Uint8Array,
  box: {
    readonly nonce: Uint8Array;
    readonly bound: Uint8Array;
    readonly ciphertext: Uint8Array;
    readonly tag: Uint8Array;
  },
): Buffer | null {
  if (box.nonce.length !== NONCE_BYTES || box.tag.length !== TAG_BYTES) return null;
  const decipher = createDecipheriv("aes-256-gcm", key, box.nonce, { authTagLength: TAG_BYTES });
  decipher.setAAD(box.bound);
  decipher.setAuthTag(box.tag);
  // GCM gives in update() what it has not authenticated yet: nobody sees it before final() has agreed
  const plain = decipher.update(box.ciphertext);
  try {
    decipher.final();
    return plain;
  } catch {
    plain.fill(0);
    return null;
  }
}

function damaged({ kind, name }: SealedDocument, why: string): BoundaryError {
  return new BoundaryError("secret-damaged", `opening the ${kind} ${name}: ${why}`);
}
