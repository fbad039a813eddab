import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { parseShellLine } from "../../daemon/exec/shell.ts";
import { type Expected, judged, readCorpus } from "../support/exec-host.ts";
import { isOnHost } from "../support/setup.ts";

const attack = readCorpus("tests/exec/attack.yaml");
const honest = readCorpus("tests/exec/honest.yaml");
const classes = (corpus: readonly Expected[]) => [...new Set(corpus.map((one) => one.class))];
const key = ({ command, profile, mode, cwd, environment }: Expected) =>
  JSON.stringify([command, profile, mode, cwd, environment]);

/** What is judged otherwise than the corpus says. */
const otherwise = (corpus: readonly Expected[]) =>
  corpus.flatMap((one) => {
    const { verdict, rule, reason } = judged(one.command, one);
    return verdict === one.verdict
      ? []
      : [{ command: one.command, wanted: one.verdict, verdict, rule, reason }];
  });

describe("hostile commands", () => {
  test("there are at least 300 of them, each once, and none is meant to be allowed", () => {
    expect(attack.length).toBeGreaterThanOrEqual(300);
    expect(new Set(attack.map(key)).size).toBe(attack.length);
    expect(attack.filter(({ verdict }) => verdict === "allow")).toEqual([]);
  });

  test.each(classes(attack))("%s", (name) => {
    expect(otherwise(attack.filter((one) => one.class === name))).toEqual([]);
  });

  test("none is allowed by any profile that is less than the one it was written for", () => {
    const lines = attack.filter(({ profile }) => profile === "developer");
    const allowed = lines.filter(
      (one) => judged(one.command, { ...one, profile: "default" }).verdict === "allow",
    );
    expect(allowed).toEqual([]);
  });

  // a shell reads the same from all of these, and so must we
  test.each([
    ["after another", (line: string) => `true && ${line}`],
    ["before another", (line: string) => `${line}\ntrue`],
    ["in brackets", (line: string) => `(${line}\n)`],
    ["in braces", (line: string) => `{ ${line}\n}`],
    ["if something", (line: string) => `if true; then ${line}\nfi`],
    ["again and again", (line: string) => `while true; do ${line}\ndone`],
    ["negated", (line: string) => `! ${line}`],
    ["as a line for another shell", (line: string) => `sh -c ${quoted(line)}`],
    ["as a line for eval", (line: string) => `eval ${quoted(line)}`],
    ["with its output away", (line: string) => `{ ${line}\n} > out.txt 2>&1`],
  ])("none is allowed %s", (_, around) => {
    const allowed = attack.filter(
      (one) =>
        typeof one.command === "string" &&
        !isUnfinished(one.command) &&
        judged(around(one.command), one).verdict === "allow",
    );
    expect(allowed).toEqual([]);
  });

  test.each([["env"], ["nice", "-n", "5"], ["timeout", "5"], ["nohup"], ["env", "CI=1", "stdbuf", "-oL"]])(
    "none is allowed behind %s",
    (...before) => {
      const words = attack.flatMap((one) =>
        typeof one.command === "string" || one.command.length === 0 ? [] : [{ ...one, command: one.command }],
      );
      const allowed = words.filter((one) => judged([...before, ...one.command], one).verdict === "allow");
      expect(allowed).toEqual([]);
    },
  );
});

describe("honest commands", () => {
  test("there are at least 1,000 of them, each once", () => {
    expect(honest.length).toBeGreaterThanOrEqual(1_000);
    expect(new Set(honest.map(key)).size).toBe(honest.length);
  });

  test.each(classes(honest))("%s", (name) => {
    expect(otherwise(honest.filter((one) => one.class === name))).toEqual([]);
  });

  test("how many are not allowed is what docs/EXEC.md says", () => {
    const count = (verdict: string) => honest.filter((one) => one.verdict === verdict).length;
    const [asked, denied] = [count("ask"), count("deny")];
    const rate = ((100 * (asked + denied)) / honest.length).toFixed(1);
    const sentence = `${honest.length} honest commands: ${count("allow")} allowed, ${asked} asked about, ${denied} denied (${rate} % not allowed)`;
    console.log(sentence);
    expect(readFileSync(join(import.meta.dirname, "../../docs/EXEC.md"), "utf8")).toContain(sentence);
  });
});

describe("what is taken for a shell's grammar", () => {
  const lines = [...attack, ...honest].flatMap(({ command }) =>
    typeof command === "string" ? [command] : [],
  );
  const readable = lines.filter((line) => {
    const parsed = parseShellLine(line);
    return parsed.ok && parsed.line.doubts.length === 0 && parsed.line.commands.length > 0;
  });

  // -n: they read and run nothing
  test.each(["bash", "dash"])("%s finds no fault in any line that is read here", (shell) => {
    if (!isOnHost(shell)) throw new Error(`${shell} is needed for this test: install it`);
    expect(readable.length).toBeGreaterThan(1_500);
    const faults = (some: readonly string[]): readonly string[] => {
      const ran = spawnSync(shell, ["-n"], { input: `${some.join("\n")}\n`, env: {}, encoding: "utf8" });
      if (ran.status === 0 && ran.stderr === "") return [];
      if (some.length === 1) return [`${some[0]}: ${ran.stderr}`];
      const middle = some.length >> 1;
      return [...faults(some.slice(0, middle)), ...faults(some.slice(middle))];
    };
    expect(faults(readable)).toEqual([]);
  });
});

/** Nothing yet, or with an end that what comes after it makes another. */
function isUnfinished(line: string): boolean {
  const parsed = parseShellLine(line);
  return parsed.ok
    ? parsed.line.commands.length === 0
    : /^(?:the line ends too soon|a backslash at the end)$/.test(parsed.fault);
}

function quoted(line: string): string {
  return `'${line.replaceAll("'", "'\\''")}'`;
}
