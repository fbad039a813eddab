/**
 * The paths whose change nobody has consented to yet. Exact up to its limit; what is beyond is not forgotten but makes
 * the whole set `isFull`, and then nothing may be taken over at all until a person has accepted.
 */
export type Unaccepted = {
  add(path: string): void;
  has(path: string): boolean;
  isFull(): boolean;
  /** A moment: what is added later is not covered by an acceptance of what was seen now. */
  mark(): number;
  /** A person accepted everything as it was at `mark`. */
  clearUpTo(mark: number): void;
};

export function createUnaccepted(maxPaths: number): Unaccepted {
  const addedAt = new Map<string, number>();
  let additions = 0;
  let overflowedAt: number | null = null;
  return {
    add(path) {
      additions += 1;
      if (addedAt.has(path) || addedAt.size < maxPaths) addedAt.set(path, additions);
      else overflowedAt = additions;
    },
    has: (path) => addedAt.has(path),
    isFull: () => overflowedAt !== null,
    mark: () => additions,
    clearUpTo(mark) {
      for (const [path, at] of addedAt) if (at <= mark) addedAt.delete(path);
      if (overflowedAt !== null && overflowedAt <= mark) overflowedAt = null;
    },
  };
}
