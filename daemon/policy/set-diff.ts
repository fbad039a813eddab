import { questionOf } from "./policy-cases.ts";
import type { Draft } from "./policy-files.ts";
import type { PolicySet } from "./policy-set.ts";
import { type CaseRun, runCases } from "./run-cases.ts";

/** A case of one set that another one answers otherwise. */
export type CaseFlip = {
  readonly file: string;
  readonly index: number;
  readonly who: string;
  readonly action: string;
  readonly resource: string;
  readonly before: string;
  readonly after: string;
  readonly beforeBy: readonly string[];
  readonly afterBy: readonly string[];
};

export type SetDiff = {
  readonly added: readonly string[];
  readonly removed: readonly string[];
  /** The same @id with another text. */
  readonly changed: readonly string[];
  readonly schemaChanged: boolean;
  /** Of the cases of both, those whose decision differs. */
  readonly flips: readonly CaseFlip[];
};

/** What is otherwise in `b` than in `a`: policies by @id, and the answers to the cases of both. */
export function diffSets(
  a: PolicySet,
  b: PolicySet,
  cases: { readonly a: Draft["cases"]; readonly b: Draft["cases"] },
): SetDiff {
  const ids = [...new Set([...a.notes.keys(), ...b.notes.keys()])].toSorted();
  const seen = new Set<string>();
  const flips = [...cases.a, ...cases.b].flatMap((file) => {
    const before = runCases(a, [file]).runs;
    const after = runCases(b, [file]).runs;
    return before.flatMap((run, index) => {
      const other = after[index];
      const key = JSON.stringify([file.registry, questionOf(run.wanted)]);
      if (other === undefined || seen.has(key) || run.answer.decision === other.answer.decision) return [];
      seen.add(key);
      return [flipOf(run, other)];
    });
  });
  return {
    added: ids.filter((id) => !a.notes.has(id)),
    removed: ids.filter((id) => !b.notes.has(id)),
    changed: ids.filter((id) => {
      const [one, other] = [a.notes.get(id), b.notes.get(id)];
      return one !== undefined && other !== undefined && one.text !== other.text;
    }),
    schemaChanged: a.schema !== b.schema,
    flips,
  };
}

function flipOf(before: CaseRun, after: CaseRun): CaseFlip {
  const { who, action, resource } = before.wanted;
  return {
    file: before.file,
    index: before.index,
    who,
    action,
    resource,
    before: before.answer.decision,
    after: after.answer.decision,
    beforeBy: before.answer.reasons,
    afterBy: after.answer.reasons,
  };
}
