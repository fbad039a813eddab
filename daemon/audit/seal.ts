import {
  type Checkpoint,
  type Note,
  parseCheckpoint,
  parseNote,
  type VerifierKey,
  verifyNote,
} from "./checkpoint.ts";
import type { LogRecord } from "./record.ts";
import type { Bad, BadCode, Place, Proven } from "./verdict.ts";

export type SealForm =
  | { readonly ok: true; readonly note: Note; readonly checkpoint: Checkpoint }
  | { readonly ok: false; readonly code: BadCode; readonly what: string };

/**
 * Checks all of a seal but its signature: a note with our one signature, origin, size and root of the lines before
 * it, and the time of the line before it (see log.ts for why it has none of its own).
 */
export function checkSeal(
  seal: LogRecord,
  before: LogRecord,
  rootBefore: string,
  verifier: VerifierKey,
): SealForm {
  const { note: text } = seal.data;
  if (typeof text !== "string" || Object.keys(seal.data).length !== 1)
    return fault("seal-form", "a seal holds one note");
  const note = parseNote(text);
  if (!note.ok) return fault("seal-form", note.why);
  const [signature, ...others] = note.value.signatures;
  if (!signature || others.length > 0) return fault("seal-form", "a seal's note has one signature");
  const checkpoint = parseCheckpoint(note.value.text);
  if (!checkpoint.ok) return fault("seal-form", checkpoint.why);
  if (signature.name !== verifier.name || signature.keyId !== verifier.keyId) {
    return fault("seal-key", `sealed with the key ${signature.name}+${signature.keyId}`);
  }
  if (checkpoint.value.origin !== verifier.name) return fault("seal-origin", "the seal is of another log");
  if (checkpoint.value.size !== seal.seq) {
    return fault(
      "records-rewritten",
      `the seal is of ${checkpoint.value.size} records and stands after ${seal.seq}`,
    );
  }
  if (checkpoint.value.root !== rootBefore) {
    return fault("records-rewritten", "the signed root is not that of the records before the seal");
  }
  const sameTime = seal.at === before.at && seal.mono === before.mono && seal.boot === before.boot;
  if (!sameTime) return fault("seal-form", "the seal bears another time than the record before it");
  return { ok: true, note: note.value, checkpoint: checkpoint.value };
}

export type WaitingSeal = {
  readonly note: Note;
  readonly place: Place;
  /** The key in force. */
  readonly verifier: VerifierKey;
  readonly proves: Proven;
};

export type Signatures = {
  /** Takes a seal whose form is good. A Bad: a signature is wrong, and it is known to stay so. */
  add(seal: WaitingSeal): Bad | null;
  /** No seal of this key comes after these. A Bad: the first wrong signature that no later good one covers. */
  settle(): Bad | null;
  proven(): Proven | null;
};

/** Another implementation's word on a signature: whether it is good. */
export type SecondOpinion = (publicKey: Uint8Array, message: Uint8Array, signature: Uint8Array) => boolean;

/** Seals that wait for the check of one signature over them all. */
const MAX_WAITING = 64;

/**
 * Checks signatures, most of them at once: every line, older seals included, is a leaf under a newer seal's root,
 * so a good newest seal proves all of them, those with a wrong signature too (only who has the key can seal over one). A key is only as good as
 * the seal that certified it: who goes on to the next key settles first.
 */
export function createSignatures(secondOpinion?: SecondOpinion): Signatures {
  let waiting: WaitingSeal[] = [];
  let proven: Proven | null = null;
  let doubt: Place | null = null; // the first wrong signature after what is proven
  let checks = 0;

  /** The newest good one proves all before it; what is wrong after that one is in doubt until a later one is good. */
  function check(): Bad | null {
    const seals = waiting;
    waiting = [];
    const good = seals.findLastIndex(isGood);
    const newest = seals[good];
    if (newest) {
      if (!isSeconded(newest)) return { ...newest.place, code: "seal-signature", what: DISAGREEMENT };
      proven = newest.proves;
      doubt = null;
    }
    doubt ??= seals[good + 1]?.place ?? null;
    return null;
  }

  function settle(): Bad | null {
    const disagreement = check();
    if (disagreement || doubt === null) return disagreement;
    return { ...doubt, code: "seal-signature", what: "the seal's signature is wrong" };
  }

  function isGood(seal: WaitingSeal): boolean {
    return verifyNote(seal.verifier, seal.note).ok;
  }

  /** A sample: the first, the second, the fourth… of what is checked, so that a log of any length costs only a few. */
  function isSeconded({ note, verifier }: WaitingSeal): boolean {
    checks++;
    if (!secondOpinion || (checks & (checks - 1)) !== 0) return true;
    const signature = note.signatures[0]?.signature ?? Buffer.alloc(0);
    return secondOpinion(verifier.key.raw, Buffer.from(note.text, "utf8"), signature);
  }

  return {
    add(seal) {
      waiting.push(seal);
      return waiting.length >= MAX_WAITING ? check() : null;
    },
    settle,
    proven: () => proven,
  };
}

const DISAGREEMENT = "two implementations of Ed25519 do not agree on the seal's signature";

function fault(code: BadCode, what: string): SealForm {
  return { ok: false, code, what };
}
