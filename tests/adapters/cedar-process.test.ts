import { readdirSync, readFileSync } from "node:fs";
import fc from "fast-check";
import { afterEach, describe, expect, test } from "vitest";
import { openCedarProcess } from "../../daemon/adapters/cedar-process.ts";
import type { CedarProcess } from "../../daemon/ports.ts";
import { file, load, NOTHING, shippedFiles, small } from "../support/policies.ts";

const SCHEMA = shippedFiles()
  .filter(({ name }) => name === "schema.cedarschema")
  .map(({ bytes }) => Buffer.from(bytes).toString())
  .join("");
const opened: CedarProcess[] = [];
afterEach(() => {
  for (const cedar of opened.splice(0)) cedar.end();
});

function open(options?: { deadlineMs: number }): CedarProcess {
  const cedar = openCedarProcess(options);
  opened.push(cedar);
  return cedar;
}
/** Of every thread of ours, as the kernel has them (proc_pid_children(5)). */
function children(): readonly number[] {
  return readdirSync("/proc/self/task").flatMap((thread) =>
    readFileSync(`/proc/self/task/${thread}/children`, "utf8").trim().split(" ").filter(Boolean).map(Number),
  );
}
const when = (condition: string) => `@id("a") permit (principal, action, resource) when { ${condition} };`;
/** Past the counts of the loader, which keep such text from Cedar: it is all that the process is asked here. */
const parse = (cedar: CedarProcess, text: string) =>
  cedar.ask({ kind: "load", schema: SCHEMA, policies: { a: text } });

describe("Cedar in its process", () => {
  // what the loader's own counts keep from it: here it gets through
  test.each([
    ["nested parentheses", when(`${"(".repeat(5_000)}true${")".repeat(5_000)}`)],
    ["nested sets", when(`${"[".repeat(2_000)}${"]".repeat(2_000)} == []`)],
  ])("dies of %s, and nothing else does", async (_what, text) => {
    const cedar = open();
    await expect(parse(cedar, text)).rejects.toMatchObject({ code: "policy-trapped" });
    await expect(parse(cedar, when("true"))).rejects.toMatchObject({ code: "policy-trapped" });
    expect(await parse(open(), when("true"))).toBe("{}");
  });

  test("dies at its deadline", async () => {
    const cedar = open({ deadlineMs: 1 });
    await expect(parse(cedar, when("true"))).rejects.toMatchObject({
      code: "policy-trapped",
      message: expect.stringContaining("did not answer within 1 ms"),
    });
  });

  test("ended by a signal is told apart: another one may do it", async () => {
    const before = children();
    const cedar = open();
    const asked = parse(cedar, when("true"));
    for (const pid of children().filter((each) => !before.includes(each))) process.kill(pid, "SIGSEGV");
    await expect(asked).rejects.toMatchObject({
      code: "policy-crashed",
      message: expect.stringContaining("SIGSEGV"),
    });
    await expect(parse(cedar, when("true"))).rejects.toMatchObject({ code: "policy-crashed" });
  });

  test("goes before everything else where there is no memory left", async () => {
    const before = children();
    const cedar = open();
    const [pid] = children().filter((each) => !before.includes(each));
    expect(readFileSync(`/proc/${pid}/oom_score_adj`, "utf8").trim()).toBe("1000");
    expect(await parse(cedar, when("true"))).toBe("{}");
  });

  test("is asked one thing at a time, and nothing once it has ended", async () => {
    const cedar = open();
    const first = parse(cedar, when("true"));
    await expect(parse(cedar, when("true"))).rejects.toMatchObject({ code: "internal" });
    await first;
    cedar.end();
    await expect(parse(cedar, when("true"))).rejects.toMatchObject({ code: "policy-trapped" });
  });

  test("what Cedar refuses does not end it", async () => {
    const cedar = open();
    await expect(cedar.ask({ kind: "load", schema: "entity", policies: {} })).rejects.toMatchObject({
      code: "policy-invalid",
    });
    await expect(cedar.ask({ kind: "judge", questions: "[}" })).rejects.toMatchObject({
      code: "policy-invalid",
    });
    await expect(parse(cedar, "permit")).rejects.toMatchObject({ code: "policy-invalid" });
    expect(await parse(cedar, when("true"))).toBe("{}");
  });
});

describe("loading text that nobody vouches for", () => {
  test.each([
    ["150 nested parentheses", when(`${"(".repeat(150)}true${")".repeat(150)}`), /nested deeper than 64/],
    ["parentheses that never close", when("(".repeat(100_000)), /nested deeper than 64/],
    ["a chain of 5,000", when(Array(5_000).fill("true").join(" && ")), /more than 400 operators/],
    ["brackets of all kinds", when("{a:[(".repeat(40)), /nested deeper than 64/],
    ["no end", "permit ".repeat(30_000), /no ';' ends this/],
    ["100,000 statements", ";".repeat(100_000), /more than 4096 policies/],
    ["a string without end", `@id("${"a".repeat(200_000)}`, /no ';' ends this/],
  ])("%s is refused before Cedar sees it", async (_what, text, problem) => {
    const loaded = await load(small(text, NOTHING));
    expect(loaded.ok ? "" : (loaded.problems[0]?.problem ?? "")).toMatch(problem);
  });

  // as deep and as long as the counts allow: whatever becomes of it, it is an answer
  test.each([
    ["parentheses", when(`${"(".repeat(60)}context.approved${")".repeat(60)}`)],
    [
      "operators",
      when(
        Array(399)
          .fill("context.approved")
          .join("||")
          .replaceAll(".", "[")
          .replaceAll("[approved", '["approved"]'),
      ),
    ],
    ["both", when(`${"(".repeat(50)}${Array(100).fill("context.approved").join(" && ")}${")".repeat(50)}`)],
    ["if in if", when(`${"if context.approved then true else ".repeat(150)}false`)],
    ["nested sets", when(`${"[".repeat(60)}${"]".repeat(60)} == [[]]`)],
  ])("%s at the limit end in an answer", async (_what, text) => {
    const loaded = await load(small(text, NOTHING));
    expect(loaded.ok ? ["taken up"] : loaded.problems.map(({ problem }) => problem)).not.toEqual([]);
  });

  test("any bytes end in an answer", async () => {
    const token = fc.constantFrom(
      "permit",
      "forbid",
      "(",
      ")",
      "principal",
      ",",
      "action",
      "resource",
      ";",
      "when",
      "{",
      "}",
      '"',
      "\\",
      "//",

      "\n",
      "\r",
      "==",
      "in",
      "context.",
      "Role::",
      '"a"',
      "@id",
      '@id("a")',
      "é",
      "\u202e",
      "\0",
      "-9223372036854775808",
    );
    const tokens = fc.array(token, { maxLength: 60 }).map((parts) => Buffer.from(parts.join(" ")));
    const bytes = fc.oneof(tokens, fc.uint8Array({ maxLength: 300 }));
    await fc.assert(
      fc.asyncProperty(bytes, bytes, async (policies, cases) => {
        const loaded = await load([
          file("schema.cedarschema", SCHEMA),
          { name: "a.cedar", bytes: policies },
          { name: "a.cases.yaml", bytes: cases },
        ]);
        // cases of random bytes are none, and a set without them is not taken up
        expect(loaded.ok).toBe(false);
        if (!loaded.ok) expect(loaded.problems.length).toBeGreaterThan(0);
      }),
      { numRuns: 40 },
    );
    await fc.assert(
      fc.asyncProperty(tokens, async (policies) => {
        const loaded = await load(small(policies.toString(), NOTHING));
        if (!loaded.ok) expect(loaded.problems.length).toBeGreaterThan(0);
      }),
      { numRuns: 25 },
    );
  }, 60_000);

  test("any schema ends in an answer", async () => {
    const word = fc.constantFrom(
      "entity",
      "A",
      "in",
      "[",
      "]",
      "{",
      "}",
      ";",
      ":",
      "action",
      "appliesTo",
      "Set",
      "<",
      ">",
      "enum",
      '"',
      "//",
      "type",
      "=",
      "\n",
    );
    await fc.assert(
      fc.asyncProperty(fc.array(word, { maxLength: 40 }), async (words) => {
        const loaded = await load([
          file("schema.cedarschema", words.join(" ")),
          ...small('@id("a") forbid (principal, action, resource);', NOTHING).slice(1),
        ]);
        expect(loaded.ok).toBe(false);
      }),
      { numRuns: 20 },
    );
  }, 60_000);
});
