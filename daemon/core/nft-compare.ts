import { parseIpRange } from "./ip-range.ts";
import { PROTOCOLS } from "./net-entry.ts";
import type { Block, Listing } from "./nft-listing.ts";
import { isShadowSet } from "./nft-shadow.ts";

/**
 * Whether the kernel holds what we rendered. "missing": one of our tables is gone. "dead-man": somebody put in something that
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
 * Compares the tables we wanted (`parseRendered`) with those found. The order of rules in a chain counts; the order of
 * tables, blocks and elements, counter values and spelling do not. Everything more than ours is a difference too.
 * Elements of `alive` may be missing (they expire), but none may be there without a timeout like ours; those that the
 * kernel itself adds to the sets of a mode in shadow are its own. `moved`: links or cgroups have come or gone since the
 * rules were loaded, and the kernel forgets those that went: then what rules say of them is left out.
 */
export function compareRules(
  wanted: readonly Listing[],
  found: readonly Listing[],
  moved = false,
): Comparison {
  return compareTables(wanted, found, moved) ?? { same: true, drops: dropsOf(found) };
}

function compareTables(
  wanted: readonly Listing[],
  found: readonly Listing[],
  moved: boolean,
): Difference | null {
  const extra = found.find((table) => tableOf(table, wanted) === undefined);
  if (extra !== undefined) return differs(`table ${extra.family} ${extra.name} is not ours`);
  for (const table of wanted) {
    const other = tableOf(table, found);
    if (other === undefined) {
      // with the last link the kernel may forget the chains, and nft the table
      if (moved && table.family === "netdev") continue;
      return difference("missing", `there is no table ${table.family} ${table.name}`);
    }
    const problem = compareTable(table, other, moved);
    if (problem !== null) return table.family === "inet" ? problem : inTable(table, problem);
  }
  return null;
}

function tableOf(table: Listing, among: readonly Listing[]): Listing | undefined {
  return among.find(({ family, name }) => family === table.family && name === table.name);
}

function inTable({ family }: Listing, { what, detail }: Difference): Difference {
  return difference(what, `table ${family}: ${detail}`);
}

function compareTable(wanted: Listing, found: Listing, moved: boolean): Difference | null {
  const own = firstDifference(wanted.statements.toSorted(), found.statements.toSorted());
  if (own !== null) return differs(`table: ${own}`);
  const extra = [...found.blocks.keys()].find((key) => !wanted.blocks.has(key));
  if (extra !== undefined) return differs(`${extra} is not ours`);
  for (const [key, block] of wanted.blocks) {
    const other = found.blocks.get(key);
    if (other === undefined) {
      if (moved && wanted.family === "netdev" && key.startsWith("chain ")) continue;
      return differs(`${key} is gone`);
    }
    const problem = compareBlock(key, block, other, moved);
    if (problem !== null) return problem;
  }
  return null;
}

function compareBlock(key: string, wanted: Block, found: Block, moved: boolean): Difference | null {
  const statements = firstDifference(statementsOf(key, wanted, moved), statementsOf(key, found, moved));
  if (statements !== null) return differs(`${key}: ${statements}`);
  if (isShadowSet(key)) return null;
  if (key === "set alive") return compareAlive(wanted.elements, found.elements);
  // as text first: reading a thousand addresses as numbers takes milliseconds, and most are spelled alike
  if (firstDifference(wanted.elements.toSorted(), found.elements.toSorted()) === null) return null;
  const elements = firstDifference(elementsOf(wanted), elementsOf(found));
  return elements === null ? null : differs(`${key}: element ${elements}`);
}

function compareAlive(wanted: readonly string[], found: readonly string[]): Difference | null {
  const limits = new Map(
    wanted
      .map(parseAliveElement)
      .flatMap((our) => (our === null ? [] : [[our.name, our.timeoutMs] as const])),
  );
  const wrong = found.find((text) => !isOurAliveElement(text, limits));
  return wrong === undefined ? null : difference("dead-man", `set alive: element ${wrong}`);
}

/** Whether an element of `alive`, as nft lists it, is one that we put in, and runs out within the dead-man's time. */
function isOurAliveElement(text: string, limits: ReadonlyMap<string, number>): boolean {
  const element = parseAliveElement(text);
  const limitMs = element && limits.get(element.name);
  if (!element || limitMs === undefined || limitMs === null || element.timeoutMs === 0) return false;
  return element.timeoutMs <= limitMs + TICK_MS && element.expiresMs <= limitMs + TICK_MS;
}

/**
 * Reads "ipv4 timeout 2s expires 1s980ms"; null for one that never expires. nft leaves `expires` out in an element's
 * last moment: with a timeout it expires all the same.
 */
function parseAliveElement(text: string): AliveElement | null {
  const match = /^(ipv4|ipv6|arp) timeout ([0-9a-z]{2,32})(?: expires ([0-9a-z]{2,32}))?$/.exec(text);
  const timeoutMs = parseDurationMs(match?.[2] ?? "");
  const expiresMs = parseDurationMs(match?.[3] ?? "0s");
  return timeoutMs === null || expiresMs === null ? null : { name: match?.[1] ?? "", timeoutMs, expiresMs };
}

type AliveElement = { readonly name: string; readonly timeoutMs: number; readonly expiresMs: number };

/** "1d2h3m4s5ms", every part optional but one. */
function parseDurationMs(text: string): number | null {
  const match = /^(?:(\d{1,9})d)?(?:(\d{1,9})h)?(?:(\d{1,9})m)?(?:(\d{1,9})s)?(?:(\d{1,9})ms)?$/.exec(text);
  if (match === null || text === "") return null;
  const [days, hours, minutes, seconds, ms] = match.slice(1).map((part) => Number(part ?? 0));
  const wholeMinutes = ((days ?? 0) * 24 + (hours ?? 0)) * 60 + (minutes ?? 0);
  return (wholeMinutes * 60 + (seconds ?? 0)) * 1000 + (ms ?? 0);
}

function statementsOf(key: string, block: Block, moved: boolean): readonly string[] {
  if (key.startsWith("chain ")) {
    const rules = block.statements.map(canonicalStatement);
    return moved ? rules.map(withoutWhatMoves) : rules;
  }
  const fixed = key.startsWith("counter ")
    ? block.statements.filter((s) => !COUNTED.test(s))
    : block.statements;
  return fixed.toSorted();
}

const COUNTED = /^packets (\d{1,20}) bytes \d{1,20}$/;

/** nft's own spelling differs by its version and by /etc/protocols. */
function canonicalStatement(statement: string): string {
  if (statement.startsWith("type ")) return withDevicesSorted(withPriorityAsNumber(statement));
  return statement
    .replace(/(?<= l4proto (?:!= )?)(?:\{[^}]*\}|[a-z0-9]\S*)/, (names) =>
      names.replace(/[a-z][a-z0-9-]*/g, numberOf),
    )
    .replace(" tcp flags syn / syn , ack ", " tcp flags & (syn | ack) == syn ")
    .replace(/(?<= [sd]addr )[0-9a-f.:/-]+(?= |$)/g, canonicalElement);
}

function numberOf(name: string): string {
  return String(NUMBERS.get(name) ?? name);
}

const NUMBERS: ReadonlyMap<string, number> = new Map([
  ...Object.entries(PROTOCOLS),
  ["ipv6-icmp", PROTOCOLS.icmpv6],
]);

/** "device d0" for a single one. */
function withDevicesSorted(declaration: string): string {
  return declaration
    .replace(/ device (\S+) /, " devices = { $1 } ")
    .replace(
      / devices = \{ ([^}]*) \} /,
      (_, names: string) => ` devices = { ${names.split(", ").toSorted().join(", ")} } `,
    );
}

function withoutWhatMoves(statement: string): string {
  return statement
    .replace(/ devices = \{[^}]*\} /, " ")
    .replace(/(?<=socket cgroupv2 level \d{1,3} )\S+/, "any");
}

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

function dropsOf(found: readonly Listing[]): Readonly<Record<string, number>> {
  const drops: [string, number][] = [];
  for (const [key, block] of found.flatMap(({ blocks }) => [...blocks])) {
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
