import type { Certificate } from "../daemon/audit/certificate.ts";
import type { VerifierKey } from "../daemon/audit/checkpoint.ts";
import type { LogProof } from "../daemon/audit/proof.ts";
import {
  type Answer,
  certificateRequest,
  checkpointRequest,
  type Request,
  readCertificateAnswer,
  readCheckpointAnswer,
} from "../daemon/audit/witness-exchange.ts";
import { BoundaryError } from "../daemon/core/errors.ts";

/** What the exchange works with. `prove` gives the consistency proof of the newest checkpoint from an older size. */
export type WitnessParts = {
  readonly witness: VerifierKey;
  readonly send: (request: Request) => Promise<Answer>;
  readonly prove: (olderSize: number) => Promise<LogProof>;
};

/** A checkpoint with the witness's cosignature; `at`: seconds since 1970. */
export type Witnessed = { readonly note: string; readonly at: number };

/** Others may submit at the same time: so often is the size that the witness names taken up. */
const ATTEMPTS = 4;

/**
 * Has the log's newest checkpoint cosigned. `olderSize`: what the witness is thought to have cosigned last; it says when
 * that is not so. Throws BoundaryError("witness-refused"), and what `send` and `prove` throw.
 */
export async function askWitness(parts: WitnessParts, olderSize: number): Promise<Witnessed> {
  let size = olderSize;
  let introduced = false;
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const proof = await proofFrom(parts, size);
    const answer = await parts.send(checkpointRequest(proof));
    const asked = { witness: parts.witness, note: proof.checkpoint, sent: size };
    const meaning = readCheckpointAnswer(answer, asked);
    if (meaning.kind === "cosigned") return { note: meaning.note, at: meaning.at };
    if (meaning.kind === "refused") throw refused(parts, meaning.why);
    if (meaning.kind === "other-size") size = meaning.size;
    else if (introduced || proof.keys.length === 0) throw refused(parts, "it does not know the log's key");
    else {
      await introduceKeys(parts, proof.keys);
      introduced = true;
    }
  }
  throw refused(parts, `it named another size ${ATTEMPTS} times`);
}

async function proofFrom(parts: WitnessParts, size: number): Promise<LogProof> {
  try {
    return await parts.prove(size);
  } catch (cause) {
    if (!(cause instanceof BoundaryError) || cause.code !== "proof-impossible" || size === 0) throw cause;
    throw new BoundaryError(
      "witness-refused",
      `${parts.witness.name} has cosigned ${size} records of this log, and it cannot be shown to go on from them`,
      { cause },
    );
  }
}

/** Gives the newest certificate, and where the witness wants an older one first, all from there on. */
async function introduceKeys(parts: WitnessParts, keys: readonly Certificate[]): Promise<void> {
  let asked = false;
  for (let at = keys.length - 1; at < keys.length; ) {
    const certificate = keys[at];
    if (certificate === undefined) throw refused(parts, `it wants the certificate of segment ${at}`);
    const meaning = readCertificateAnswer(await parts.send(certificateRequest(certificate)), at);
    if (meaning.kind === "taken") at++;
    else if (meaning.kind === "wants" && !asked) {
      at = meaning.segment;
      asked = true;
    } else
      throw refused(parts, meaning.kind === "refused" ? meaning.why : "it asks for ever older certificates");
  }
}

function refused({ witness }: WitnessParts, why: string): BoundaryError {
  return new BoundaryError("witness-refused", `${witness.name} did not cosign: ${why}`);
}
