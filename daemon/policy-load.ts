import { BoundaryError, renderErrorChain } from "./core/errors.ts";
import { parseStrictJson } from "./core/json.ts";
import { at, type Draft, draftOf, type FileProblem, type RawFile } from "./policy/policy-files.ts";
import { makeSet, type PolicySet } from "./policy/policy-set.ts";
import { disagreement, readJudged } from "./policy/referee.ts";
import { type CaseRun, runCases } from "./policy/run-cases.ts";
import type { CedarThread } from "./ports.ts";

/** A set that may be asked, or why there is none; never half of one. */
export type Loaded =
  | {
      readonly ok: true;
      readonly set: PolicySet;
      readonly runs: readonly CaseRun[];
      readonly cases: Draft["cases"];
    }
  | {
      readonly ok: false;
      readonly problems: readonly FileProblem[];
      /** What came of the cases, where it went as far as them. */
      readonly runs: readonly CaseRun[];
    };

/** As deep as a policy's JSON form can be: two levels an operator, and some for what is around them. */
const MAX_JSON_DEPTH = 2_000;
/** Cases that are judged at once: one deadline is for so many. */
const BATCH = 500;

/**
 * Makes a set of files that nobody vouches for: looked at as text, read and validated by Cedar in a thread that ends
 * with this, compiled, every case run, and every answer held against Cedar's own. Never rejects.
 */
export async function loadPolicies(files: readonly RawFile[], open: () => CedarThread): Promise<Loaded> {
  const drafted = draftOf(files);
  if ("problems" in drafted) return refused(drafted.problems);
  const { draft } = drafted;
  const thread = open();
  try {
    const statements = draft.statements.map(({ text }) => text);
    const made = makeSet(
      draft,
      json(await thread.ask({ kind: "parse", schema: draft.schema.text, statements })),
    );
    if ("problems" in made) return refused(made.problems);
    const { set } = made;
    const { runs, problems } = runCases(set, draft.cases);
    if (problems.length > 0) return refused(problems, runs);
    await thread.ask({ kind: "load", schema: set.schema, policies: policyTexts(set) });
    const disputed = await dispute(thread, runs);
    return disputed.length > 0 ? refused(disputed, runs) : { ok: true, set, runs, cases: draft.cases };
  } catch (error) {
    return refused([at("", renderErrorChain(error))]);
  } finally {
    thread.end();
  }
}

function refused(problems: readonly FileProblem[], runs: readonly CaseRun[] = []): Loaded {
  return { ok: false, problems, runs };
}

/** What a thread has to load to referee a set. */
export function policyTexts(set: PolicySet): Readonly<Record<string, string>> {
  return Object.fromEntries([...set.notes].map(([id, { text }]) => [id, text]));
}

async function dispute(thread: CedarThread, runs: readonly CaseRun[]): Promise<readonly FileProblem[]> {
  const asked = runs.flatMap((run) => (run.asked === null ? [] : [{ ...run, asked: run.asked }]));
  const found: FileProblem[] = [];
  for (let from = 0; from < asked.length; from += BATCH) {
    const batch = asked.slice(from, from + BATCH);
    const questions = JSON.stringify(batch.map((run) => run.asked.question));
    const judged = readJudged(await thread.ask({ kind: "judge", questions }), batch.length);
    for (const [index, run] of batch.entries()) {
      const theirs = judged[index];
      const problem = theirs === undefined ? "not judged" : disagreement(run.asked.ruling, theirs);
      if (problem !== "") found.push({ ...placeOf(run), problem });
    }
  }
  return found;
}

function placeOf({ file, line, column, index }: CaseRun): Omit<FileProblem, "problem"> {
  return { file, line, column, at: `cases[${index}]` };
}

function json(text: string): unknown {
  const read = parseStrictJson(text, { maxDepth: MAX_JSON_DEPTH });
  if (!read.ok) throw new BoundaryError("policy-invalid", `what Cedar made of the policies is ${read.code}`);
  return read.value;
}
