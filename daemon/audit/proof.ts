import { renderCanonical } from "./canonical.ts";
import { readCanonical } from "./canonical-read.ts";
import {
  type Certificate,
  checkCertificate,
  genesisStanding,
  parseCertificate,
  renderCertificate,
  type Standing,
} from "./certificate.ts";
import { type Checkpoint, type Parsed, parseCheckpoint, parseNote, verifyNote } from "./checkpoint.ts";
import { readLine } from "./line.ts";
import { leafHash } from "./merkle.ts";
import {
  MAX_PROOF_HASHES,
  type Proof,
  type Tree,
  verifyConsistency,
  verifyInclusion,
} from "./merkle-proof.ts";
import { type Data, type LogRecord, MAX_RECORD_BYTES, type Value } from "./record.ts";

/** A proof that needs no log to be checked: docs/LOG_FORMAT.md, "Proofs". */
export type LogProof = {
  /** Of all segments before the checkpoint's, from the first on. */
  readonly keys: readonly Certificate[];
  /** A signed note. */
  readonly checkpoint: string;
  readonly claim: Claim;
};

/** What is proven of the checkpoint's tree: that it has a record, or that it goes on from an older tree. */
export type Claim =
  | { readonly kind: "record"; readonly record: string; readonly index: number; readonly inclusion: Proof }
  | { readonly kind: "older"; readonly from: Tree; readonly consistency: Proof };

/** What a good proof shows. */
export type Shown = {
  readonly checkpoint: Checkpoint;
  /** The key that signed the checkpoint, and its segment. */
  readonly vkey: string;
  readonly segment: number;
  /** Null where an older tree was proven. */
  readonly record: LogRecord | null;
};

const FORMAT = "boundary-log-proof/1";
/** Some ten thousand segments. */
export const MAX_PROOF_CHARS = 16 * 1_048_576;
const DEPTH = 3;

/** Canonical JSON and "\n". */
export function renderProof({ keys, checkpoint, claim }: LogProof): string {
  const certificates = keys.map((each) => renderCertificate(each).slice(0, -1).split("\n"));
  return `${renderCanonical({ format: FORMAT, keys: certificates, checkpoint, ...claimData(claim) })}\n`;
}

function claimData(claim: Claim): Data {
  if (claim.kind === "record")
    return { record: claim.record, index: claim.index, inclusion: claim.inclusion };
  return { from: { size: claim.from.size, root: claim.from.root }, consistency: claim.consistency };
}

/** Reads a proof: exactly the bytes that renderProof gives. Form only. */
export function parseProof(text: string): Parsed<LogProof> {
  if (text.length > MAX_PROOF_CHARS) return refuse("it is too long");
  const value = text.endsWith("\n") ? readCanonical(text.slice(0, -1), DEPTH) : null;
  if (!isObject(value)) return refuse("it is not one line of canonical JSON");
  const { format, keys, checkpoint, ...rest } = value;
  if (format !== FORMAT) return refuse(`it is not of the format ${FORMAT}`);
  const claim = readClaim(rest);
  if (claim === null || typeof checkpoint !== "string" || !Array.isArray(keys))
    return refuse("it has not the fields of a proof");
  const certificates = keys.map(readCertificate);
  const whole = certificates.filter((each) => each !== null);
  if (whole.length < certificates.length) return refuse("one of its keys is no certificate");
  return { ok: true, value: { keys: whole, checkpoint, claim } };
}

function readClaim(fields: Readonly<Record<string, Value>>): Claim | null {
  const { record, index, inclusion, from, consistency } = fields;
  const count = Object.keys(fields).length;
  if (count === 3 && typeof record === "string" && isCount(index) && isHashes(inclusion))
    return { kind: "record", record, index, inclusion };
  if (count !== 2 || !isObject(from) || !isHashes(consistency)) return null;
  const { size, root, ...more } = from;
  if (!isCount(size) || !isHashes([root ?? ""]) || Object.keys(more).length > 0) return null;
  return { kind: "older", from: { size, root: String(root) }, consistency };
}

function readCertificate(lines: Value): Certificate | null {
  if (!Array.isArray(lines) || !lines.every((line) => typeof line === "string")) return null;
  const parsed = parseCertificate(lines.map((line) => `${line}\n`).join(""));
  return parsed.ok ? parsed.value : null;
}

/** Checks a proof by the one thing that is known, the genesis key. Not ok: what is wrong first. */
export function checkProof(proof: LogProof, genesis: string): Parsed<Shown> {
  const standing = standingAfter(proof.keys, genesis);
  if (!standing.ok) return standing;
  const checkpoint = checkSigned(proof.checkpoint, standing.value);
  if (!checkpoint.ok) return checkpoint;
  const record = checkClaim(proof.claim, checkpoint.value);
  if (!record.ok) return record;
  const { vkey, segment } = standing.value;
  return { ok: true, value: { checkpoint: checkpoint.value, vkey, segment, record: record.value } };
}

/** The key in force after these segments. */
function standingAfter(keys: readonly Certificate[], genesis: string): Parsed<Standing> {
  let standing = genesisStanding(genesis);
  for (const certificate of keys) {
    if (!standing.ok) return standing;
    const next = checkCertificate(standing.value, certificate);
    standing = next.ok ? next : refuse(`the certificate of segment ${certificate.segment}: ${next.why}`);
  }
  return standing;
}

/** A checkpoint that the key in force signed, of a tree that reaches into its segment. */
export function checkSigned(text: string, { key, tree }: Pick<Standing, "key" | "tree">): Parsed<Checkpoint> {
  const note = parseNote(text);
  const signed = note.ok ? verifyNote(key, note.value) : note;
  const checkpoint = signed.ok ? parseCheckpoint(signed.value) : signed;
  if (!checkpoint.ok) return refuse(`the checkpoint: ${checkpoint.why}`);
  if (checkpoint.value.origin !== key.name) return refuse("the checkpoint is of another log");
  if (checkpoint.value.size <= tree.size)
    return refuse("the checkpoint is older than the key that signed it");
  return checkpoint;
}

/** The record that is shown to be in the tree; null where an older tree is. */
export function checkClaim(claim: Claim, tree: Tree): Parsed<LogRecord | null> {
  if (claim.kind === "older") {
    const good = verifyConsistency(claim.from, tree, claim.consistency);
    return good
      ? { ok: true, value: null }
      : refuse("the consistency proof does not lead from the older tree to the checkpoint");
  }
  const bytes = Buffer.from(claim.record, "utf8");
  const read = readLine(claim.record);
  if (!read.ok || bytes.length > MAX_RECORD_BYTES) return refuse("its record is none");
  if (read.record.seq !== claim.index) return refuse("its record has another number");
  const good = verifyInclusion(leafHash(bytes), claim.index, tree, claim.inclusion);
  return good
    ? { ok: true, value: read.record }
    : refuse("the inclusion proof does not lead from the record to the checkpoint");
}

function isObject(value: Value | null | undefined): value is Data {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isCount(value: Value | undefined): value is number {
  return typeof value === "number" && value >= 0;
}

function isHashes(value: Value | undefined): value is readonly string[] {
  if (!Array.isArray(value) || value.length > MAX_PROOF_HASHES) return false;
  return value.every((each) => typeof each === "string" && /^[0-9a-f]{64}$/.test(each));
}

function refuse(why: string): { readonly ok: false; readonly why: string } {
  return { ok: false, why };
}
