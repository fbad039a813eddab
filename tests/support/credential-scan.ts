import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readFileSync, realpathSync } from "node:fs";
import { RULES, type Rule, type Severity, SUSPECT_NAMES } from "./credential-rules.ts";

/**
 * Looks for credentials in what git is about to keep (`--staged`, for the pre-commit hook) or keeps (`--tracked`,
 * for `npm run check`). Contents come from git's own objects by id, never from the work tree and never by a name on
 * a command line. Exit code 0: nothing that blocks; 1: something does; 2: it could not look.
 */
export type Finding = {
  readonly path: string;
  readonly line: number;
  readonly rule: string;
  readonly severity: Severity;
  /** Enough to find it, never the secret. */
  readonly masked: string;
  /** Names this finding in `.githooks/acknowledged`. */
  readonly fingerprint: string;
};

type Blob = { readonly path: string; readonly id: string };

const WINDOW_CHARS = 1 << 20;
/** Longer than the longest match any rule needs to be recognised. */
const OVERLAP_CHARS = 8_192;
const MAX_BLOB_BYTES = 256 << 20;
const CODE = /\.(?:[cm]?[jt]sx?|c|h|rs|go|py)$/;
/** The mode of a submodule: a commit of another repository, with no content here. */
const GITLINK = "160000";
const ACKNOWLEDGED_FILE = ".githooks/acknowledged";

/** Every credential in one file's content. */
export function scanContent(path: string, content: Buffer): readonly Finding[] {
  const binary = content.subarray(0, 8_192).includes(0);
  const text = content.toString(binary ? "latin1" : "utf8");
  const rules = RULES.filter((rule) => !(binary && rule.textOnly) && !(rule.notInCode && CODE.test(path)));
  const found = windows(text).flatMap(({ start, end }) =>
    rules.flatMap((rule) => matchesOf(rule, path, text, start, end)),
  );
  const names = SUSPECT_NAMES.some((name) => name.test(path)) ? [nameFinding(path)] : [];
  return [...names, ...unique(found)];
}

/** Findings that stop a commit: critical and high always, medium unless acknowledged. */
export function blocking(
  findings: readonly Finding[],
  acknowledged: ReadonlySet<string>,
): readonly Finding[] {
  return findings.filter(
    ({ severity, fingerprint }) =>
      severity === "critical" ||
      severity === "high" ||
      (severity === "medium" && !acknowledged.has(fingerprint)),
  );
}

/** Fingerprints from `.githooks/acknowledged` (one a line, then the reason) and BOUNDARY_ACKNOWLEDGE (comma separated). */
export function parseAcknowledged(file: string, variable: string): ReadonlySet<string> {
  const lines = file.split("\n").map((line) => line.trim().split(/\s+/)[0] ?? "");
  return new Set([...lines, ...variable.split(",")].filter((word) => /^[0-9a-f]{12}$/.test(word)));
}

function windows(text: string): readonly { start: number; end: number }[] {
  const count = Math.max(1, Math.ceil(text.length / WINDOW_CHARS));
  return Array.from({ length: count }, (_, index) => ({
    start: index * WINDOW_CHARS,
    end: Math.min(text.length, (index + 1) * WINDOW_CHARS + OVERLAP_CHARS),
  }));
}

function matchesOf(rule: Rule, path: string, text: string, start: number, end: number): readonly Finding[] {
  const found: Finding[] = [];
  for (const hit of text.slice(start, end).matchAll(rule.pattern)) {
    const secret = hit[1] ?? hit[2] ?? hit[0];
    if (isAllowedTestCredential(path, secret) || rule.accept?.(secret) === false) continue;
    const line = text.slice(0, start + hit.index).split("\n").length;
    found.push({
      path,
      line,
      rule: rule.id,
      severity: rule.severity,
      masked: mask(secret),
      fingerprint: fingerprintOf(rule.id, path, secret),
    });
  }
  return found;
}

/** The only credentials that may be kept: B16 names them, each in its place. */
function isAllowedTestCredential(path: string, secret: string): boolean {
  if (
    path.startsWith("tests/") &&
    (/^test_token_[A-Za-z0-9_-]*$/.test(secret) || secret === "example_password")
  ) {
    return true;
  }
  return (path.startsWith("docs/") || path.endsWith(".md")) && /^AKIA[A-Z0-9]{9}EXAMPLE$/.test(secret);
}

function nameFinding(path: string): Finding {
  const rule = "suspect-file-name";
  return { path, line: 1, rule, severity: "medium", masked: "", fingerprint: fingerprintOf(rule, path, "") };
}

function mask(secret: string): string {
  return `${secret.slice(0, 4)}… (${secret.length} characters)`;
}

function fingerprintOf(rule: string, path: string, secret: string): string {
  return createHash("sha256")
    .update(JSON.stringify([rule, path, secret]))
    .digest("hex")
    .slice(0, 12);
}

function unique(findings: readonly Finding[]): readonly Finding[] {
  return [...new Map(findings.map((one) => [`${one.line} ${one.fingerprint}`, one])).values()];
}

/** What is added or changed in the index, deletions left out. Symlinks count: their target is their content. */
function stagedBlobs(): readonly Blob[] {
  const fields = git(["diff", "--cached", "--raw", "-z", "--no-renames", "--no-abbrev", "--diff-filter=ACMT"])
    .toString("utf8")
    .split("\0");
  const blobs: Blob[] = [];
  for (let at = 0; at + 1 < fields.length; at += 2) {
    const [, mode, , id] = (fields[at] ?? "").split(" ");
    const path = fields[at + 1];
    if (mode !== undefined && mode !== GITLINK && id !== undefined && path !== undefined)
      blobs.push({ path, id });
  }
  return blobs;
}

/** Everything in the index. */
function trackedBlobs(): readonly Blob[] {
  const lines = git(["ls-files", "--stage", "-z"]).toString("utf8").split("\0");
  return lines.flatMap((line) => {
    const parts = /^(\d+) ([0-9a-f]+) \d\t(.+)$/s.exec(line);
    const [, mode, id, path] = parts ?? [];
    return mode === undefined || mode === GITLINK || id === undefined || path === undefined
      ? []
      : [{ path, id }];
  });
}

function contentsOf(blobs: readonly Blob[]): readonly Buffer[] {
  if (blobs.length === 0) return [];
  const out = git(["cat-file", "--batch"], blobs.map((blob) => `${blob.id}\n`).join(""));
  const contents: Buffer[] = [];
  let at = 0;
  for (const blob of blobs) {
    const headerEnd = out.indexOf(10, at);
    const header = out.toString("utf8", at, headerEnd);
    const size = /^[0-9a-f]+ blob (\d+)$/.exec(header)?.[1];
    if (size === undefined) throw new Error(`git cat-file of ${blob.path}: ${header}`);
    contents.push(out.subarray(headerEnd + 1, headerEnd + 1 + Number(size)));
    at = headerEnd + 1 + Number(size) + 1;
  }
  return contents;
}

function git(args: readonly string[], input = ""): Buffer {
  return execFileSync("git", args, { input, maxBuffer: MAX_BLOB_BYTES, timeout: 60_000 });
}

function main(which: string | undefined): number {
  if (which !== "--staged" && which !== "--tracked") {
    console.error("usage: credential-scan.ts --staged | --tracked");
    return 2;
  }
  const root = git(["rev-parse", "--show-toplevel"]).toString("utf8").trimEnd();
  process.chdir(root);
  const blobs = which === "--staged" ? stagedBlobs() : trackedBlobs();
  const contents = contentsOf(blobs);
  const findings = blobs.flatMap((blob, index) => scanContent(blob.path, contents[index] ?? Buffer.alloc(0)));
  const file = existsSync(ACKNOWLEDGED_FILE) ? readFileSync(ACKNOWLEDGED_FILE, "utf8") : "";
  const blocked = blocking(findings, parseAcknowledged(file, process.env["BOUNDARY_ACKNOWLEDGE"] ?? ""));
  report(findings, blocked);
  console.log(`credential scan: ${blobs.length} files, ${findings.length} findings, ${blocked.length} block`);
  return blocked.length === 0 ? 0 : 1;
}

function report(findings: readonly Finding[], blocked: readonly Finding[]): void {
  for (const one of findings) {
    const verdict = blocked.includes(one)
      ? "BLOCKED"
      : one.severity === "medium"
        ? "acknowledged"
        : "warning";
    console.error(`${verdict}: ${one.path}:${one.line}: ${one.rule} (${one.severity}) ${one.masked}`);
    if (verdict === "BLOCKED" && one.severity === "medium") {
      console.error(`  no credential? add "${one.fingerprint} why" to ${ACKNOWLEDGED_FILE},`);
      console.error(`  or commit once with BOUNDARY_ACKNOWLEDGE=${one.fingerprint}`);
    }
  }
}

if (process.argv[1] !== undefined && realpathSync(process.argv[1]) === import.meta.filename) {
  try {
    process.exitCode = main(process.argv[2]);
  } catch (error) {
    console.error(`credential scan: could not look: ${String(error)}`);
    process.exitCode = 2;
  }
}
