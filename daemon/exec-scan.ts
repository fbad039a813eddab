import { redactText } from "./core/redact.ts";
import type { Known } from "./exec/output-redactor.ts";
import { type Find, OVERLAP, scanText } from "./exec/secret-scan.ts";
import { findSecrets } from "./exec/secrets.ts";
import type { ExecHost } from "./ports.ts";

/** What a command would be given. */
export type Given = {
  readonly argv: readonly string[];
  readonly environment: readonly (readonly [name: string, value: string])[];
  readonly stdin: Buffer;
  /** Files that its words name, absolute; those of its workspace, or of where its profile lets it read. */
  readonly files: readonly string[];
  /** Directories that they have to be in, behind all links: elsewhere the sandbox has nothing but the system's own. */
  readonly places: readonly string[];
  /** What the vault has open: none of it is a word, or in the environment, where others could see it. */
  readonly known: Pick<Known, "locate">;
};

/** unscanned: it could not be looked at in full, which is no better. */
export type Scanned =
  | { readonly verdict: "clean" }
  | { readonly verdict: "found"; readonly finds: readonly Find[] }
  | { readonly verdict: "unscanned"; readonly why: string };

/** A file that is larger is not looked at. All of them may have so much together. */
export const MAX_FILE_BYTES = 262_144;
const MAX_ALL_BYTES = 2_097_152;
const MAX_FILES = 64;
/** CPU and files, for one command. A host under load is slow, and then it is a no. */
const BUDGET_MS = 2_000;
/** So long nobody else is kept waiting. */
const TURN_MS = 5;
/** Of a value of the environment, in one turn. */
const VALUE_PIECE = 8_192;

/** Looks for secrets in everything that a command would be given, before anything is started (X3). */
export async function scanGiven(
  given: Given,
  { read }: Pick<ExecHost, "read">,
  nowMs: () => number,
): Promise<Scanned> {
  const untilMs = nowMs() + BUDGET_MS;
  // of what only may be one, a person can tell: the profile's judge asks him
  const inWords = findSecrets(given.argv)
    .filter(({ sure }) => sure)
    .map(({ kind, place }) => ({ rule: kind, place: `argv, ${place}` }));
  if (inWords.length > 0) return { verdict: "found", finds: inWords };
  const inSight = given.argv.map((word, index): readonly [string, string] => [
    word,
    `argv, word ${index + 1}`,
  ]);
  for (const [name, value] of given.environment) inSight.push([value, `environment, ${name}`]);
  for (const [text, place] of inSight) {
    const located = given.known.locate(Buffer.from(text));
    if (located === null) return unscanned(`${place} looks too much like what is sealed`);
    if (located.length > 0) return { verdict: "found", finds: [{ rule: "known", place }] };
  }
  for (const [name, value] of given.environment) {
    const inValue = await scanValue(name, value);
    if (inValue.verdict !== "clean") return inValue;
  }
  const inStdin = await scanBytes(given.stdin, "stdin");
  if (inStdin.verdict !== "clean") return inStdin;
  if (given.files.length > MAX_FILES) return unscanned(`it names more than ${MAX_FILES} files`);
  let left = MAX_ALL_BYTES;
  for (const path of given.files) {
    if (nowMs() > untilMs) return unscanned("it took too long");
    const file = await read(path, { mostBytes: MAX_FILE_BYTES, places: given.places });
    const place = `the file ${redactText(path)}`;
    if (file.kind === "unreadable") return unscanned(`${place} cannot be read by the daemon`);
    if (file.kind !== "bytes") continue;
    left -= file.bytes.length;
    if (left < 0) return unscanned("the files it names are too large together");
    const inFile = await scanBytes(file.bytes, place);
    if (inFile.verdict !== "clean") return inFile;
  }
  return { verdict: "clean" };

  /** With its name before each piece of it: a name may say what it is. */
  async function scanValue(name: string, value: string): Promise<Scanned> {
    for (let from = 0; ; from += VALUE_PIECE - OVERLAP) {
      const found = findSecrets([`${name}=${value.slice(from, from + VALUE_PIECE)}`]);
      if (found.length > 0)
        return {
          verdict: "found",
          finds: found.map(({ kind }) => ({ rule: kind, place: `environment, ${name}` })),
        };
      if (nowMs() > untilMs) return unscanned("it took too long");
      if (from + VALUE_PIECE >= value.length) return { verdict: "clean" };
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  async function scanBytes(bytes: Buffer, place: string): Promise<Scanned> {
    const steps = scanText(textOf(bytes), place);
    let turnMs = nowMs();
    for (let step = steps.next(); ; step = steps.next()) {
      if (step.done)
        return step.value.length === 0 ? { verdict: "clean" } : { verdict: "found", finds: step.value };
      if (nowMs() > untilMs) return unscanned("it took too long");
      if (nowMs() - turnMs < TURN_MS) continue;
      await new Promise((resolve) => setImmediate(resolve));
      turnMs = nowMs();
    }
  }
}

/** What is no UTF-8 is looked at byte by byte. */
function textOf(bytes: Buffer): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return bytes.toString("latin1");
  }
}

function unscanned(why: string): Scanned {
  return { verdict: "unscanned", why };
}
