import type { Token } from "./source-tokens.ts";

/** One import, re-export or dynamic import of a file. */
export type Import = {
  /** The specifier, or null for a dynamic import of something computed. */
  readonly from: string | null;
  /** Names as exported there; "*" for a namespace, "default" for a default import. */
  readonly names: readonly string[];
  readonly types: "only" | "mixed";
  /** lazy: `import()`, which runs when it is called. */
  readonly when: "at-load" | "lazy";
  readonly line: number;
};

export function importsOf(tokens: readonly Token[]): readonly Import[] {
  return tokens.flatMap((token, at) => {
    if (token.kind !== "word" || tokens[at - 1]?.text === ".") return [];
    if (token.text === "import" && isPunct(tokens[at + 1], "(")) return [dynamicImport(tokens, at)];
    if (token.text !== "import" && token.text !== "export") return [];
    const found = statement(tokens, at);
    return found === null ? [] : [found];
  });
}

function dynamicImport(tokens: readonly Token[], at: number): Import {
  const argument = tokens[at + 2];
  const literal = argument?.kind === "string" && [")", ","].includes(tokens[at + 3]?.text ?? "");
  // import("x") as a type looks the same; taken for the stricter of the two
  return {
    from: literal ? argument.text : null,
    names: ["*"],
    types: "mixed",
    when: "lazy",
    line: tokens[at]?.line ?? 0,
  };
}

/** `import … from "x"`, `import "x"`, `export … from "x"`; null when it exports something of its own. */
function statement(tokens: readonly Token[], at: number): Import | null {
  const line = tokens[at]?.line ?? 0;
  const direct = tokens[at + 1];
  if (tokens[at]?.text === "import" && direct?.kind === "string") {
    return { from: direct.text, names: [], types: "mixed", when: "at-load", line };
  }
  const clause: Token[] = [];
  for (let next = at + 1; next < tokens.length; next++) {
    const token = tokens[next];
    if (token === undefined || !isClausePart(token)) return null;
    if (token.text === "from" && tokens[next + 1]?.kind === "string") {
      return { from: tokens[next + 1]?.text ?? "", ...named(clause), when: "at-load", line };
    }
    clause.push(token);
  }
  return null;
}

function isClausePart(token: Token): boolean {
  return token.kind === "word" || (token.kind === "punct" && ["{", "}", ",", "*"].includes(token.text));
}

function named(clause: readonly Token[]): Pick<Import, "names" | "types"> {
  const words = clause.map((token) => token.text);
  const typeOnly = words.length > 1 && words[0] === "type" && words[1] !== ",";
  const body = typeOnly ? words.slice(1) : words;
  const open = body.indexOf("{");
  const before = open === -1 ? body : body.slice(0, open);
  const items = (open === -1 ? [] : body.slice(open + 1, body.indexOf("}")))
    .join(" ")
    .split(" , ")
    .map((item) => item.replace(/ ?,$/, "").trim())
    .filter((item) => item !== "");
  const outside = before.includes("*") ? ["*"] : before.some((word) => /\w/.test(word)) ? ["default"] : [];
  const allTypes =
    outside.length === 0 && items.length > 0 && items.every((item) => item.startsWith("type "));
  const names = items.map((item) => item.replace(/^type /, "").split(" ")[0] ?? "");
  return { names: [...outside, ...names], types: typeOnly || allTypes ? "only" : "mixed" };
}

function isPunct(token: Token | undefined, text: string): boolean {
  return token?.kind === "punct" && token.text === text;
}
