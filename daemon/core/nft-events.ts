import { markIn } from "./nft-marks.ts";

/**
 * What the lines of `nft monitor` add up to. "foreign": somebody else's transaction touched our table, whatever it looks
 * like now. "lost": events are missing, so nothing can be said of what happened meanwhile. `detail`, `why`: one line of
 * printable ASCII, at most 200 characters.
 */
export type NftEvent =
  | { readonly kind: "foreign"; readonly what: "differs" | "dead-man"; readonly detail: string }
  | { readonly kind: "lost"; readonly why: string };

/** The transaction whose lines are coming in: the first line that touched our table, and whether a mark of ours was there. */
type Transaction = { readonly first: string | null; readonly onlyAlive: boolean; readonly ours: boolean };

const NOTHING: Transaction = { first: null, onlyAlive: true, ours: false };
const NO_EVENTS: readonly NftEvent[] = [];
const OURS = " inet boundary";
const TOUCH = /^[a-z]+ (?:ct )?[a-z]+ inet boundary(?: |$)/;
const TOUCH_ALIVE = /^[a-z]+ element inet boundary alive /;
const GENERATION = /^# new generation (\d{1,10})(?: by process (\d{1,10}) \((.{0,64}))?/;
const LAST_GENERATION = 0xffff_ffff;
const MAX_CHARS = 200;

/**
 * Reads the lines in order, and says what each one shows: mostly nothing. The kernel tells a transaction's events, and
 * then its generation, which counts up by one with every transaction of the namespace: a leap means lost events. It also
 * means a generation forged in a comment (nft prints newlines as they are), since the real one follows it.
 * `claim`: `Marks.claim`. Keeps one line at most, shortened.
 */
export function createNftEvents(claim: (mark: string) => boolean): (line: string) => readonly NftEvent[] {
  let current = NOTHING;
  let generation: number | null = null;

  const end = (match: RegExpExecArray): readonly NftEvent[] => {
    const foreign = foreignIn(current, match);
    const lost = leap(generation, Number(match[1]));
    generation = Number(match[1]);
    current = NOTHING;
    return [foreign, lost].filter((event) => event !== null);
  };

  return (line) => {
    if (line.startsWith("#")) {
      if (line.startsWith("# ERROR")) return [{ kind: "lost", why: plain(line) }];
      const match = GENERATION.exec(line);
      return match === null ? NO_EVENTS : end(match);
    }
    // a busy set of somebody else's is thousands of lines: one search each
    if (line.includes(OURS) && TOUCH.test(line)) current = touched(current, line, claim);
    return NO_EVENTS;
  };
}

function foreignIn({ first, onlyAlive, ours }: Transaction, match: RegExpExecArray): NftEvent | null {
  if (first === null || ours) return null;
  const name = (match[3] ?? "?").replace(/\)$/, "");
  const detail = plain(`process ${match[2] ?? "?"} (${name}): ${first}`);
  return { kind: "foreign", what: onlyAlive ? "dead-man" : "differs", detail };
}

function leap(before: number | null, now: number): NftEvent | null {
  if (before === null || now === (before === LAST_GENERATION ? 1 : before + 1)) return null;
  return { kind: "lost", why: `generation ${now} followed ${before}` };
}

function touched(current: Transaction, line: string, claim: (mark: string) => boolean): Transaction {
  const mark = markIn(line);
  return {
    first: current.first ?? line.slice(0, MAX_CHARS),
    onlyAlive: current.onlyAlive && TOUCH_ALIVE.test(line),
    ours: current.ours || (mark !== null && claim(mark)),
  };
}

function plain(text: string): string {
  return text.replace(/[^ -~]/g, "?").slice(0, MAX_CHARS);
}
