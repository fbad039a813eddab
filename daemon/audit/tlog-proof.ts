import { isUtf8 } from "node:buffer";
import { type Parsed, parseVkey, readBase64 } from "./checkpoint.ts";
import { emptyFrontier } from "./merkle.ts";
import { MAX_PROOF_HASHES } from "./merkle-proof.ts";
import { type Claim, checkClaim, checkSigned, type Shown } from "./proof.ts";
import { MAX_RECORD_BYTES } from "./record.ts";

/**
 * C2SP tlog-proof: an inclusion proof as text, for foreign verifiers. Its extra data is the record's line: opaque to
 * others, and what makes the proof whole for us. It has no place for our keys' certificates, so it is checked with the
 * key that signed the checkpoint.
 */
export type TlogProof = {
  readonly checkpoint: string;
  readonly claim: Extract<Claim, { readonly kind: "record" }>;
};

export const TLOG_PROOF_HEADER = "c2sp.org/tlog-proof@v1\n";
const MAX_CHARS = 2 * MAX_RECORD_BYTES;

/** The proof's text. */
export function renderTlogProof({ checkpoint, claim }: TlogProof): string {
  const extra = Buffer.from(claim.record, "utf8").toString("base64");
  const hashes = claim.inclusion.map((hash) => `${Buffer.from(hash, "hex").toString("base64")}\n`).join("");
  return `${TLOG_PROOF_HEADER}extra ${extra}\nindex ${claim.index}\n${hashes}\n${checkpoint}`;
}

/** Reads the text; a proof without our extra data is refused, since it would not say of what. Form only. */
export function parseTlogProof(text: string): Parsed<TlogProof> {
  if (!text.startsWith(TLOG_PROOF_HEADER) || text.length > MAX_CHARS) return refuse("it is no tlog-proof");
  const split = text.indexOf("\n\n");
  if (split === -1) return refuse("it has no checkpoint");
  const [extra = "", index = "", ...hashes] = text.slice(TLOG_PROOF_HEADER.length, split).split("\n");
  const record = readText(/^extra (.+)$/.exec(extra)?.[1] ?? "");
  if (record === null) return refuse("it has no record in its extra line");
  const number = /^index (0|[1-9][0-9]{0,15})$/.exec(index)?.[1];
  if (number === undefined || !Number.isSafeInteger(Number(number))) return refuse("it has no index line");
  const inclusion = hashes.map(readHash).filter((hash) => hash !== null);
  if (inclusion.length < hashes.length || hashes.length > MAX_PROOF_HASHES)
    return refuse("one of its hashes is none");
  const claim = { kind: "record", record, index: Number(number), inclusion } as const;
  return { ok: true, value: { checkpoint: text.slice(split + 2), claim } };
}

/** Checks it with the key that signed the checkpoint. Not ok: what is wrong first. */
export function checkTlogProof(
  { checkpoint, claim }: TlogProof,
  vkey: string,
): Parsed<Omit<Shown, "segment">> {
  const key = parseVkey(vkey);
  if (!key.ok) return key;
  const signed = checkSigned(checkpoint, { key: key.value, tree: emptyFrontier() });
  if (!signed.ok) return signed;
  const record = checkClaim(claim, signed.value);
  return record.ok ? { ok: true, value: { checkpoint: signed.value, vkey, record: record.value } } : record;
}

function readText(base64: string): string | null {
  const bytes = readBase64(base64);
  return bytes && isUtf8(bytes) ? bytes.toString("utf8") : null;
}

function readHash(text: string): string | null {
  const bytes = readBase64(text);
  return bytes?.length === 32 ? bytes.toString("hex") : null;
}

function refuse(why: string): { readonly ok: false; readonly why: string } {
  return { ok: false, why };
}
