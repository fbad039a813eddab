const LONGEST = 40;

/**
 * The choice that a mistyped word is nearest to, for "did you mean …"; null when none is near: more than two edits
 * away, or more than a third of the word. For messages only: nothing is ever done with a guess.
 */
export function nearest<Choice extends string>(word: string, choices: readonly Choice[]): Choice | null {
  if (word.length > LONGEST) return null;
  const most = Math.min(2, Math.ceil(word.length / 3));
  const ranked = choices
    .map((choice) => ({ choice, edits: editsBetween(word.toLowerCase(), choice) }))
    .filter(({ edits }) => edits <= most)
    .toSorted((a, b) => a.edits - b.edits);
  return ranked[0]?.choice ?? null;
}

/** Levenshtein's distance, one row at a time. */
function editsBetween(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 0; i < a.length; i++) {
    const next = [i + 1];
    for (let j = 0; j < b.length; j++) {
      const swap = at(row, j) + (a[i] === b[j] ? 0 : 1);
      next.push(Math.min(swap, at(row, j + 1) + 1, at(next, j) + 1));
    }
    row = next;
  }
  return at(row, b.length);
}

function at(row: readonly number[], index: number): number {
  return row[index] ?? Number.MAX_SAFE_INTEGER;
}
