import type { OwnTable } from "./nft-tables.ts";

/**
 * How our own transactions are told from anybody else's. Each carries a random mark that nobody knows before the kernel
 * has taken the transaction, and a mark counts once. A pid would not do: the kernel reports it as the initial pid
 * namespace counts, nft run as a program has another one every time, and pids are used again.
 */
export type Marks = {
  /** A script that is one transaction, with a new mark. The table exists, or the script's first line makes it. */
  mark(script: string): string;
  /** Whether a mark is ours and has not been seen before. Marks older than it are void: the kernel tells in order. */
  claim(mark: string): boolean;
};

/** Where nobody watches, nobody claims. */
const MOST = 64;
const MARKED = /^(?:add|delete) counter inet (?:boundary|boundary_isolation) mark_([0-9a-f]{32})(?: |$)/;

/** `random`: 32 hex digits that cannot be guessed, new at every call. `name`: the table that the transactions are about. */
export function createMarks(random: () => string, name: OwnTable = "boundary"): Marks {
  const makeTable = `add table inet ${name}\n`;
  let open: readonly string[] = [];
  return {
    mark: (script) => {
      const mark = random();
      open = [...open, mark].slice(-MOST);
      const counter = `counter inet ${name} mark_${mark}`;
      const make = script.startsWith(makeTable) ? makeTable : "";
      // made and removed in the same transaction: only its events tell of it
      return `${make}add ${counter}\ndelete ${counter}\n${script}`;
    },
    claim: (mark) => {
      const at = open.indexOf(mark);
      if (at < 0) return false;
      open = open.slice(at + 1);
      return true;
    },
  };
}

/** The mark in a line of `nft monitor`, or null. */
export function markIn(line: string): string | null {
  return MARKED.exec(line)?.[1] ?? null;
}
