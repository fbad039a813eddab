/**
 * What somebody else put beside our tables. "table": a table that is new to us. "flowtable": packets of forwarded
 * connections take a way around every hook behind it. "forward": a rule that sends packets to another link (`fwd`, `dup`)
 * or into a flowtable. "earlier-chain": a chain that sees packets before ours do.
 */
export type ForeignAddition = {
  readonly what: "table" | "flowtable" | "forward" | "earlier-chain";
  /** "inet filter". */
  readonly table: string;
};

/** Lines longer than this are read as far as this. */
const MOST_CHARS = 4_096;
/** "add chain inet other c { type filter hook input priority -600; policy accept; }" */
const ADDED =
  /^(?:add|insert|replace|create) (table|flowtable|chain|rule) ([a-z0-9]{1,16} [^\s{};]{1,64})(?: |$)/;
const PRIORITY = / hook ([a-z]{1,16}) (?:devices? .{0,512} )?priority ([a-z]+)?(?: ?([+-]) )?(-?\d{1,10})?;/;
const FORWARDS = /(?:^| )(?:fwd to|dup to|flow add|flow offload) /;
/** Ours on these hooks; before ours is less than this. */
const OURS = -500;
const NAMED: Readonly<Record<string, number>> = {
  raw: -300,
  mangle: -150,
  dstnat: -100,
  filter: 0,
  security: 50,
  srcnat: 100,
};

/** What a line of `nft monitor` says that somebody added; null where it is nothing of these. Of other tables than ours. */
export function foreignAddition(line: string): ForeignAddition | null {
  const text = line.slice(0, MOST_CHARS);
  const match = ADDED.exec(text);
  if (match === null) return null;
  const [, kind = "", table = ""] = match;
  switch (kind) {
    case "table":
    case "flowtable":
      return { what: kind, table };
    case "rule":
      return FORWARDS.test(withoutStrings(text)) ? { what: "forward", table } : null;
    default:
      return isEarlier(withoutStrings(text)) ? { what: "earlier-chain", table } : null;
  }
}

/** A comment may say anything. */
function withoutStrings(text: string): string {
  return text.replace(/"[^"]*"?/g, '""');
}

function isEarlier(chain: string): boolean {
  const match = PRIORITY.exec(chain);
  if (match === null) return false;
  const [, hook = "", name, sign, number] = match;
  if (hook === "ingress" || hook === "egress") return true; // before IP's hooks, whatever its number
  const offset = Number(number ?? 0) * (sign === "-" ? -1 : 1);
  return (name === undefined ? 0 : (NAMED[name] ?? 0)) + offset < OURS;
}
