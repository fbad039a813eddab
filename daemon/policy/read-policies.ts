import { createHash } from "node:crypto";
import { renderProblems } from "../core/config-parse.ts";
import { BoundaryError, renderErrorChain } from "../core/errors.ts";
import { at, draftOf, type FileProblem, type RawFile } from "./policy-files.ts";
import { makeSet, type PolicySet, type SetParts } from "./policy-set.ts";
import { disagreement, readJudged } from "./referee.ts";
import { createRegistry, EMPTY_REGISTRY_TEXT, parseRegistry, type RegistryText } from "./registry.ts";
import { type CaseRun, runCases } from "./run-cases.ts";

/** Cedar itself, as far as reading needs it. What it gives is data to be looked at. */
export type Cedar = {
  readonly parse: (schema: string, statements: readonly string[]) => unknown;
  readonly load: (schema: string, policies: Readonly<Record<string, string>>) => void;
  readonly judge: (questions: readonly object[]) => unknown;
};

/** A set that may be taken up, as data; or why there is none, with what came of its cases as far as it went. */
export type ReadPolicies =
  | {
      readonly ok: true;
      readonly parts: SetParts;
      readonly registry: RegistryText;
      readonly runs: readonly CaseRun[];
    }
  | { readonly ok: false; readonly problems: readonly FileProblem[]; readonly runs: readonly CaseRun[] };

export type RegistryFile = { readonly path: string; readonly text: string };

/** More faults than these are no help to anybody. */
const MAX_PROBLEMS = 1_000;
/** Of the text of one. Cedar writes types out, and a thousand faults about a large one are more than anybody takes. */
const MAX_TEXT = 2_000;

/**
 * Reads files that nobody vouches for: looked at as text, read and validated by Cedar, compiled, every case run, and
 * every answer held against Cedar's own. May take long, and may kill Cedar: it belongs into a process of its own.
 */
export function readPolicies(
  files: readonly RawFile[],
  entities: RegistryFile | null,
  cedar: Cedar,
): ReadPolicies {
  const drafted = draftOf(files);
  if ("problems" in drafted) return refused(drafted.problems);
  const { draft } = drafted;
  const statements = draft.statements.map(({ text }) => text);
  const made = makeSet(draft, cedar.parse(draft.schema.text, statements));
  if ("problems" in made) return refused(made.problems);
  const { set, parts } = made;
  const { runs, problems } = runCases(set, draft.cases);
  if (problems.length > 0) return refused(problems, runs);
  const disputed = dispute(cedar, set, runs);
  if (disputed.length > 0) return refused(disputed, runs);
  const known = readRegistry(set, entities);
  return "problems" in known
    ? refused(known.problems, runs)
    : {
        ok: true,
        parts: { ...parts, digest: digestWith(parts.digest, entities) },
        registry: known.registry,
        runs,
      };
}

/** Another registry gives other answers: with one, the digest of a set is over its digest without, and the registry's. */
function digestWith(files: string, entities: RegistryFile | null): string {
  if (entities === null) return files;
  const registry = createHash("sha256").update(entities.text).digest("hex");
  return createHash("sha256")
    .update(JSON.stringify([files, registry]))
    .digest("hex");
}

/** What Cedar has to load to judge a set's answers. */
export function policyTexts(set: PolicySet): Readonly<Record<string, string>> {
  return Object.fromEntries([...set.notes].map(([id, { text }]) => [id, text]));
}

function dispute(cedar: Cedar, set: PolicySet, runs: readonly CaseRun[]): readonly FileProblem[] {
  const asked = runs.flatMap((run) => (run.asked === null ? [] : [{ ...run, asked: run.asked }]));
  try {
    cedar.load(set.schema, policyTexts(set));
    const judged = readJudged(cedar.judge(asked.map((run) => run.asked.question)), asked.length);
    return asked.flatMap(({ file, line, column, index, asked: { ruling } }, place) => {
      const theirs = judged[place];
      const problem = theirs === undefined ? "not judged" : disagreement(ruling, theirs);
      return problem === "" ? [] : [{ file, line, column, at: `cases[${index}]`, problem }];
    });
  } catch (error) {
    if (!(error instanceof BoundaryError)) throw error;
    return [at("", renderErrorChain(error))];
  }
}

function readRegistry(
  set: PolicySet,
  entities: RegistryFile | null,
): { readonly registry: RegistryText } | { readonly problems: readonly FileProblem[] } {
  if (entities === null) return { registry: EMPTY_REGISTRY_TEXT };
  const parsed = parseRegistry(entities.text);
  if (!parsed.ok)
    return {
      problems: renderProblems(entities.path, parsed.problems)
        .split("\n")
        .map((line) => at("", line)),
    };
  const made = createRegistry(set.shapes, parsed.value);
  return "problems" in made
    ? { problems: made.problems.map((problem) => at("", `${entities.path}: ${problem}`)) }
    : { registry: parsed.value };
}

function refused(problems: readonly FileProblem[], runs: readonly CaseRun[] = []): ReadPolicies {
  return { ok: false, problems: problems.slice(0, MAX_PROBLEMS).map(clipped), runs };
}

function clipped(one: FileProblem): FileProblem {
  const { problem } = one;
  return problem.length <= MAX_TEXT ? one : { ...one, problem: `${problem.slice(0, MAX_TEXT)} …` };
}
