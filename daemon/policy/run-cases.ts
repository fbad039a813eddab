import { createYamlPlaces } from "../core/config-parse.ts";
import { answerRequest, type PolicyAnswer } from "./answer.ts";
import type { CedarQuestion, Ruling } from "./cedar-question.ts";
import { type Case, questionOf } from "./policy-cases.ts";
import type { Draft, FileProblem } from "./policy-files.ts";
import type { PolicySet } from "./policy-set.ts";
import { createRegistry } from "./registry.ts";

/** A case that was run: what it came to, and what it has to come to by Cedar's own word too. */
export type CaseRun = {
  readonly file: string;
  readonly line: number;
  readonly column: number;
  /** Its place in the file, from 0. */
  readonly index: number;
  readonly wanted: Case;
  readonly answer: PolicyAnswer;
  readonly asked: { readonly question: CedarQuestion; readonly ruling: Ruling } | null;
  /** Why it is not as it has to be; "" when it is. */
  readonly fault: string;
};

/** Runs every case of a draft against a set: its own, or another one. */
export function runCases(
  set: PolicySet,
  cases: Draft["cases"],
): { readonly runs: readonly CaseRun[]; readonly problems: readonly FileProblem[] } {
  const runs: CaseRun[] = [];
  const problems: FileProblem[] = [];
  for (const { file, text, registry, cases: list } of cases) {
    const placeOf = createYamlPlaces(text);
    const made = createRegistry(set.shapes, registry);
    if ("problems" in made) {
      const place = placeOf(["registry"]);
      problems.push(...made.problems.map((problem) => ({ file, ...place, at: "registry", problem })));
      continue;
    }
    for (const [index, wanted] of list.entries()) {
      const { request, principal, situation } = questionOf(wanted);
      const { answer, asked } = answerRequest(set, made.registry, request, principal, situation);
      const fault = faultOf(wanted, answer);
      // looked up only where it is told: it reads the file anew, once
      const place = fault === "" ? { line: 1, column: 1 } : placeOf(["cases", index]);
      runs.push({ file, ...place, index, wanted, answer, asked, fault });
      if (fault !== "") problems.push({ file, ...place, at: `cases[${index}]`, problem: fault });
    }
  }
  return { runs, problems };
}

/** The policies that no case was determined by: nothing would notice their loss. */
export function unproven(set: PolicySet, runs: readonly CaseRun[]): readonly string[] {
  const seen = new Set(runs.flatMap(({ answer }) => answer.reasons));
  return [...set.notes.keys()].filter((id) => !seen.has(id));
}

function faultOf(wanted: Case, answer: PolicyAnswer): string {
  if (answer.code !== "allowed" && answer.code !== "policy-denied")
    return `policy could not answer: ${answer.code}: ${answer.advice || answer.reasons.join(", ")}`;
  const by = answer.reasons.filter((id) => id !== answer.code);
  const same = by.length === wanted.by.length && by.every((id, at) => id === wanted.by.toSorted()[at]);
  if (answer.decision !== wanted.answer || !same)
    return `it is ${told(answer.decision, by)}, not ${told(wanted.answer, wanted.by)}`;
  if (wanted.person !== undefined && wanted.person !== answer.needsPerson)
    return `a person ${answer.needsPerson ? "may" : "may not"} be asked`;
  return "";
}

function told(decision: string, by: readonly string[]): string {
  return `${decision} by ${by.length === 0 ? "no policy" : by.join(", ")}`;
}
