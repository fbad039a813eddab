import { type ForeignAddition, foreignAddition } from "./nft-foreign.ts";
import { markIn } from "./nft-marks.ts";

/**
 * What the lines of `nft monitor` add up to. "foreign": somebody else's transaction touched our tables, whatever they
 * look like now. "isolation": the same of the domains' table. "beside": it put something beside them. "lost": events are missing, so nothing can be said of what
 * happened meanwhile. `detail`, `why`, `table`: one line of printable ASCII, at most 200 characters.
 */
export type NftEvent =
  | { readonly kind: "foreign"; readonly what: "differs" | "dead-man"; readonly detail: string }
  | { readonly kind: "isolation"; readonly detail: string }
  | ({ readonly kind: "beside"; readonly detail: string } & ForeignAddition)
  | { readonly kind: "lost"; readonly why: string };

/** The transaction whose lines are coming in. */
type Transaction = {
  /** The first line that touched our tables. */
  readonly first: string | null;
  /** The first that touched the domains'. */
  readonly isolation: string | null;
  readonly onlyAlive: boolean;
  /** Whether a mark of ours was there. */
  readonly ours: boolean;
  /** By what and where: the first line of each. */
  readonly beside: ReadonlyMap<string, ForeignAddition & { readonly line: string }>;
};

const NOTHING: Transaction = {
  first: null,
  isolation: null,
  onlyAlive: true,
  ours: false,
  beside: new Map(),
};
const NO_EVENTS: readonly NftEvent[] = [];
const OURS = " boundary";
const TOUCH = /^[a-z]+ (?:ct )?[a-z]+ (?:inet|arp|netdev) boundary(?: |$)/;
const TOUCH_ISOLATION = /^[a-z]+ (?:ct )?[a-z]+ (?:inet|arp|netdev) boundary_isolation(?: |$)/;
const TOUCH_ALIVE = /^[a-z]+ element (?:inet|arp) boundary alive /;
const GENERATION = /^# new generation (\d{1,10})(?: by process (\d{1,10}) \((.{0,64}))?/;
const LAST_GENERATION = 0xffff_ffff;
const MAX_CHARS = 200;
/** Of one transaction. A table has one of each kind at most; what is beyond is left out. */
const MAX_BESIDE = 32;

/**
 * Reads the lines in order, and says what each one shows: mostly nothing. The kernel tells a transaction's events, and
 * then its generation, which counts up by one with every transaction of the namespace: a leap means lost events. It also
 * means a generation forged in a comment (nft prints newlines as they are), since the real one follows it.
 * What a data path adds to a set, and what runs out in one, is no event. `claim`: `Marks.claim`. Keeps a few lines at
 * most, shortened.
 */
export function createNftEvents(claim: (mark: string) => boolean): (line: string) => readonly NftEvent[] {
  let current = NOTHING;
  let generation: number | null = null;

  const end = (match: RegExpExecArray): readonly NftEvent[] => {
    const ended = current;
    const foreign = foreignIn(ended, match);
    const lost = leap(generation, Number(match[1]));
    generation = Number(match[1]);
    current = NOTHING;
    return [foreign, isolationIn(ended, match), ...besideIn(ended, match), lost].filter(
      (event) => event !== null,
    );
  };

  return (line) => {
    if (line.startsWith("#")) {
      if (line.startsWith("# ERROR")) return [{ kind: "lost", why: plain(line) }];
      const match = GENERATION.exec(line);
      return match === null ? NO_EVENTS : end(match);
    }
    // a busy set of somebody else's is thousands of lines: one look each
    if (line.startsWith("add element ") && !line.includes(OURS)) return NO_EVENTS;
    if (line.includes(OURS) && TOUCH.test(line)) current = touched(current, line, claim);
    else if (line.includes(OURS) && TOUCH_ISOLATION.test(line))
      current = isolationTouched(current, line, claim);
    else current = added(current, line);
    return NO_EVENTS;
  };
}

function foreignIn({ first, onlyAlive, ours }: Transaction, match: RegExpExecArray): NftEvent | null {
  if (first === null || ours) return null;
  return { kind: "foreign", what: onlyAlive ? "dead-man" : "differs", detail: told(first, match) };
}

function isolationIn({ isolation, ours }: Transaction, match: RegExpExecArray): NftEvent | null {
  return isolation === null || ours ? null : { kind: "isolation", detail: told(isolation, match) };
}

/** Also where our mark is: a mark says that ours is ours, and there is nothing of others' in a transaction of ours. */
function besideIn({ beside }: Transaction, match: RegExpExecArray): readonly NftEvent[] {
  return [...beside.values()].map(({ what, table, line }) => ({
    kind: "beside",
    what,
    table: plain(table),
    detail: told(line, match),
  }));
}

function told(line: string, match: RegExpExecArray): string {
  const name = (match[3] ?? "?").replace(/\)$/, "");
  return plain(`process ${match[2] ?? "?"} (${name}): ${line}`);
}

function leap(before: number | null, now: number): NftEvent | null {
  if (before === null || now === (before === LAST_GENERATION ? 1 : before + 1)) return null;
  return { kind: "lost", why: `generation ${now} followed ${before}` };
}

function touched(current: Transaction, line: string, claim: (mark: string) => boolean): Transaction {
  const mark = markIn(line);
  return {
    ...current,
    first: current.first ?? line.slice(0, MAX_CHARS),
    onlyAlive: current.onlyAlive && TOUCH_ALIVE.test(line),
    ours: current.ours || (mark !== null && claim(mark)),
  };
}

function isolationTouched(current: Transaction, line: string, claim: (mark: string) => boolean): Transaction {
  const mark = markIn(line);
  return {
    ...current,
    isolation: current.isolation ?? line.slice(0, MAX_CHARS),
    ours: current.ours || (mark !== null && claim(mark)),
  };
}

function added(current: Transaction, line: string): Transaction {
  const addition = foreignAddition(line);
  if (addition === null) return current;
  const key = `${addition.what} ${addition.table}`;
  if (current.beside.has(key) || current.beside.size >= MAX_BESIDE) return current;
  return {
    ...current,
    beside: new Map([...current.beside, [key, { ...addition, line: line.slice(0, MAX_CHARS) }]]),
  };
}

function plain(text: string): string {
  return text.replace(/[^ -~]/g, "?").slice(0, MAX_CHARS);
}
