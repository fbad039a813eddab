import { createHash } from "node:crypto";
import { MAX_CONFIG_BYTES, type Problem } from "../core/config-parse.ts";
import { decodeUtf8 } from "../core/json.ts";
import { type CaseFile, parseCases } from "./policy-cases.ts";
import { nestingFault, outline, positionOf } from "./policy-text.ts";

/** A file of a policy directory as it was read. `name` is that in the directory. */
export type RawFile = { readonly name: string; readonly bytes: Uint8Array };

/** A fault, and the file that it is in; line and column count from 1. */
export type FileProblem = Problem & { readonly file: string };

/** One policy's text, and where it stands. */
export type Statement = {
  readonly file: string;
  readonly text: string;
  /** Of its first character that is no blank or comment. */
  readonly line: number;
  readonly column: number;
  /** Offset in the file, UTF-16 code units. */
  readonly offset: number;
};

/** A directory's policies as text, before Cedar has seen them. */
export type Draft = {
  readonly schema: { readonly file: string; readonly text: string };
  readonly statements: readonly Statement[];
  readonly cases: readonly (CaseFile & { readonly file: string; readonly text: string })[];
  /** By name. */
  readonly texts: ReadonlyMap<string, string>;
  /** SHA-256 over the files in the order of their names, hex. */
  readonly digest: string;
};

export const SCHEMA_FILE = "schema.cedarschema";
export const MAX_POLICY_BYTES = MAX_CONFIG_BYTES;
export const MAX_FILES = 256;
const MAX_POLICIES = 4_096;
const POLICY_FILE = /^[A-Za-z0-9][A-Za-z0-9_-]{0,63}\.cedar$/;
const CASES_SUFFIX = ".cases.yaml";

/** Which of a directory's files make the set: the schema, *.cedar, and the cases of each. Others are not looked at. */
export function isPolicyFile(name: string, among: readonly string[]): boolean {
  if (name === SCHEMA_FILE || name.endsWith(".cedar")) return true;
  return name.endsWith(CASES_SUFFIX) && among.includes(`${name.slice(0, -CASES_SUFFIX.length)}.cedar`);
}

/** What every file has to be before Cedar reads it: small, UTF-8, nested no deeper than it survives, with its cases. */
export function draftOf(
  files: readonly RawFile[],
): { readonly draft: Draft } | { readonly problems: readonly FileProblem[] } {
  const problems: FileProblem[] = [];
  const texts = new Map<string, string>();
  const total = files.reduce((sum, { bytes }) => sum + bytes.byteLength, 0);
  if (files.length > MAX_FILES) return refuse("", `more than ${MAX_FILES} files`);
  if (total > MAX_POLICY_BYTES) return refuse("", `more than ${MAX_POLICY_BYTES} bytes in all`);
  for (const { name, bytes } of files.toSorted((a, b) => (a.name < b.name ? -1 : 1))) {
    const text = decodeUtf8(bytes);
    if (texts.has(name)) problems.push(at(name, "is there twice"));
    else if (text.ok) texts.set(name, text.value);
    else problems.push(at(name, "is not UTF-8"));
  }
  const schemaText = texts.get(SCHEMA_FILE);
  if (schemaText === undefined && problems.length === 0) problems.push(at(SCHEMA_FILE, "is missing"));
  const fault = schemaText === undefined ? null : nestingFault(schemaText);
  if (fault) problems.push({ ...at(SCHEMA_FILE, fault.problem), ...positionOf(schemaText ?? "", fault.at) });

  const statements: Statement[] = [];
  const cases: Draft["cases"][number][] = [];
  for (const [name, text] of texts) {
    if (!name.endsWith(".cedar")) continue;
    if (!POLICY_FILE.test(name))
      problems.push(at(name, "a policy file is named with letters, digits, - and _"));
    const seen = statementsOf(name, text);
    if ("problem" in seen) problems.push(seen.problem);
    else statements.push(...seen.statements);
    const casesFile = `${name.slice(0, -".cedar".length)}${CASES_SUFFIX}`;
    const casesText = texts.get(casesFile);
    if (casesText === undefined) {
      problems.push(at(name, `has no cases beside it: ${casesFile}`));
      continue;
    }
    const parsed = parseCases(casesText);
    if (parsed.ok) cases.push({ ...parsed.value, file: casesFile, text: casesText });
    else problems.push(...parsed.problems.map((problem) => ({ ...problem, file: casesFile })));
  }
  if (statements.length > MAX_POLICIES) problems.push(at("", `more than ${MAX_POLICIES} policies`));
  if (problems.length > 0 || schemaText === undefined) return { problems };
  const schema = { file: SCHEMA_FILE, text: schemaText };
  return { draft: { schema, statements, cases, texts, digest: digestOf(texts) } };
}

function statementsOf(
  file: string,
  text: string,
): { readonly statements: readonly Statement[] } | { readonly problem: FileProblem } {
  const { statements, fault } = outline(text);
  if (fault) return { problem: { ...at(file, fault.problem), ...positionOf(text, fault.at) } };
  return {
    statements: statements.map((one) => ({
      file,
      text: text.slice(one.at, one.end),
      offset: one.at,
      line: one.line,
      column: one.column,
    })),
  };
}

function digestOf(texts: ReadonlyMap<string, string>): string {
  const hashes = [...texts].map(([name, text]) => [name, sha256(text)]);
  return sha256(JSON.stringify(hashes));
}

function sha256(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}

function refuse(file: string, problem: string): { readonly problems: readonly FileProblem[] } {
  return { problems: [at(file, problem)] };
}

/** A problem of a whole file. */
export function at(file: string, problem: string): FileProblem {
  return { file, line: 1, column: 1, at: "", problem };
}

/** "file:line:column: at: problem". */
export function renderFileProblem({ file, line, column, at: where, problem }: FileProblem): string {
  return `${file === "" ? "" : `${file}:${line}:${column}: `}${where === "" ? "" : `${where}: `}${problem}`;
}
