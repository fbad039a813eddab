import { BoundaryError } from "./errors.ts";

/**
 * A table as nft writes it, read without knowing what the statements mean. The same reader takes the script we
 * rendered and what the kernel lists, so that the two can be compared.
 */
export type Listing = {
  readonly family: string;
  readonly name: string;
  /** What stands in the table itself: comment, flags. Words with one space between, plain words without quotes. */
  readonly statements: readonly string[];
  /** By kind and name: "chain input", "set alive", "counter refused_in". */
  readonly blocks: ReadonlyMap<string, Block>;
};

export type Block = {
  readonly statements: readonly string[];
  /** Of `elements = { … }`. */
  readonly elements: readonly string[];
};

const MAX_LISTING_CHARS = 4 * 1024 * 1024;
const MAX_DEPTH = 8;
/** Whitespace, a newline, punctuation, a string (nft knows no escapes in one), a word. No comments: a listing has none. */
const TOKEN = /[ \t\r]+|\n|[{};,]|"[^"\n]*"|[^\s{};,"]+/y;

/** Reads tables, one after the other; none in an empty text. Throws "nft-unreadable" for anything else. Takes time linear in the text. */
export function parseListings(text: string): readonly Listing[] {
  if (text.length > MAX_LISTING_CHARS) throw unreadable(`${text.length} characters are too many`);
  const cursor = { tokens: tokenize(text), at: 0 };
  const tables: Listing[] = [];
  for (;;) {
    skipNewlines(cursor);
    if (cursor.at === cursor.tokens.length) return tables;
    const table = readOne(cursor);
    if (tables.some(({ family, name }) => family === table.family && name === table.name))
      throw unreadable(`table ${table.family} ${table.name} comes twice`);
    tables.push(table);
  }
}

/** The tables of a script that `renderRules` wrote. */
export function parseRendered(script: string): readonly Listing[] {
  const start = script.search(/^table /m);
  return start < 0 ? [] : parseListings(script.slice(start));
}

function readOne(cursor: Cursor): Listing {
  const [keyword, family, name, open] = [next(cursor), next(cursor), next(cursor), next(cursor)];
  if (keyword !== "table" || open !== "{" || !isWord(family) || !isWord(name)) {
    throw unreadable("it is not a table");
  }
  return { family, name: plain(name), ...readTable(cursor) };
}

type Cursor = { readonly tokens: readonly string[]; at: number };

function tokenize(text: string): readonly string[] {
  const tokens: string[] = [];
  TOKEN.lastIndex = 0;
  while (TOKEN.lastIndex < text.length) {
    const start = TOKEN.lastIndex;
    const token = TOKEN.exec(text)?.[0];
    if (token === undefined) throw unreadable(`a string without an end at character ${start}`);
    if (token === "\n" || token.trim() !== "") tokens.push(token);
  }
  return tokens;
}

function next(cursor: Cursor): string {
  const token = cursor.tokens[cursor.at];
  if (token === undefined) throw unreadable("it ends within the table");
  cursor.at += 1;
  return token;
}

function skipNewlines(cursor: Cursor): void {
  while (cursor.tokens[cursor.at] === "\n") cursor.at += 1;
}

function readTable(cursor: Cursor): Pick<Listing, "statements" | "blocks"> {
  const statements: string[] = [];
  const blocks = new Map<string, Block>();
  let words: string[] = [];
  for (;;) {
    const token = next(cursor);
    if (token === "{") {
      const key = words.join(" ");
      if (words.length < 2 || blocks.has(key)) throw unreadable(`the block ${JSON.stringify(key)}`);
      blocks.set(key, readBlock(cursor));
      words = [];
    } else if (token === "\n" || token === ";" || token === "}") {
      if (words.length > 0) statements.push(words.join(" "));
      words = [];
      if (token === "}") return { statements, blocks };
    } else words.push(plain(token));
  }
}

function readBlock(cursor: Cursor): Block {
  const statements: string[] = [];
  const elements: string[] = [];
  let words: string[] = [];
  for (;;) {
    const token = next(cursor);
    if (token === "{") {
      const members = readGroup(cursor, 1);
      if (words.join(" ") === "elements =") {
        elements.push(...members);
        words = [];
      } else words.push(`{ ${members.join(", ")} }`);
    } else if (token === "\n" || token === ";" || token === "}") {
      if (words.length > 0) statements.push(words.join(" "));
      words = [];
      if (token === "}") return { statements, elements };
    } else words.push(plain(token));
  }
}

/** The members of `{ a, b }`, over any number of lines. */
function readGroup(cursor: Cursor, depth: number): readonly string[] {
  if (depth > MAX_DEPTH) throw unreadable("braces nested too deep");
  const members: string[] = [];
  let words: string[] = [];
  for (;;) {
    const token = next(cursor);
    if (token === "{") words.push(`{ ${readGroup(cursor, depth + 1).join(", ")} }`);
    else if (token === "," || token === "}") {
      if (words.length > 0) members.push(words.join(" "));
      words = [];
      if (token === "}") return members;
    } else if (token !== "\n") words.push(plain(token));
  }
}

function isWord(token: string): boolean {
  return /^[^\s{};,]+$/.test(token);
}

/** nft quotes some names in a listing that need no quotes in a script. */
function plain(token: string): string {
  return /^"[A-Za-z0-9_.@:-]+"$/.test(token) ? token.slice(1, -1) : token;
}

function unreadable(what: string): BoundaryError {
  return new BoundaryError("nft-unreadable", `reading a listing of nft: ${what}`);
}
