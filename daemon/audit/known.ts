import { BoundaryError } from "../core/errors.ts";
import {
  type Note,
  parseCheckpoint,
  parseNote,
  parseVkey,
  type VerifierKey,
  verifyNote,
} from "./checkpoint.ts";

/**
 * What a verifier knows before it looks at a log: the key, and perhaps a head that the log has to contain. `note`: the
 * signed note that it was read from, whose signature has to be by the key in force at that size.
 */
export type KnownHead = { readonly size: number; readonly root: string; readonly note?: Note };

/** Reads a verifier key. Throws BoundaryError("key-invalid"). */
export function readKey(vkey: string): VerifierKey {
  const parsed = parseVkey(vkey);
  if (!parsed.ok) throw new BoundaryError("key-invalid", `reading the key: ${parsed.why}`);
  return parsed.value;
}

/**
 * Reads a head: its form, its name, and its signature if the genesis key made it. A later key's is the verification's
 * to check, once the log has certified that key. Throws BoundaryError("head-invalid").
 */
export function readHead(head: KnownHead | string, verifier: VerifierKey): KnownHead {
  if (typeof head !== "string") return checkedHead(head);
  const note = parseNote(head);
  if (!note.ok) throw new BoundaryError("head-invalid", `reading the head: ${note.why}`);
  const checkpoint = parseCheckpoint(note.value.text);
  if (!checkpoint.ok) throw new BoundaryError("head-invalid", `reading the head: ${checkpoint.why}`);
  if (checkpoint.value.origin !== verifier.name)
    throw new BoundaryError("head-invalid", "the head is of another log");
  const why = signatureFault(note.value, verifier);
  if (why !== null) throw new BoundaryError("head-invalid", `checking the head: ${why}`);
  const { size, root } = checkpoint.value;
  return { size, root, note: note.value };
}

/** Of the log's own signature: there has to be one, and the genesis key's has to be good. */
function signatureFault(note: Note, verifier: VerifierKey): string | null {
  const own = note.signatures.filter((each) => each.name === verifier.name);
  if (own.length === 0) return "not signed with this log's key";
  if (!own.some((each) => each.keyId === verifier.keyId)) return null;
  const checked = verifyNote(verifier, note);
  return checked.ok ? null : checked.why;
}

function checkedHead(head: KnownHead): KnownHead {
  if (Number.isSafeInteger(head.size) && head.size >= 0 && /^[0-9a-f]{64}$/.test(head.root)) return head;
  throw new BoundaryError("head-invalid", "reading the head: a size and a root in hex");
}
