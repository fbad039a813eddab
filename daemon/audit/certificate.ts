import { renderCanonical } from "./canonical.ts";
import { readCanonical } from "./canonical-read.ts";
import { type Parsed, parseVkey, type VerifierKey, verifyNote } from "./checkpoint.ts";
import { readLine } from "./line.ts";
import { append, copyFrontier, emptyFrontier, type Frontier, isFrontier, leafHash, root } from "./merkle.ts";
import { type LogRecord, MAX_RECORD_BYTES, type Value } from "./record.ts";
import { checkSeal } from "./seal.ts";

/**
 * What is left of a segment when all of it but its last word is taken away: the tree it made, and its key's signature
 * on the next key. docs/LOG_FORMAT.md, "Pruning", is the form; a tombstone is one, and a proof carries one for every
 * segment before its checkpoint's.
 */
export type Certificate = {
  readonly segment: number;
  /** `seq` of the segment's first record. */
  readonly first: number;
  /** All lines before the `log.rotated`. */
  readonly tree: Frontier;
  /** The two lines as they stood in the log, without "\n". */
  readonly rotated: string;
  readonly seal: string;
};

/** What holds where a segment begins: its key, its number, and the tree of all lines before it. */
export type Standing = {
  readonly vkey: string;
  readonly key: VerifierKey;
  readonly segment: number;
  readonly tree: Frontier;
};

/** More than three lines can have: two records, and 53 hashes. */
export const MAX_CERTIFICATE_CHARS = 2 * MAX_RECORD_BYTES + 8_192;

/** Where a log begins: all that a verifier knows. */
export function genesisStanding(vkey: string): Parsed<Standing> {
  const key = parseVkey(vkey);
  return key.ok ? { ok: true, value: { vkey, key: key.value, segment: 0, tree: emptyFrontier() } } : key;
}

/** The three lines, each with "\n". */
export function renderCertificate({ segment, first, tree, rotated, seal }: Certificate): string {
  const head = renderCanonical({ first, frontier: tree.subtrees, segment, size: tree.size, v: 1 });
  return `${head}\n${rotated}\n${seal}\n`;
}

/** Reads the three lines. Form only: nothing is vouched for before checkCertificate. */
export function parseCertificate(text: string): Parsed<Certificate> {
  if (text.length > MAX_CERTIFICATE_CHARS) return refuse("it is too long");
  const [head = "", rotated = "", seal = "", rest, ...more] = text.split("\n");
  if (rest !== "" || more.length > 0) return refuse("it has not exactly three lines");
  const parsed = parseHead(head);
  return parsed === null
    ? refuse("its first line is not the tree before a log.rotated")
    : { ok: true, value: { ...parsed, rotated, seal } };
}

function parseHead(line: string): Pick<Certificate, "segment" | "first" | "tree"> | null {
  const value = readCanonical(line, 2);
  if (value === null || typeof value !== "object" || Array.isArray(value)) return null;
  const { first, frontier, segment, size, v, ...more } = value as Readonly<Record<string, Value>>;
  if (v !== 1 || Object.keys(more).length > 0 || !isCount(first) || !isCount(segment) || !isCount(size))
    return null;
  if (!Array.isArray(frontier) || !frontier.every((each) => typeof each === "string")) return null;
  const tree = { size, subtrees: [...frontier] };
  return isFrontier(tree) ? { segment, first, tree } : null;
}

/** What holds after the certified segment, when it is the one that goes on from `before` and its key signed this. */
export function checkCertificate(before: Standing, certificate: Certificate): Parsed<Standing> {
  const { segment, first, tree } = certificate;
  if (segment !== before.segment) return refuse(`it is segment ${segment}'s, not ${before.segment}'s`);
  if (first !== before.tree.size || tree.size <= first)
    return refuse("it does not go on from the segment before");
  const rotated = recordAt(certificate.rotated, "log.rotated", tree.size);
  const seal = recordAt(certificate.seal, "seal", tree.size + 1);
  if (rotated === null || seal === null) return refuse("its lines are no log.rotated and its seal");
  const next = nextKey(rotated, before);
  if (next === null) return refuse(`it names no key that could be segment ${segment + 1}'s`);
  const why = sealFault(certificate, rotated, seal, before.key);
  return why === null ? { ok: true, value: { ...next, tree: treeAfter(certificate) } } : refuse(why);
}

function recordAt(line: string, kind: string, seq: number): LogRecord | null {
  if (Buffer.byteLength(line, "utf8") > MAX_RECORD_BYTES) return null;
  const read = readLine(line);
  return read.ok && read.record.kind === kind && read.record.seq === seq ? read.record : null;
}

function nextKey(rotated: LogRecord, before: Standing): Omit<Standing, "tree"> | null {
  const { key, segment, ...more } = rotated.data;
  if (typeof key !== "string" || segment !== before.segment + 1 || Object.keys(more).length > 0) return null;
  const parsed = parseVkey(key);
  if (!parsed.ok || parsed.value.name !== before.key.name) return null;
  return { vkey: key, key: parsed.value, segment };
}

function sealFault(
  certificate: Certificate,
  rotated: LogRecord,
  seal: LogRecord,
  key: VerifierKey,
): string | null {
  const leaf = leafOf(certificate.rotated);
  if (seal.prev !== leaf) return "its seal is not chained to its log.rotated";
  const sealed = copyFrontier(certificate.tree);
  append(sealed, leaf);
  const form = checkSeal(seal, rotated, root(sealed), key);
  if (!form.ok) return form.what;
  const signed = verifyNote(key, form.note);
  return signed.ok ? null : signed.why;
}

/** The tree of all lines of the segment, its last seal included. */
export function treeAfter({ tree, rotated, seal }: Certificate): Frontier {
  const after = copyFrontier(tree);
  append(after, leafOf(rotated));
  append(after, leafOf(seal));
  return after;
}

function leafOf(line: string): string {
  return leafHash(Buffer.from(line, "utf8"));
}

function isCount(value: Value | undefined): value is number {
  return typeof value === "number" && value >= 0;
}

function refuse(why: string): { readonly ok: false; readonly why: string } {
  return { ok: false, why };
}
