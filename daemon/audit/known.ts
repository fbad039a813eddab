import { BoundaryError } from "../core/errors.ts";
import { parseCheckpoint, parseNote, parseVkey, type VerifierKey, verifyNote } from "./checkpoint.ts";

/** What a verifier knows before it looks at a log: the key, and perhaps a head that the log has to contain. */
export type KnownHead = { readonly size: number; readonly root: string };

/** Reads a verifier key. Throws BoundaryError("key-invalid"). */
export function readKey(vkey: string): VerifierKey {
  const parsed = parseVkey(vkey);
  if (!parsed.ok) throw new BoundaryError("key-invalid", `reading the key: ${parsed.why}`);
  return parsed.value;
}

/** Reads a head, checking a note's signature. Null when none is given. Throws BoundaryError("head-invalid"). */
export function readHead(head: KnownHead | string | undefined, verifier: VerifierKey): KnownHead | null {
  if (head === undefined) return null;
  if (typeof head !== "string") return checkedHead(head);
  const note = parseNote(head);
  if (!note.ok) throw new BoundaryError("head-invalid", `reading the head: ${note.why}`);
  const text = verifyNote(verifier, note.value);
  if (!text.ok) throw new BoundaryError("head-invalid", `checking the head: ${text.why}`);
  const checkpoint = parseCheckpoint(text.value);
  if (!checkpoint.ok) throw new BoundaryError("head-invalid", `reading the head: ${checkpoint.why}`);
  if (checkpoint.value.origin !== verifier.name)
    throw new BoundaryError("head-invalid", "the head is of another log");
  return checkpoint.value;
}

function checkedHead(head: KnownHead): KnownHead {
  if (Number.isSafeInteger(head.size) && head.size >= 0 && /^[0-9a-f]{64}$/.test(head.root)) return head;
  throw new BoundaryError("head-invalid", "reading the head: a size and a root in hex");
}
