/** One word of a shell line. */
export type Word = {
  /** What the program gets; null where that is only known when it runs. */
  readonly text: string | null;
  /** As it was written, without line continuations. */
  readonly raw: string;
  /** Why it is not known; "" where it is. */
  readonly doubt: string;
  /** Lines of command substitutions in it. */
  readonly nested: readonly string[];
};

/** A place in a line. Shared by those that read from it, one after the other. */
export type Cursor = { readonly source: string; at: number };

/** What cannot be read, or not the same way by every shell. */
export class ShellFault extends Error {}

const ENDS_WORD = " \t\n;&|()<>";

/**
 * Reads the word at the cursor (POSIX.1-2024, XCU 2.2 to 2.6). Only quotes and backslashes are resolved; everything that a
 * shell would expand, or that dash and bash read differently, leaves the word in doubt.
 */
export function readWord(cursor: Cursor): Word {
  const word = new WordInProgress();
  const { source } = cursor;
  for (;;) {
    const sign = source[cursor.at];
    if (sign === undefined || ENDS_WORD.includes(sign)) break;
    const from = cursor.at;
    if (sign === "'") readSingle(cursor, word);
    else if (sign === '"') readDouble(cursor, word);
    else if (sign === "\\") readBackslash(cursor, word);
    else if (sign === "$" || sign === "`") readExpansion(cursor, word, false);
    else {
      word.addPlain(sign, source[cursor.at + 1]);
      cursor.at++;
    }
    word.raw += source.slice(from, cursor.at) === "\\\n" ? "" : source.slice(from, cursor.at);
  }
  return word.finish();
}

class WordInProgress {
  text = "";
  raw = "";
  doubt = "";
  readonly nested: string[] = [];
  private brace = false;
  private list = false;

  inDoubt(why: string): void {
    if (this.doubt === "") this.doubt = why;
  }

  addPlain(sign: string, next: string | undefined): void {
    const last = this.raw.at(-1) ?? "";
    if (sign === "*" || sign === "?" || sign === "[") {
      if (!(sign === "[" && this.raw === "" && (next === undefined || ENDS_WORD.includes(next))))
        this.inDoubt("a pattern of file names");
    } else if (sign === "~" && (last === "" || last === "=" || last === ":"))
      this.inDoubt("a home directory (~)");
    else if (sign === "{") this.brace = true;
    else if (sign === "," || (sign === "." && last === ".")) this.list = true;
    else if (sign === "=" && this.raw === "" && /[A-Za-z_]/.test(next ?? ""))
      this.inDoubt("=name, which zsh expands");
    this.text += sign;
  }

  finish(): Word {
    if (this.brace && this.list) this.inDoubt("a list in braces");
    return {
      text: this.doubt === "" ? this.text : null,
      raw: this.raw,
      doubt: this.doubt,
      nested: this.nested,
    };
  }
}

function readSingle(cursor: Cursor, word: WordInProgress): void {
  const end = cursor.source.indexOf("'", cursor.at + 1);
  if (end === -1) throw new ShellFault("a single quote is not closed");
  word.text += cursor.source.slice(cursor.at + 1, end);
  cursor.at = end + 1;
}

function readBackslash(cursor: Cursor, word: WordInProgress): void {
  const next = cursor.source[cursor.at + 1];
  if (next === undefined) throw new ShellFault("a backslash at the end");
  const sign = String.fromCodePoint(cursor.source.codePointAt(cursor.at + 1) ?? 0);
  if (next !== "\n") word.text += sign;
  cursor.at += 1 + sign.length;
}

function readDouble(cursor: Cursor, word: WordInProgress): void {
  const { source } = cursor;
  cursor.at++;
  for (;;) {
    const sign = source[cursor.at];
    if (sign === undefined) throw new ShellFault("a double quote is not closed");
    if (sign === '"') break;
    if (sign === "\\") {
      const next = source[cursor.at + 1] ?? "";
      if (next === "\n") cursor.at += 2;
      else if (next !== "" && '$`"\\'.includes(next)) {
        word.text += next;
        cursor.at += 2;
      } else {
        word.text += sign;
        cursor.at++;
      }
    } else if (sign === "$" || sign === "`") readExpansion(cursor, word, true);
    else {
      word.text += sign;
      cursor.at++;
    }
  }
  cursor.at++;
}

/** What begins with "$" or "`". In double quotes a "$" before a blank, a bar or the end is itself. */
function readExpansion(cursor: Cursor, word: WordInProgress, quoted: boolean): void {
  const { source, at } = cursor;
  const next = source[at + 1] ?? "";
  if (source[at] === "`") {
    word.inDoubt("a command substitution");
    word.nested.push(readBackticks(cursor));
    return;
  }
  if (next === "(") {
    const inner = readBalanced(cursor, at + 1, "(", ")");
    word.inDoubt(inner.startsWith("(") ? "an arithmetic expansion" : "a command substitution");
    word.nested.push(inner);
    return;
  }
  if (next === "{") {
    word.inDoubt("a parameter");
    const inner = readBalanced(cursor, at + 1, "{", "}");
    word.nested.push(...substitutionsIn(inner));
    return;
  }
  cursor.at++;
  if (quoted && next !== "" && ' "|):;,/'.includes(next)) {
    word.text += "$";
    return;
  }
  if (!quoted && (next === "'" || next === '"')) {
    word.inDoubt("$' or $\", which shells read differently");
    if (next === "'") skipAnsi(cursor);
    return;
  }
  word.inDoubt("a parameter");
  const name = /^(?:[A-Za-z_][A-Za-z0-9_]*|[0-9@*#?$!-])/.exec(source.slice(cursor.at, cursor.at + 256));
  cursor.at += name?.[0].length ?? 0;
}

function skipAnsi(cursor: Cursor): void {
  let at = cursor.at + 1;
  while (at < cursor.source.length && cursor.source[at] !== "'") at += cursor.source[at] === "\\" ? 2 : 1;
  if (at >= cursor.source.length) throw new ShellFault("a $' is not closed");
  cursor.at = at + 1;
}

function readBackticks(cursor: Cursor): string {
  let inner = "";
  for (let at = cursor.at + 1; at < cursor.source.length; at++) {
    const sign = cursor.source[at] ?? "";
    if (sign === "`") {
      cursor.at = at + 1;
      return inner;
    }
    if (sign === "\\" && "$`\\".includes(cursor.source[at + 1] ?? " ")) at++;
    inner += cursor.source[at] ?? "";
  }
  throw new ShellFault("a backquote is not closed");
}

/** The text between brackets. Quotes hide brackets; that is all it knows of what is inside. */
function readBalanced(cursor: Cursor, open: number, opens: string, shuts: string): string {
  const { source } = cursor;
  let depth = 0;
  for (let at = open; at < source.length; at++) {
    const sign = source[at];
    if (sign === "\\") at++;
    else if (sign === "'" && opens === "(") {
      const end = source.indexOf("'", at + 1);
      if (end === -1) break;
      at = end;
    } else if (sign === opens) depth++;
    else if (sign === shuts && --depth === 0) {
      cursor.at = at + 1;
      return source.slice(open + 1, at);
    }
  }
  throw new ShellFault(`a $${opens} is not closed`);
}

/** Command substitutions within a ${…}: they run, too. */
function substitutionsIn(text: string): readonly string[] {
  const found: string[] = [];
  const cursor: Cursor = { source: text, at: 0 };
  for (let at = text.indexOf("$("); at !== -1; at = text.indexOf("$(", cursor.at)) {
    try {
      found.push(readBalanced(cursor, at + 1, "(", ")"));
    } catch {
      return [...found, text.slice(at + 2)]; // it is in doubt in any case: what there is of it is judged
    }
  }
  return found;
}
