import { type Certificate, renderCertificate } from "./certificate.ts";
import { parseNote, renderSignature, type VerifierKey } from "./checkpoint.ts";
import { readCosigned } from "./cosignature.ts";
import type { LogProof } from "./proof.ts";

/**
 * C2SP tlog-witness, the log's side, without the network: what to send next, and what an answer means. One call is
 * ours: a standard witness knows a log's keys by configuration, ours also learn the next one from its certificate.
 */
export type Request = { readonly path: "/add-checkpoint" | "/add-key-certificate"; readonly body: string };
export type Answer = { readonly status: number; readonly body: string };

/** What an answer to a checkpoint means. */
export type CheckpointAnswer =
  | { readonly kind: "cosigned"; readonly note: string; readonly at: number }
  /** The witness's newest checkpoint has this size: prove from there. */
  | { readonly kind: "other-size"; readonly size: number }
  | { readonly kind: "key-unknown" }
  | { readonly kind: "refused"; readonly why: string };

/** What an answer to a certificate means. `wants`: the segment whose certificate has to come first. */
export type CertificateAnswer =
  | { readonly kind: "taken" }
  | { readonly kind: "wants"; readonly segment: number }
  | { readonly kind: "refused"; readonly why: string };

/** The request for a cosignature on a proof's checkpoint, from the older tree that the proof is of. */
export function checkpointRequest({ checkpoint, claim }: LogProof): Request {
  const hashes = claim.kind === "older" ? claim.consistency : [];
  const lines = hashes.map((hash) => `${Buffer.from(hash, "hex").toString("base64")}\n`).join("");
  const old = claim.kind === "older" ? claim.from.size : 0;
  return { path: "/add-checkpoint", body: `old ${old}\n${lines}\n${checkpoint}` };
}

export function certificateRequest(certificate: Certificate): Request {
  return { path: "/add-key-certificate", body: renderCertificate(certificate) };
}

/** Reads the answer to a checkpoint that was sent as this note. `sent`: the older size that went with it. */
export function readCheckpointAnswer(
  answer: Answer,
  asked: { readonly witness: VerifierKey; readonly note: string; readonly sent: number },
): CheckpointAnswer {
  const { status, body } = answer;
  if (status === 200) return cosignedNote(body, asked.note, asked.witness);
  if (status === 403) return { kind: "key-unknown" };
  if (status === 409) return otherSize(body, asked.sent);
  const why = REFUSALS.get(status) ?? `it answered with status ${status}`;
  return { kind: "refused", why };
}

const REFUSALS: ReadonlyMap<number, string> = new Map([
  [400, "it could not read the request"],
  [404, "it does not know this log"],
  [422, "the log does not go on from what it has cosigned: this is another log than it was"],
]);

function otherSize(body: string, sent: number): CheckpointAnswer {
  const size = readCount(body);
  if (size === null) return { kind: "refused", why: "it named no size" };
  return size === sent
    ? { kind: "refused", why: `it has cosigned another tree of ${size} records` }
    : { kind: "other-size", size };
}

/** The note with the witness's own lines added: what else came is left out. */
function cosignedNote(body: string, note: string, witness: VerifierKey): CheckpointAnswer {
  const lines = body.split("\n").filter((line) => line.startsWith(`— ${witness.name} `));
  const parsed = parseNote(`-\n\n${lines.map((line) => `${line}\n`).join("")}`);
  const signatures = parsed.ok ? parsed.value.signatures : [];
  const own = signatures.filter(({ keyId }) => keyId === witness.keyId);
  const whole = note + own.map((each) => `${renderSignature(each)}\n`).join("");
  const read = readCosigned(whole, witness);
  return read.ok
    ? { kind: "cosigned", note: whole, at: read.value.cosigned.at }
    : { kind: "refused", why: `its answer does not count: ${read.why}` };
}

/** Reads the answer to the certificate of this segment. */
export function readCertificateAnswer({ status, body }: Answer, segment: number): CertificateAnswer {
  if (status === 200) return { kind: "taken" };
  const wants = status === 409 ? readCount(body) : null;
  if (wants !== null && wants < segment) return { kind: "wants", segment: wants };
  if (status === 404 || status === 405)
    return { kind: "refused", why: "it does not know the log's present key, and takes no certificates" };
  return {
    kind: "refused",
    why: `it does not take the certificate of segment ${segment} (status ${status})`,
  };
}

function readCount(body: string): number | null {
  const count = /^(0|[1-9][0-9]{0,15})\n$/.exec(body)?.[1];
  return count !== undefined && Number.isSafeInteger(Number(count)) ? Number(count) : null;
}
