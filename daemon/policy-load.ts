import { BoundaryError, renderErrorChain } from "./core/errors.ts";
import { at, type FileProblem, type RawFile } from "./policy/policy-files.ts";
import { buildSet, type PolicySet, readParts } from "./policy/policy-set.ts";
import type { ReadPolicies, RegistryFile } from "./policy/read-policies.ts";
import { createRegistry, type Registry, RegistrySchema } from "./policy/registry.ts";
import type { CaseRun } from "./policy/run-cases.ts";
import type { CedarThread } from "./ports.ts";

/** A set that may be asked, with the registry; or why there is none. Never half of one. */
export type Loaded =
  | {
      readonly ok: true;
      readonly set: PolicySet;
      readonly registry: Registry;
      readonly runs: readonly CaseRun[];
    }
  | {
      readonly ok: false;
      readonly problems: readonly FileProblem[];
      /** What came of the cases, where it went as far as them. */
      readonly runs: readonly CaseRun[];
    };

/**
 * Makes a set of files that nobody vouches for. All of the reading (text, YAML, Cedar, cases) is done in a thread that
 * ends with it: however long the files make it take, nothing waits; here the result is only compiled. Never rejects.
 */
export async function loadPolicies(
  files: readonly RawFile[],
  entities: RegistryFile | null,
  open: () => CedarThread,
): Promise<Loaded> {
  const thread = open();
  try {
    const read = JSON.parse(await thread.ask({ kind: "read", files, entities })) as ReadPolicies;
    return read.ok ? takeUp(read) : read;
  } catch (error) {
    return { ok: false, problems: [at("", renderErrorChain(error))], runs: [] };
  } finally {
    thread.end();
  }
}

function takeUp({ parts, registry, runs }: Extract<ReadPolicies, { ok: true }>): Loaded {
  const known = readParts(parts);
  const text = RegistrySchema.safeParse(registry);
  if (known === null || !text.success)
    throw new BoundaryError("policy-invalid", "what Cedar's thread made of the policies is no set");
  const built = buildSet(known);
  const made = "set" in built ? createRegistry(built.set.shapes, text.data) : built;
  if ("set" in built && "registry" in made)
    return { ok: true, set: built.set, registry: made.registry, runs };
  const problems = "problems" in made ? made.problems : [];
  return { ok: false, problems: problems.map((problem) => at("", problem)), runs };
}
