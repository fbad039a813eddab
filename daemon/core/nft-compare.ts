import { parseIpRange } from "./ip-range.ts";
import type { Block, Listing } from "./nft-listing.ts";

/**
 * Whether the kernel holds what we rendered. "missing": our table is gone. "dead-man": somebody put in something that
 * would keep traffic alive without us. "differs": anything else. `drops`: packets by counter. `detail` is one line of
 * printable ASCII, at most 200 characters, since it may quote what somebody else wrote.
 */
export type Comparison =
  | { readonly same: true; readonly drops: Readonly<Record<string, number>> }
  | {
      readonly same: false;
      readonly what: "missing" | "differs" | "dead-man";
      readonly detail: string;
    };

type Difference = Extract<Comparison, { same: false }>;

/** The kernel keeps timeouts in ticks of its clock, 10 ms at the longest, and lists them rounded. */
const TICK_MS = 10;
const MAX_DETAIL_CHARS = 200;
const PRIORITIES: Readonly<Record<string, number>> = {
  raw: -300,
  mangle: -150,
  dstnat: -100,
  filter: 0,
  security: 50,
  srcnat: 100,
};

/**
 * Compares the table we wanted (`parseRendered`) with the one found (null: there is none). The order of rules in a
 * chain counts; the order of blocks and elements, counter values and spelling do not. Everything more than ours is a
 * difference too. Elements of `alive` may be missing (they expire), but none may be there without a timeout like ours.
 */
export function compareRules(wanted: Listing, found: Listing | null): Comparison {
  if (found === null) return { same: false, what: "missing", detail: "there is no table inet boundary" };
  return compareTable(wanted, found) ?? { same: true, drops: dropsOf(found) };
}

function compareTable(wanted: Listing, found: Listing): Difference | null {
  if (wanted.family !== found.family || wanted.name !== found.name) return differs("it is another table");
  const own = firstDifference(wanted.statements.toSorted(), found.statements.toSorted());
  if (own !== null) return differs(`table: ${own}`);
  const extra = [...found.blocks.keys()].find((key) => !wanted.blocks.has(key));
  if (extra !== undefined) return differs(`${extra} is not ours`);
  for (const [key, block] of wanted.blocks) {
    const other = found.blocks.get(key);
    if (other === undefined) return differs(`${key} is gone`);
    const problem = compareBlock(key, block, other);
    if (problem !== null) return problem;
  }
  return null;
}

function compareBlock(key: string, wanted: Block, found: Block): Difference | null {
  const statements = firstDifference(statementsOf(key, wanted), statementsOf(key, found));
  if (statements !== null) return differs(`${key}: ${statements}`);
  if (key === "set alive") return compareAlive(wanted.elements, found.elements);
  // as text first: reading a thousand addresses as numbers takes milliseconds, and most are spelled alike
  if (firstDifference(wanted.elements.toSorted(), found.elements.toSorted()) === null) return null;
  const elements = firstDifference(elementsOf(wanted), elementsOf(found));
  return elements === null ? null : differs(`${key}: element ${elements}`);
}

function compareAlive(wanted: readonly string[], found: readonly string[]): Difference | null {
  const limitMs = Math.max(...wanted.map((text) => parseAliveElement(text)?.timeoutMs ?? 0));
  const wrong = found.find((text) => !isOurAliveElement(text, limitMs));
  return wrong === undefined ? null : difference("dead-man", `set alive: element ${wrong}`);
}

/** Whether an element of `alive`, as nft lists it, runs out within the dead-man's time. */
function isOurAliveElement(text: string, timeoutMs: number): boolean {
  const element = parseAliveElement(text);
  if (element === null || element.timeoutMs === 0) return false;
  return element.timeoutMs <= timeoutMs + TICK_MS && element.expiresMs <= timeoutMs + TICK_MS;
}

/**
 * Reads "ipv4 timeout 2s expires 1s980ms"; null for another family and for an element that never expires. nft leaves
 * `expires` out in an element's last moment: with a timeout it expires all the same.
 */
function parseAliveElement(text: string): { readonly timeoutMs: number; readonly expiresMs: number } | null {
  const match = /^(?:ipv4|ipv6) timeout ([0-9a-z]{2,32})(?: expires ([0-9a-z]{2,32}))?$/.exec(text);
  const timeoutMs = parseDurationMs(match?.[1] ?? "");
  const expiresMs = parseDurationMs(match?.[2] ?? "0s");
  return timeoutMs === null || expiresMs === null ? null : { timeoutMs, expiresMs };
}

/** "1d2h3m4s5ms", every part optional but one. */
function parseDurationMs(text: string): number | null {
  const match = /^(?:(\d{1,9})d)?(?:(\d{1,9})h)?(?:(\d{1,9})m)?(?:(\d{1,9})s)?(?:(\d{1,9})ms)?$/.exec(text);
  if (match === null || text === "") return null;
  const [days, hours, minutes, seconds, ms] = match.slice(1).map((part) => Number(part ?? 0));
  const wholeMinutes = ((days ?? 0) * 24 + (hours ?? 0)) * 60 + (minutes ?? 0);
  return (wholeMinutes * 60 + (seconds ?? 0)) * 1000 + (ms ?? 0);
}

function statementsOf(key: string, block: Block): readonly string[] {
  if (key.startsWith("chain ")) return block.statements.map(withPriorityAsNumber);
  const fixed = key.startsWith("counter ")
    ? block.statements.filter((s) => !COUNTED.test(s))
    : block.statements;
  return fixed.toSorted();
}

const COUNTED = /^packets (\d{1,20}) bytes \d{1,20}$/;

/** nft prints -300 as "raw" and -310 as "raw - 10". */
function withPriorityAsNumber(statement: string): string {
  return statement.replace(
    / priority ([a-z]+)(?: ([+-]) (\d{1,10}))?$/,
    (whole, name: string, sign, offset) => {
      const base = PRIORITIES[name];
      if (base === undefined) return whole;
      return ` priority ${base + (sign === "-" ? -1 : 1) * Number(offset ?? 0)}`;
    },
  );
}

function elementsOf(block: Block): readonly string[] {
  return block.elements.map(canonicalElement).toSorted();
}

function canonicalElement(text: string): string {
  const range = parseIpRange(text);
  return range === null ? text : `${range.family}:${range.first}-${range.last}`;
}

function firstDifference(wanted: readonly string[], found: readonly string[]): string | null {
  const at = wanted.findIndex((statement, i) => statement !== found[i]);
  if (at < 0 && wanted.length === found.length) return null;
  const i = at < 0 ? wanted.length : at;
  return `${found[i] ?? "nothing"} instead of ${wanted[i] ?? "nothing"}`;
}

function dropsOf(found: Listing): Readonly<Record<string, number>> {
  const drops: [string, number][] = [];
  for (const [key, block] of found.blocks) {
    if (!key.startsWith("counter ")) continue;
    const packets = block.statements.map((s) => COUNTED.exec(s)?.[1]).find((text) => text !== undefined);
    drops.push([key.slice("counter ".length), Math.min(Number(packets ?? 0), Number.MAX_SAFE_INTEGER)]);
  }
  return Object.fromEntries(drops);
}

function differs(detail: string): Difference {
  return difference("differs", detail);
}

function difference(what: Difference["what"], detail: string): Difference {
  return { same: false, what, detail: detail.replace(/[^ -~]/g, "?").slice(0, MAX_DETAIL_CHARS) };
}
