import { BoundaryError } from "../core/errors.ts";
import type { Signer } from "../ports.ts";
import {
  type Checkpoint,
  type Note,
  type NoteSignature,
  type Parsed,
  parseCheckpoint,
  parseNote,
  parseVkey,
  renderSignature,
  type VerifierKey,
} from "./checkpoint.ts";
import { verifySignature } from "./ed25519.ts";

/**
 * C2SP tlog-cosignature, version 1 (Ed25519): a witness says that at a time it knew this checkpoint, and none that
 * contradicts it. The signature is 8 bytes of time (seconds since 1970, big-endian) and 64 of Ed25519.
 */
export const WITNESS_KEY_TYPE = 0x04;
const TIME_BYTES = 8;
const SIGNATURE_BYTES = TIME_BYTES + 64;

/** Who cosigned, and when (seconds since 1970). */
export type Cosigned = { readonly witness: string; readonly at: number };

/** Reads a witness's verifier key: name+key id+base64(0x04 ‖ public key). */
export function parseWitnessVkey(vkey: string): Parsed<VerifierKey> {
  return parseVkey(vkey, WITNESS_KEY_TYPE);
}

/** A witness's signature line, without its "\n". `at`: seconds. Throws BoundaryError("key-invalid") when the signer's vkey is no witness's. */
export function cosign(text: string, signer: Signer, at: number): string {
  const witness = parseWitnessVkey(signer.vkey);
  if (!witness.ok) throw new BoundaryError("key-invalid", `cosigning: ${witness.why}`);
  const time = Buffer.alloc(TIME_BYTES);
  time.writeBigUInt64BE(BigInt(at));
  const signature = Buffer.concat([time, signer.sign(signedMessage(text, at))]);
  return renderSignature({ name: witness.value.name, keyId: witness.value.keyId, signature });
}

/** When the witness cosigned this note, the last time of several. A wrong cosignature of its own spoils the note. */
export function verifyCosignature(witness: VerifierKey, note: Note): Parsed<Cosigned> {
  const own = note.signatures.filter(({ name, keyId }) => name === witness.name && keyId === witness.keyId);
  if (own.length === 0) return { ok: false, why: `${witness.name} has not cosigned it` };
  const times = own.map((signature) => timeOf(witness, note.text, signature));
  const good = times.filter((time) => time !== null);
  if (good.length < times.length) return { ok: false, why: `the cosignature of ${witness.name} is wrong` };
  return { ok: true, value: { witness: witness.name, at: Math.max(...good) } };
}

/** A note that the witness cosigned, as head: its text as a checkpoint, and when. The log's own signature is not looked at. */
export function readCosigned(
  text: string,
  witness: VerifierKey,
): Parsed<{ readonly head: Checkpoint; readonly cosigned: Cosigned }> {
  const note = parseNote(text);
  if (!note.ok) return note;
  const cosigned = verifyCosignature(witness, note.value);
  if (!cosigned.ok) return cosigned;
  const head = parseCheckpoint(note.value.text);
  return head.ok ? { ok: true, value: { head: head.value, cosigned: cosigned.value } } : head;
}

function timeOf(witness: VerifierKey, text: string, { signature }: NoteSignature): number | null {
  if (signature.length !== SIGNATURE_BYTES) return null;
  const at = signature.readBigUInt64BE(0);
  if (at > BigInt(Number.MAX_SAFE_INTEGER)) return null;
  const message = signedMessage(text, Number(at));
  return verifySignature(witness.key, message, signature.subarray(TIME_BYTES)) ? Number(at) : null;
}

function signedMessage(text: string, at: number): Buffer {
  return Buffer.from(`cosignature/v1\ntime ${at}\n${text}`, "utf8");
}
