import { hash } from "node:crypto";
import { BoundaryError } from "../core/errors.ts";
import type { Signer } from "../ports.ts";
import { type PublicKey, readPublicKey, verifySignature } from "./ed25519.ts";

/**
 * C2SP tlog-checkpoint in a C2SP signed note, so that foreign verifiers read our heads. Three lines (origin, tree
 * size, root in base64) and no extension lines; then a blank line and signature lines.
 */
export type Checkpoint = {
  readonly origin: string;
  /** Number of leaves. */
  readonly size: number;
  /** RFC 6962 root, lower-case hex. */
  readonly root: string;
};

export type Note = { readonly text: string; readonly signatures: readonly NoteSignature[] };
export type NoteSignature = { readonly name: string; readonly keyId: string; readonly signature: Buffer };

/** A verifier key: who signs, and with what. `keyId` is 8 hex digits. */
export type VerifierKey = { readonly name: string; readonly keyId: string; readonly key: PublicKey };

export type Parsed<T> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly why: string };

/** Bounds for notes from outside: ours is under 300 bytes; witnesses may add lines. */
const MAX_NOTE_CHARS = 16_384;
const MAX_SIGNATURES = 16;
const ED25519 = 0x01;

/** C2SP signature types: what a log signs with, and what a witness cosigns with. Both are Ed25519. */
export type SignatureType = 0x01 | 0x04;
const TYPE_NAMES = { 1: "an Ed25519 key", 4: "a witness's Ed25519 key (type 0x04)" } as const;

/** The note's text, ending in "\n". Throws BoundaryError("record-invalid") when a part cannot be in a checkpoint. */
export function renderCheckpoint(checkpoint: Checkpoint): string {
  const { origin, size, root } = checkpoint;
  if (!isName(origin) || !Number.isSafeInteger(size) || size < 0 || !/^[0-9a-f]{64}$/.test(root)) {
    throw new BoundaryError("record-invalid", "rendering a checkpoint");
  }
  return `${origin}\n${size}\n${Buffer.from(root, "hex").toString("base64")}\n`;
}

/** Reads a note's text as a checkpoint. Anything but exactly our three lines is refused. */
export function parseCheckpoint(text: string): Parsed<Checkpoint> {
  const [origin = "", size = "", root = "", rest, ...more] = text.split("\n");
  if (rest !== "" || more.length > 0) return refuse("a checkpoint has exactly three lines");
  if (!isName(origin)) return refuse("the origin is not a name");
  if (!/^(0|[1-9][0-9]{0,15})$/.test(size) || !Number.isSafeInteger(Number(size))) {
    return refuse("the tree size is not a plain number");
  }
  const bytes = readBase64(root);
  if (bytes?.length !== 32) return refuse("the root is not a hash in base64");
  return { ok: true, value: { origin, size: Number(size), root: bytes.toString("hex") } };
}

/** Signs a text that ends in "\n". Throws BoundaryError("key-invalid") when the signer's vkey is not one. */
export function signNote(text: string, signer: Signer): string {
  const { name, keyId } = splitVkey(signer.vkey) ?? fail("key-invalid", "signing a note");
  const signature = signer.sign(Buffer.from(text, "utf8"));
  return `${text}\n${renderSignature({ name, keyId, signature })}\n`;
}

/** A signature line, without its "\n". */
export function renderSignature({ name, keyId, signature }: NoteSignature): string {
  return `— ${name} ${Buffer.concat([Buffer.from(keyId, "hex"), signature]).toString("base64")}`;
}

/** Splits a note into text and signatures. Checks form only: nothing is vouched for before verifyNote. */
export function parseNote(note: string): Parsed<Note> {
  if (note.length > MAX_NOTE_CHARS) return refuse("the note is too long");
  if (/[^\n -~\u00a0-\uffff]/.test(note) || !note.isWellFormed()) {
    return refuse("the note has characters that a note cannot have");
  }
  const split = note.lastIndexOf("\n\n");
  if (split === -1 || !note.endsWith("\n")) return refuse("the note has no signatures");
  const lines = note.slice(split + 2, -1).split("\n");
  if (lines.length > MAX_SIGNATURES) return refuse("the note has too many signatures");
  const signatures = lines.map(parseSignatureLine);
  if (signatures.some((signature) => signature === null)) return refuse("a signature line is malformed");
  return {
    ok: true,
    value: { text: note.slice(0, split + 1), signatures: signatures.filter((each) => each !== null) },
  };
}

/** The text of a note, when the key signed it. Signatures by other keys neither help nor harm. */
export function verifyNote(verifier: VerifierKey, note: Note): Parsed<string> {
  const own = note.signatures.filter((each) => each.name === verifier.name && each.keyId === verifier.keyId);
  if (own.length === 0) return refuse("not signed with this key");
  if (own.length > 1) return refuse("signed twice with one key");
  const good = own.every(({ signature }) =>
    verifySignature(verifier.key, Buffer.from(note.text, "utf8"), signature),
  );
  return good ? { ok: true, value: note.text } : refuse("the signature is wrong");
}

/** "name+key id+base64(type ‖ public key)". Throws BoundaryError("key-invalid") for a bad name or key. */
export function renderVkey(name: string, publicKey: Uint8Array, type: SignatureType = ED25519): string {
  if (!isName(name) || readPublicKey(publicKey) === null) fail("key-invalid", "rendering a verifier key");
  const material = Buffer.concat([Buffer.of(type), publicKey]);
  return `${name}+${keyIdOf(name, material)}+${material.toString("base64")}`;
}

/** Reads a verifier key of one type; the key id has to be the right one for name and key. */
export function parseVkey(vkey: string, type: SignatureType = ED25519): Parsed<VerifierKey> {
  const parts = splitVkey(vkey);
  if (!parts) return refuse("a verifier key is name+8 hex digits+base64");
  const material = readBase64(parts.material);
  if (material?.[0] !== type) return refuse(`the key is not ${TYPE_NAMES[type]}`);
  const key = readPublicKey(material.subarray(1));
  if (!key) return refuse("the key is not a usable Ed25519 public key");
  if (keyIdOf(parts.name, material) !== parts.keyId) return refuse("the key id does not belong to the key");
  return { ok: true, value: { name: parts.name, keyId: parts.keyId, key } };
}

function splitVkey(vkey: string): { name: string; keyId: string; material: string } | null {
  // base64 has "+" too, but a name has none: the first two split.
  const found = /^([^+]{1,256})\+([0-9a-f]{8})\+([A-Za-z0-9+/=]{1,64})$/.exec(vkey);
  const [, name = "", keyId = "", material = ""] = found ?? [];
  return found && isName(name) ? { name, keyId, material } : null;
}

/** SHA-256(name ‖ "\n" ‖ type and key), first four bytes. */
function keyIdOf(name: string, material: Buffer): string {
  return hash("sha256", Buffer.concat([Buffer.from(`${name}\n`, "utf8"), material]), "hex").slice(0, 8);
}

function parseSignatureLine(line: string): NoteSignature | null {
  const found = /^— ([^ ]+) ([A-Za-z0-9+/=]+)$/.exec(line);
  const [, name = "", encoded = ""] = found ?? [];
  const bytes = found && isName(name) ? readBase64(encoded) : null;
  if (!bytes || bytes.length < 5) return null;
  return { name, keyId: bytes.toString("hex", 0, 4), signature: bytes.subarray(4) };
}

/** Canonical base64 only: Node's decoder also takes URL-safe, unpadded and dirty text. */
export function readBase64(text: string): Buffer | null {
  const bytes = Buffer.from(text, "base64");
  return bytes.length > 0 && bytes.toString("base64") === text ? bytes : null;
}

function isName(name: string): boolean {
  return /^[!-~\u00a1-\uffff]{1,256}$/.test(name) && !/[+\s]/.test(name) && name.isWellFormed();
}

function refuse(why: string): { readonly ok: false; readonly why: string } {
  return { ok: false, why };
}

function fail(code: "key-invalid", doing: string): never {
  throw new BoundaryError(code, doing);
}
