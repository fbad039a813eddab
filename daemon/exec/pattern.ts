/** Regular expressions that cannot be slow: a small language, matched by stepping through all states at once. */
export type Pattern = { readonly source: string; readonly matches: (text: string) => boolean };

type CharSet = { readonly negated: boolean; readonly ranges: readonly (readonly [number, number])[] };
type Node =
  | { readonly kind: "set"; readonly set: CharSet }
  | { readonly kind: "all"; readonly nodes: readonly Node[] }
  | { readonly kind: "any"; readonly nodes: readonly Node[] }
  | { readonly kind: "repeat"; readonly node: Node; readonly least: number; readonly most: number | null };
type State =
  | { readonly op: "end" }
  | { readonly op: "set"; readonly set: CharSet; readonly next: number }
  | { readonly op: "split"; readonly to: number[] };

const MAX_SOURCE = 512;
const MAX_STATES = 4096;
const MAX_REPEAT = 512;
const MAX_DEPTH = 32;
const DIGITS: CharSet = { negated: false, ranges: [[48, 57]] };
const WORDS: CharSet = {
  negated: false,
  ranges: [
    [48, 57],
    [65, 90],
    [95, 95],
    [97, 122],
  ],
};
const NO_LINE_END: CharSet = { negated: true, ranges: [[10, 10]] };

/**
 * Compiles a pattern, or says what is wrong with it. It always stands for the whole text. Known are literals, "\" before
 * a sign, \d, \w, ".", [a-z], [^a-z], ( | ), *, +, ? and {m,n}; "^" and "$" are refused, because they are implied. Time to
 * match grows with the text's length times the pattern's, whatever either is.
 */
export function compilePattern(source: string): Pattern | { readonly problem: string } {
  try {
    if (source.length > MAX_SOURCE) throw new Refusal(`a pattern has ${MAX_SOURCE} characters at most`);
    const states = toStates(parse(source));
    return { source, matches: (text) => run(states, text) };
  } catch (error) {
    if (error instanceof Refusal) return { problem: error.message };
    throw error;
  }
}

class Refusal extends Error {}

function parse(source: string): Node {
  const signs = Array.from(source);
  let at = 0;
  const refuse = (what: string): never => {
    throw new Refusal(`${what} at character ${at + 1}`);
  };

  function alternatives(depth: number): Node {
    if (depth > MAX_DEPTH) refuse("too many brackets");
    const nodes = [sequence(depth)];
    while (signs[at] === "|") {
      at++;
      nodes.push(sequence(depth));
    }
    return nodes.length === 1 ? (nodes[0] as Node) : { kind: "any", nodes };
  }

  function sequence(depth: number): Node {
    const nodes: Node[] = [];
    while (at < signs.length && signs[at] !== "|" && signs[at] !== ")") nodes.push(repeated(atom(depth)));
    return { kind: "all", nodes };
  }

  function atom(depth: number): Node {
    const sign = signs[at++] ?? "";
    if (sign === "(") {
      if (signs[at] === "?") refuse("(? is not known");
      const inner = alternatives(depth + 1);
      if (signs[at++] !== ")") refuse("no closing )");
      return inner;
    }
    if (sign === "[") return { kind: "set", set: bracket() };
    if (sign === ".") return { kind: "set", set: NO_LINE_END };
    if (sign === "\\") return { kind: "set", set: escaped() };
    if ("^$*+?{})]".includes(sign)) refuse(`"${sign}" has to be escaped`);
    return { kind: "set", set: single(sign) };
  }

  function repeated(node: Node): Node {
    const sign = signs[at];
    if (sign === undefined || !"*+?{".includes(sign)) return node;
    at++;
    const [least, most] =
      sign === "*" ? [0, null] : sign === "+" ? [1, null] : sign === "?" ? [0, 1] : counts();
    if (signs[at] !== undefined && "*+?{".includes(signs[at] ?? "")) refuse("a repetition of a repetition");
    return { kind: "repeat", node, least, most };
  }

  function counts(): readonly [number, number | null] {
    const end = signs.indexOf("}", at);
    const hit = /^(\d{1,3})(,(\d{1,3})?)?$/.exec(end === -1 ? "" : signs.slice(at, end).join(""));
    if (hit === null) return refuse("{ } holds one or two numbers");
    at = end + 1;
    const least = Number(hit[1]);
    const most = hit[2] === undefined ? least : hit[3] === undefined ? null : Number(hit[3]);
    if (Math.max(least, most ?? 0) > MAX_REPEAT || (most !== null && most < least))
      refuse("these counts are not possible");
    return [least, most];
  }

  function escaped(): CharSet {
    const sign = signs[at++] ?? "";
    if (sign === "d") return DIGITS;
    if (sign === "w") return WORDS;
    if (sign === "n") return single("\n");
    if (!/^[!-/:-@[-`{-~ ]$/.test(sign)) refuse(`\\${sign} is not known`);
    return single(sign);
  }

  function bracket(): CharSet {
    const negated = signs[at] === "^";
    if (negated) at++;
    const ranges: (readonly [number, number])[] = [];
    while (signs[at] !== "]") {
      if (at >= signs.length) refuse("no closing ]");
      const low = member();
      if (low.length !== 1 || signs[at] !== "-" || signs[at + 1] === "]" || signs[at + 1] === undefined) {
        ranges.push(...low);
        continue;
      }
      at++;
      const high = member();
      const [from, to] = [low[0]?.[0] ?? 1, high.length === 1 ? (high[0]?.[0] ?? 0) : 0];
      if (low[0]?.[1] !== from || high[0]?.[1] !== to || to < from) refuse("this range is not possible");
      ranges.push([from, to]);
    }
    at++;
    if (ranges.length === 0) refuse("an empty [ ]");
    return { negated, ranges };
  }

  function member(): CharSet["ranges"] {
    const sign = signs[at++] ?? "";
    if (sign === "[") refuse("[ within [ ] has to be escaped");
    return sign === "\\" ? escaped().ranges : single(sign).ranges;
  }

  const node = alternatives(0);
  if (at < signs.length) refuse("a ) without (");
  return node;
}

function single(sign: string): CharSet {
  const code = sign.codePointAt(0) ?? 0;
  return { negated: false, ranges: [[code, code]] };
}

/** The last state is the first to be entered. */
function toStates(whole: Node): readonly State[] {
  const states: State[] = [{ op: "end" }];
  const add = (state: State): number => {
    if (states.length >= MAX_STATES) throw new Refusal("the pattern is too large");
    return states.push(state) - 1;
  };
  function before(one: Node, next: number): number {
    if (one.kind === "set") return add({ op: "set", set: one.set, next });
    if (one.kind === "any") return add({ op: "split", to: one.nodes.map((node) => before(node, next)) });
    if (one.kind === "all") return one.nodes.reduceRight((after, node) => before(node, after), next);
    let start = next;
    if (one.most === null) {
      const to = [next];
      start = add({ op: "split", to });
      to.push(before(one.node, start));
    } else {
      for (let i = one.least; i < one.most; i++)
        start = add({ op: "split", to: [next, before(one.node, start)] });
    }
    for (let i = 0; i < one.least; i++) start = before(one.node, start);
    return start;
  }
  const first = before(whole, 0);
  add({ op: "split", to: [first] });
  return states;
}

function run(states: readonly State[], text: string): boolean {
  const seen = new Int32Array(states.length).fill(-1);
  let step = 0;
  let here: number[] = [];
  let there: number[] = [];
  const enter = (first: number) => {
    const open = [first];
    for (let one = open.pop(); one !== undefined; one = open.pop()) {
      if (seen[one] === step) continue;
      seen[one] = step;
      const state = states[one];
      if (state?.op === "split") open.push(...state.to);
      else there.push(one);
    }
  };
  enter(states.length - 1);
  for (const sign of text) {
    [here, there] = [there, []];
    step++;
    const code = sign.codePointAt(0) ?? 0;
    for (const one of here) {
      const state = states[one];
      if (state?.op === "set" && holds(state.set, code)) enter(state.next);
    }
    if (there.length === 0) return false;
  }
  return there.includes(0);
}

function holds(set: CharSet, code: number): boolean {
  return set.ranges.some(([low, high]) => code >= low && code <= high) !== set.negated;
}
