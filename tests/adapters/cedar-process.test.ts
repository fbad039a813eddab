import { spawn, spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import fc from "fast-check";
import { afterEach, describe, expect, test, vi } from "vitest";
import { openCedarProcess } from "../../daemon/adapters/cedar-process.ts";
import { EXIT_WITH_RIGHTS, isPowerless } from "../../daemon/adapters/powerless.ts";
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

/** As the daemon's unit has it: a user of its own, with two capabilities that children inherit. */
const AS_DAEMON = [
  "--reuid=61236",
  "--regid=61236",
  "--clear-groups",
  "--inh-caps=+net_admin,+linux_immutable",
  "--ambient-caps=+net_admin,+linux_immutable",
  "--bounding-set=-all,+net_admin,+linux_immutable",
];
const CHILD = join(import.meta.dirname, "../../daemon/adapters/cedar-child.ts");
const NO_RIGHTS = process.getuid?.() === 0 && existsSync("/usr/bin/setpriv") ? "" : "needs root and setpriv";

type Side = { pid: number; status: string; program: string; environment: string; descriptors: string[] };

/** A parent as the daemon is, started with a descriptor that it did not ask for. */
async function asDaemon(words: readonly string[]) {
  const parent = spawn(
    "/usr/bin/bash",
    [
      "-c",
      'exec 77</etc/hostname; exec "$@"',
      "bash",
      "/usr/bin/setpriv",
      ...words,
      "--",
      process.execPath,
      join(import.meta.dirname, "../support/cedar-parent.ts"),
    ],
    { stdio: ["ignore", "pipe", "inherit"], env: { MARK: "the daemon's" }, cwd: "/" },
  );
  let said = "";
  for await (const line of createInterface({ input: parent.stdout })) {
    said = line;
    break;
  }
  return { parent, ...(JSON.parse(said) as { answer: string; own: Side; child: Side }) };
}

describe.skipIf(NO_RIGHTS !== "")("Cedar's process beside a daemon with rights (needs root)", () => {
  const parents: ReturnType<typeof spawn>[] = [];
  afterEach(() => {
    for (const parent of parents.splice(0)) parent.kill("SIGKILL");
  });

  test.each([
    ["ambient, as the unit gives them", AS_DAEMON, "0000000000001200"],
    ["root's", ["--no-new-privs"], null],
  ])("has none of its rights, its environment or its descriptors (%s)", async (_, words, ambient) => {
    const { parent, answer, own, child } = await asDaemon(words);
    parents.push(parent);
    if (ambient !== null) expect(own.status).toMatch(new RegExp(`^CapAmb:\\s+${ambient}$`, "m"));
    expect(own.status).not.toMatch(/^CapEff:\s+0+$/m);
    expect(answer).toBe("{}");
    expect(child.program).toBe(own.program);
    expect(child.status.match(/^Cap(?:Inh|Prm|Eff|Amb):\s+0{16}$/gm)).toHaveLength(4);
    expect(child.status).toMatch(/^NoNewPrivs:\s+1$/m);
    expect(child.environment).not.toContain("the daemon's");
    expect(own.descriptors.some((target) => target.includes("hostname"))).toBe(true);
    expect(
      child.descriptors.filter((target) => !/^(?:\/dev\/null|(?:socket|pipe|anon_inode):)/.test(target)),
    ).toEqual([]);
    expect(child.descriptors.filter((target) => target.startsWith("socket:"))).toHaveLength(1);
  });

  test("dies with it, also where it is in the middle of something", async () => {
    const { parent, child } = await asDaemon(AS_DAEMON);
    process.kill(child.pid, "SIGSTOP"); // it hears nothing, and reads no end of its channel
    parent.kill("SIGKILL");
    await vi.waitFor(() => expect(existsSync(`/proc/${child.pid}/exe`)).toBe(false), 5_000);
  });

  test("ends before it reads anything, where it was left a right", () => {
    const words = [...AS_DAEMON, "--no-new-privs", "--", process.execPath, CHILD];
    const ran = spawnSync("/usr/bin/setpriv", words, { timeout: 20_000, cwd: "/", env: {} });
    expect(ran.status).toBe(EXIT_WITH_RIGHTS);
  });
});

test("only who has no capability at all, and can gain none, is powerless", () => {
  const zero = "0".repeat(16);
  const status = (more: Readonly<Record<string, string>>) =>
    Object.entries({ CapInh: zero, CapPrm: zero, CapEff: zero, CapAmb: zero, NoNewPrivs: "1", ...more })
      .map(([name, value]) => `${name}:\t${value}\n`)
      .join("");
  expect(isPowerless(status({}))).toBe(true);
  for (const name of ["CapInh", "CapPrm", "CapEff", "CapAmb"])
    expect([name, isPowerless(status({ [name]: "0000000000001000" }))]).toEqual([name, false]);
  expect([isPowerless(status({ NoNewPrivs: "0" })), isPowerless("")]).toEqual([false, false]);
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
