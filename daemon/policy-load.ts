import { hash } from "node:crypto";
import { BoundaryError, renderErrorChain } from "./core/errors.ts";
import { parseExact, writable } from "./policy/cedar-exact.ts";
import { at, type FileProblem, type RawFile } from "./policy/policy-files.ts";
import { buildSet, type PolicySet, readParts } from "./policy/policy-set.ts";
import type { ReadPolicies, RegistryFile } from "./policy/read-policies.ts";
import { createRegistry, type Registry, RegistrySchema } from "./policy/registry.ts";
import type { CaseRun } from "./policy/run-cases.ts";
import type { CedarOrder, CedarProcess } from "./ports.ts";

const MAX_TRIES = 4;

/** A set that may be asked, with the registry; or why there is none. Never half of one. */
export type Loaded =
  | {
      readonly ok: true;
      readonly set: PolicySet;
      readonly registry: Registry;
      readonly runs: readonly CaseRun[];
      /** The same as text, for the next start (`takeUpKept`). */
      readonly kept: string;
    }
  | {
      readonly ok: false;
      readonly problems: readonly FileProblem[];
      /** What came of the cases, where it went as far as them. */
      readonly runs: readonly CaseRun[];
    };

/**
 * Makes a set of files that nobody vouches for. All of the reading (text, YAML, Cedar, cases) is done in a process that
 * ends with it: however long the files make it take, nothing waits; here the result is only compiled. Never rejects.
 */
export async function loadPolicies(
  files: readonly RawFile[],
  entities: RegistryFile | null,
  open: () => CedarProcess,
): Promise<Loaded> {
  try {
    const read = parseExact(await readInProcess({ kind: "read", files, entities }, open)) as ReadPolicies;
    return read.ok ? takeUp(read, sourceOf(files, entities)) : read;
  } catch (error) {
    return { ok: false, problems: [at("", renderErrorChain(error))], runs: [] };
  }
}

/** In a process of its own; in another one where a signal ended that, which is no fault of the files. */
async function readInProcess(order: CedarOrder, open: () => CedarProcess): Promise<string> {
  for (let tries = 1; ; tries++) {
    const cedar = open();
    try {
      return await cedar.ask(order);
    } catch (error) {
      const crashed = error instanceof BoundaryError && error.code === "policy-crashed";
      if (!crashed || tries === MAX_TRIES) throw error;
    } finally {
      cedar.end();
    }
  }
}

/**
 * The set of an earlier load, out of what it was kept as: without Cedar, and without its cases, which it has stood. The
 * text has to be vouched for, by the log, and to be of this version. null where it was made of other files, or is no set.
 */
export function takeUpKept(
  text: string,
  files: readonly RawFile[],
  entities: RegistryFile | null,
): Extract<Loaded, { ok: true }> | null {
  const source = sourceOf(files, entities);
  try {
    const read: unknown = parseExact(text);
    if (!isKept(read) || read.source !== source) return null;
    const { parts, registry } = read;
    const taken = takeUp({ parts, registry, runs: [] }, source);
    return taken.ok ? { ...taken, kept: text } : null;
  } catch {
    // whatever it is, the files are there to be read
    return null;
  }
}

type Kept = { readonly source: unknown; readonly parts: unknown; readonly registry: unknown };

function isKept(value: unknown): value is Kept {
  return (
    typeof value === "object" &&
    value !== null &&
    "source" in value &&
    "parts" in value &&
    "registry" in value
  );
}

/** SHA-256, hex, of all that a set is made of. */
function sourceOf(files: readonly RawFile[], entities: RegistryFile | null): string {
  const named = files.map(({ name, bytes }) => `${name} ${hash("sha256", bytes)}`).toSorted();
  return hash("sha256", JSON.stringify([named, entities]));
}

function takeUp(
  {
    parts,
    registry,
    runs,
  }: { readonly parts: unknown; readonly registry: unknown; readonly runs: readonly CaseRun[] },
  source: string,
): Loaded {
  const known = readParts(parts);
  const text = RegistrySchema.safeParse(registry);
  if (known === null || !text.success)
    throw new BoundaryError("policy-invalid", "what Cedar's process made of the policies is no set");
  const built = buildSet(known);
  const made = "set" in built ? createRegistry(built.set.shapes, text.data) : built;
  if ("set" in built && "registry" in made) {
    const kept = JSON.stringify(writable({ source, parts, registry }));
    return { ok: true, set: built.set, registry: made.registry, runs, kept };
  }
  const problems = "problems" in made ? made.problems : [];
  return { ok: false, problems: problems.map((problem) => at("", problem)), runs };
}
