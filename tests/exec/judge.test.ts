import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { literalWords, parseShellLine } from "../../daemon/exec/shell.ts";
import { judge } from "../../daemon/exec/verdict.ts";
import { facts, judged, profile, readCorpus, WORKSPACE } from "../support/exec-host.ts";

const VERDICTS = ["allow", "ask", "deny"];
const corpus = [...readCorpus("tests/exec/attack.yaml"), ...readCorpus("tests/exec/honest.yaml")];
const lines = corpus.flatMap(({ command }) => (typeof command === "string" ? [command] : []));
/** Pieces of real lines, and what shells make something of. */
const pieces = [...new Set(lines.flatMap((line) => line.split(/(?<=[\s;|&<>()'"$`\\])/)))];
const signs = "; & | && || ( ) { } < > >> << $ ` \\ ' \" # ! * ? [ ] ~ = \n \t \u200b $( ${ $' ;; 2>&1".split(
  /(?! ) | (?=\n)/,
);
const line = fc
  .array(fc.oneof({ weight: 4, arbitrary: fc.constantFrom(...pieces) }, fc.constantFrom(...signs, " ")), {
    maxLength: 12,
  })
  .map((parts) => parts.join(""));

/** Wrappers that say nothing of their own, as the profile has them. */
const wrapper = fc.constantFrom<readonly string[]>(
  ["env"],
  ["env", "-i"],
  ["env", "CI=1", "TZ=UTC"],
  ["nice"],
  ["nice", "-n", "5"],
  ["nice", "-n5"],
  ["ionice", "-c", "3"],
  ["ionice", "-c3"],
  ["timeout", "5"],
  ["timeout", "-k", "1", "5"],
  ["timeout", "--signal=KILL", "5"],
  ["timeout", "--signal", "KILL", "5"],
  ["stdbuf", "-oL"],
  ["nohup"],
  ["time", "-p"],
  ["chronic"],
);
const chain = fc.array(wrapper, { maxLength: 6 });

describe("whatever is given ends in a verdict", () => {
  const anything = fc.string({ unit: "binary", maxLength: 60 });

  test("as a line", () => {
    fc.assert(
      fc.property(fc.oneof(anything, line), (given) => {
        const { verdict, layers } = judged(given);
        expect(VERDICTS).toContain(verdict);
        expect(layers.length > 0 || verdict === "deny").toBe(true);
      }),
      { numRuns: 2_000 },
    );
  });

  test("as words", () => {
    fc.assert(
      fc.property(fc.array(fc.oneof(anything, fc.constantFrom(...pieces)), { maxLength: 8 }), (given) => {
        expect(VERDICTS).toContain(judged(given).verdict);
      }),
      { numRuns: 1_000 },
    );
  });

  test("the same one each time, and the strictest of its layers", () => {
    fc.assert(
      fc.property(line, (given) => {
        const judgement = judged(given);
        expect(judged(given)).toEqual(judgement);
        const found = new Set(judgement.layers.map(({ verdict }) => verdict));
        const strictest = VERDICTS.toReversed().find((one) => found.has(one as "ask")) ?? "deny";
        expect(judgement.verdict).toBe(strictest);
      }),
    );
  });
});

describe("what is allowed was read whole", () => {
  test("never a line that the parser refuses, or has a doubt about", () => {
    fc.assert(
      fc.property(line, (given) => {
        if (judged(given).verdict !== "allow") return;
        const parsed = parseShellLine(given);
        if (!parsed.ok) throw new Error(`allowed, but not read: ${parsed.fault}`);
        expect(parsed.line.doubts).toEqual([]);
        const words = parsed.line.commands.flatMap(({ words: all, assignments, redirects }) => [
          ...all,
          ...assignments.map(({ value }) => value),
          ...redirects.map(({ target }) => target),
        ]);
        expect(words.filter(({ text }) => text === null)).toEqual([]);
      }),
      { numRuns: 5_000 },
    );
  });

  test("never more as a line than as the words that are in it", () => {
    const more = corpus.filter(({ command, ...given }) => {
      const words = typeof command === "string" ? literalWords(command) : command;
      if (words === null || words.length === 0) return false;
      const written = words.map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(" ");
      const asLine = judged(written, given);
      const isOfShell = asLine.layers.some(({ what }) => what === "builtin");
      return !isOfShell && asLine.verdict === "allow" && judged(words, given).verdict !== "allow";
    });
    expect(more).toEqual([]);
  });
});

describe("wrappers", () => {
  test("lose no layer: what is refused bare is refused behind any of them", () => {
    const hostile = fc.constantFrom<readonly string[]>(
      ["rm", "-rf", "/"],
      ["cat", "/etc/shadow"],
      ["sh", "-c", "cat .env"],
      ["no-such-tool"],
    );
    fc.assert(
      fc.property(chain, hostile, (wrappers, inner) => {
        const { verdict, layers } = judged([...wrappers.flat(), ...inner]);
        expect(verdict).toBe("deny");
        const programs = layers.filter(({ what }) => what === "program");
        expect(programs.map(({ depth }) => depth)).toEqual(expect.arrayContaining([wrappers.length]));
        expect(programs.find(({ depth }) => depth === wrappers.length)?.text).toContain(inner[0]);
      }),
    );
  });

  test("take nothing away: what is allowed bare is allowed behind them", () => {
    const harmless = fc.constantFrom<readonly string[]>(["ls", "-la"], ["npm", "test"], ["git", "status"]);
    fc.assert(
      fc.property(chain, harmless, (wrappers, inner) => {
        expect(judged([...wrappers.flat(), ...inner]).verdict).toBe("allow");
      }),
    );
  });

  test("are followed so far and no farther", () => {
    const deep = (count: number) => judged([...Array<string>(count).fill("nice"), "ls"]);
    expect(deep(8).verdict).toBe("allow");
    expect(deep(9)).toMatchObject({ verdict: "deny", rule: "too-deep" });
  });

  test("that are links to a program are unwrapped as both", () => {
    const resolveProgram = () => ({ found: "/usr/bin/harmless", real: "/usr/bin/env", sha256: null });
    const order = { cwd: WORKSPACE, environmentNames: [], profile: profile("developer") };
    const said = judge(
      { ...order, argv: ["harmless", "LD_PRELOAD=x", "ls"] },
      { ...facts(), resolveProgram },
    );
    expect(said.verdict).toBe("deny");
  });
});

describe("secrets", () => {
  test("are in no text of a judgement", () => {
    const key = ["ghp", "R8sKd02LmQx7VbNcT5yWzE3uJhPa9FgD1oXi"].join("_");
    const [one, two] = [key.slice(0, 12), key.slice(12)];
    for (const given of [
      `printf %s%s ${one} ${two}`,
      `/workspace/${key}`,
      `cat ${key}`,

      `echo ${key}`,
      `cat > x <<'E'\n${key}\nE`,
      `CI=${key} ls`,
      `sh -c 'echo ${key}'`,
      `ls > ${key}`,
    ]) {
      const judgement = judged(given);
      expect(judgement.verdict).toBe("deny");
      expect(JSON.stringify(judgement)).not.toContain(key.slice(8));
    }
  });
});

describe("what takes long", () => {
  const n = 60_000;
  // each of these took a naive reader the square of its length, or more
  test.each([
    ["$( never closed", `\${${"$(".repeat(n / 2)}}`],
    ["$( nested", `echo ${"$(echo ".repeat(n / 9)}${")".repeat(n / 9)}`],
    ["$( in a row", `\${x:-${"$(a)".repeat(n / 5)}}`],
    ["brackets", "(".repeat(n)],
    ["backquotes", "`".repeat(n)],
    ["wrappers", `${"nice ".repeat(1_000)}ls`],
    ["redirections", "ls > a ".repeat(2_000)],
    ["commands", "ls;".repeat(4_000)],
    ["here-documents", `cat <<A\n${"b\n".repeat(n / 2 - 10)}A`],
  ])("%s: there is an end", (_, given) => {
    expect(VERDICTS).toContain(judged(given).verdict);
  });

  test("more than a line can have is refused, and not looked at", () => {
    expect(judged("a".repeat(65_537))).toMatchObject({ verdict: "deny", rule: "shell-syntax" });
    expect(judged("ls;".repeat(700))).toMatchObject({ verdict: "deny", rule: "too-many" });
  });
});
