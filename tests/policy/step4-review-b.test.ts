import { chownSync, lchownSync, mkdirSync, mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { openCedarProcess } from "../../daemon/adapters/cedar-process.ts";
import { readPolicyDirectory } from "../../daemon/adapters/policy-directory.ts";
import type { Entry } from "../../daemon/audit/record.ts";
import { createPolicies } from "../../daemon/policies.ts";
import { answerRequest } from "../../daemon/policy/answer.ts";
import { derive } from "../../daemon/policy/derived.ts";
import { type RawFile, renderFileProblem } from "../../daemon/policy/policy-files.ts";
import { policyTexts } from "../../daemon/policy/read-policies.ts";
import { disagreement, readJudged } from "../../daemon/policy/referee.ts";
import type { CedarOrder, CedarProcess } from "../../daemon/ports.ts";
import {
  file,
  load,
  NOTHING,
  openWarm,
  question,
  registry,
  shippedFiles,
  situation,
  small,
  USER,
} from "../support/policies.ts";

/** Loads a condition of a permit of recall, asks it, and has Cedar judge the same. */
async function both(condition: string, domain = "d") {
  const files = small(
    `@id("a") permit (principal, action == Action::"network.connect", resource) when { ${condition} };`,
    'cases: [{ who: "User::1", action: recall, resource: "memory::n", mode: OPEN, answer: deny, by: [] }]',
  );
  const loaded = await load(files);
  if (!loaded.ok) return { refused: loaded.problems.map(renderFileProblem).join("\n") };
  const { set } = loaded;
  const asked = question("network.connect", ["host", "h"], { domain, port: 9_007_199_254_740_991 });
  const { answer, asked: put } = answerRequest(set, registry(set.shapes), asked, USER, situation());
  if (put === null) return { refused: answer.code };
  const cedar = openCedarProcess();
  try {
    await cedar.ask({ kind: "load", schema: set.schema, policies: policyTexts(set) });
    const said = readJudged(
      JSON.parse(await cedar.ask({ kind: "judge", questions: JSON.stringify([put.question]) })),
      1,
    );
    return { ours: put.ruling, differs: said[0] === undefined ? "?" : disagreement(put.ruling, said[0]) };
  } finally {
    cedar.end();
  }
}

describe("the compiled set, as it is loaded, and Cedar", () => {
  test.each([
    // refused as loaded, though the corpus and the differential test, which read policies in another way, have it
    ["an integer beyond 2^53", "resource has port && resource.port + 2 == 9007199254740993"],
    ["like with stars", 'resource has domain && resource.domain like "*d*\\*"'],
    ["like with an escape", 'resource has domain && resource.domain like "\\u{64}"'],
    ["a date before the year 0001", 'datetime("0000-02-29") < context.time'],
    ["a duration at its end", 'duration("-9223372036854775808ms") < duration("0ms")'],
    ["overflow in offset", 'context.time.offset(duration("9223372036854775807ms")) > context.time'],
    [
      "toDate of the least",
      'datetime("1970-01-01").offset(duration("-9223372036854775808ms")).toDate() < context.time',
    ],
    ["ip of a range", 'ip("10.0.0.0/8").isInRange(ip("10.0.0.0/7"))'],
    ["ip mapped", 'ip("::ffff:a00:1").isInRange(ip("10.0.0.0/8"))'],
    ["decimal ends", 'decimal("-922337203685477.5808").lessThan(decimal("922337203685477.5807"))'],
    ["records with __proto__", '{"__proto__": 1} == {"__proto__": 1} && {"__proto__": 1} has "__proto__"'],
    ["records with constructor", '!({"a": 1} has "constructor")'],
  ])("say the same: %s", async (_what, condition) => {
    const told = await both(condition);
    expect(told).toMatchObject({ differs: "" });
  });
});

const CASE = (by: string) =>
  `cases: [{ who: "User::1", action: recall, resource: "memory::n", mode: OPEN, answer: allow, by: [${by}] }]`;
const good = (id: string, more = "") =>
  small(`@id("${id}") permit (principal, action == Action::"recall", resource);${more}`, CASE(id));

/** Policies whose files are what `host.files` is, judged as `host.judge` says. */
function start() {
  const records: Entry[] = [];
  const disagree = () => Promise.resolve(JSON.stringify([{ decision: "deny", reasons: [], errors: [] }]));
  const agree = () => Promise.resolve(JSON.stringify([{ decision: "allow", reasons: ["a"], errors: [] }]));
  const host: { files: readonly RawFile[]; judge: () => Promise<string> } = {
    files: good("a"),
    judge: agree,
  };
  const openCedar = (): CedarProcess => ({
    end: () => undefined,
    ask: (order: CedarOrder) =>
      order.kind === "load"
        ? Promise.resolve("{}")
        : order.kind === "judge"
          ? host.judge()
          : openWarm().ask(order),
  });
  const policies = createPolicies({
    version: "1",
    files: () => host.files,
    entities: () => null,
    openCedar,
    kept: { load: () => null, save: () => undefined },
    memory: { kept: "", disputed: [] },
    refereeEvery: 1,
    random: () => 0.5,
    record: (entry) => void records.push(entry),
    disagreed: () => undefined,
    unjudged: () => undefined,
    opLog: { info: () => undefined, warn: () => undefined, error: () => undefined },
  });
  const answer = () => policies.answer(question("recall", ["memory", "n"]), USER, situation()).decision;
  const turn = () => new Promise((resolve) => setTimeout(resolve, 20));
  return { policies, host, answer, turn, disagree, agree, records };
}

describe("a disagreement denies from then on", () => {
  test("also after a reload of the same policies with a comment more", async () => {
    const { policies, host, answer, turn, disagree } = start();
    await policies.load("t");
    host.judge = disagree;
    answer();
    await turn();
    expect(policies.state().state).toBe("disagreed");
    host.files = good("a", " // one more comment");
    await policies.load("t");
    policies.stop();
    expect(answer()).toBe("deny");
  });

  test("also after another set was there for a moment: what was disagreed about is not taken up again", async () => {
    const { policies, host, answer, turn, disagree, agree } = start();
    await policies.load("t");
    host.judge = disagree;
    answer();
    await turn();
    host.judge = agree;
    host.files = good("b");
    await policies.load("t");
    host.files = good("a");
    await policies.load("t");
    policies.stop();
    expect([policies.state().state, answer()]).toEqual(["disagreed", "deny"]);
  });

  test("of the set that was there before, it does not stop the one that is there now", async () => {
    const { policies, host, answer, turn } = start();
    await policies.load("t");
    let say: (text: string) => void = () => undefined;
    host.judge = () =>
      new Promise((resolve) => {
        say = resolve;
      });
    answer();
    await turn();
    host.files = good("b");
    await policies.load("t");
    say(JSON.stringify([{ decision: "deny", reasons: [], errors: [] }]));
    await turn();
    const state = policies.state();
    policies.stop();
    expect([state.state, answer()]).toEqual(["ready", "allow"]);
  });
});

describe("ids that can be written in two ways (daemon/policy/derived.ts)", () => {
  const idOf = (type: string, id: string) => {
    const derived = derive(type, id);
    return "problem" in derived ? "refused" : derived.id;
  };
  test.each([
    ["Host", "2001:db8::1", "2001:DB8:0:0:0:0:0:1"],
    ["Host", "10.0.0.5", "010.0.0.5"],
    ["Host", "10.0.0.5", "167772165"],
    ["Host", "10.0.0.5", "0x0a000005"],
    ["Host", "10.0.0.5", "::ffff:10.0.0.5"],
    ["Command", "/usr/bin/curl", "/usr/bin/../bin/curl"],
    ["Command", "/usr/bin/curl", "//usr/bin/curl"],
  ])("%s %s is not asked about as %s, past what the registry says of it", (type, plain, other) => {
    expect([plain, "refused"]).toContain(idOf(type, idOf(type, other)));
  });
});

describe("a question that is put to the compiled set is one that Cedar takes", () => {
  // what Cedar does not take is a disagreement: policy denies everything from then on, and the host goes to AIRGAP
  const judged = async (schema: (text: string) => string, asked: ReturnType<typeof question>) => {
    const files = small(
      '@id("a") permit (principal, action, resource) when { context.privilege <= 1 };',
      CASE("a"),
    ).map((one) =>
      one.name === "schema.cedarschema" ? file(one.name, schema(Buffer.from(one.bytes).toString())) : one,
    );
    const loaded = await load(files);
    if (!loaded.ok) return loaded.problems.map(renderFileProblem).join("; ");
    const { set } = loaded;
    const { asked: put } = answerRequest(set, registry(set.shapes), asked, USER, situation());
    if (put === null) return "";
    const cedar = openCedarProcess();
    try {
      await cedar.ask({ kind: "load", schema: set.schema, policies: policyTexts(set) });
      const questions = JSON.stringify([put.question]);
      const [said] = readJudged(JSON.parse(await cedar.ask({ kind: "judge", questions })), 1);
      return said === undefined ? "?" : disagreement(put.ruling, said);
    } finally {
      cedar.end();
    }
  };
  const replaced = (from: RegExp, to: string) => (text: string) => {
    if (!from.test(text)) throw new Error(`no ${from.source}`);
    return text.replace(from, to);
  };

  test("of a resource of an enumerated type (any caller asks for a name that is not in it)", async () => {
    const schema = replaced(/entity Stage in \[Group\] \{[^}]*\};/, 'entity Stage enum ["build", "deploy"];');
    expect(await judged(schema, question("stage.enter", ["stage", "build"]))).toBe("");
    expect(await judged(schema, question("stage.enter", ["stage", "x"]))).toBe("");
  });

  test("of an attribute that is an optional set of an enumerated type, or tags", async () => {
    const schema = replaced(
      /entity Stage in \[Group\] \{[^}]*\};/,
      "entity Stage in [Group] { registered: Bool, marks?: Set<Taint>, net?: Set<ipaddr>, at?: datetime, ratio?: decimal, owner?: User } tags String;",
    );
    const properties = {
      marks: ["secret"],
      net: ["10.0.0.1", "::/0"],
      at: "2024-01-01",
      ratio: "1.5",
      owner: "x",
    };
    expect(await judged(schema, question("stage.enter", ["stage", "x"], properties))).toBe("");
    expect(await judged(schema, question("stage.enter", ["stage", "x"]))).toBe("");
  });

  test("of attributes that the daemon fills in, in a schema that types them otherwise: the load refuses it", async () => {
    const schema = replaced(
      /entity Stage in \[Group\] \{[^}]*\};/,
      "entity Stage in [Group] { registered: String };",
    );
    const said = await judged(schema, question("stage.enter", ["stage", "x"]));
    expect(said).not.toContain("Cedar does not take the question");
  });

  test("of a principal whose group of the registry is none of an enumerated Group: the load refuses it", async () => {
    const files = small(
      '@id("a") permit (principal, action, resource) when { context.privilege <= 1 };',
      CASE("a"),
    ).map((one) =>
      one.name === "schema.cedarschema"
        ? file(
            one.name,
            replaced(/entity Group;/, 'entity Group enum ["staff"];')(Buffer.from(one.bytes).toString()),
          )
        : one,
    );
    const loaded = await load(files, { path: "/e", text: "users: [{ id: '1000', groups: [stuff] }]" });
    expect(loaded.ok).toBe(false);
  });

  test("of a group that the schema lets no such thing be in", async () => {
    const schema = replaced(/entity Stage in \[Group\]/, "entity Stage in [Group, Workspace]");
    expect(await judged(schema, question("stage.enter", ["stage", "x"]))).toBe("");
  });
});

describe("the registry", () => {
  test("a reload that changes the registry alone is a change, and a decision's record tells which registry it had", async () => {
    let text = "users: []";
    const policies = createPolicies({
      version: "1",
      files: () => good("a"),
      entities: () => ({ path: "/e", text }),
      openCedar: openWarm,
      kept: { load: () => null, save: () => undefined },
      memory: { kept: "", disputed: [] },
      refereeEvery: 1_000_000,
      random: () => 0.5,
      record: () => undefined,
      disagreed: () => undefined,
      unjudged: () => undefined,
      opLog: { info: () => undefined, warn: () => undefined, error: () => undefined },
    });
    const first = await policies.load("t");
    text = "users: [{ id: '1000', groups: [banned] }]";
    const second = await policies.load("t");
    policies.stop();
    expect([second.changed, second.digest !== first.digest]).toEqual([true, true]);
  });
});

describe("files that somebody else can exchange", () => {
  test("a link to the policy directory that another user owns is not followed", () => {
    const base = mkdtempSync(join(tmpdir(), "boundary-rev-"));
    const theirs = join(base, "theirs");
    const real = join(base, "real");
    mkdirSync(real, { mode: 0o755 });
    mkdirSync(theirs, { mode: 0o755 });
    const link = join(theirs, "policies");
    symlinkSync(real, link);
    lchownSync(link, 12_345, 12_345);
    chownSync(theirs, 12_345, 12_345);
    try {
      const read = () =>
        readPolicyDirectory(link, { wanted: () => true, maxBytes: 10, maxFiles: 10, owner: 0 });
      expect(read).toThrow();
    } finally {
      rmSync(base, { recursive: true, force: true });
    }
  });
});

describe("files that nobody vouches for", () => {
  const schemaWith = (more: string) =>
    shippedFiles().map((one) =>
      one.name === "schema.cedarschema" ? file(one.name, Buffer.from(one.bytes).toString() + more) : one,
    );
  test("a schema of types that double does not take the daemon's memory", { timeout: 100_000 }, async () => {
    const types = Array.from({ length: 25 }, (_, n) => `type T${n} = { a: T${n + 1}, b: T${n + 1} };`);
    const files = schemaWith(`\n${types.join("\n")}\ntype T25 = { a: Long };\nentity Big { x: T0 };\n`);
    const before = process.memoryUsage().rss;
    let most = before;
    const watch = setInterval(() => {
      most = Math.max(most, process.memoryUsage().rss);
    }, 20);
    const loaded = await load(files, null, () => openCedarProcess({ deadlineMs: 60_000 }));
    clearInterval(watch);
    expect(loaded.ok).toBe(false);
    expect((most - before) / 1e6).toBeLessThan(400);
  });

  test("large policies do not hold up the loop that renews the dead-man's set", {
    timeout: 150_000,
  }, async () => {
    const long = Array.from({ length: 2_300 }, (_, n) => {
      const body = Array.from({ length: 18 }, (_, k) => `context.privilege==-${k + 1}`).join("||");
      return `@id("p${n}") forbid(principal,action,resource) when{${body}};\n`;
    }).join("");
    const files = small(long.slice(0, long.lastIndexOf("@", 1_000_000)), NOTHING);
    let longest = 0;
    let last = performance.now();
    const beat = setInterval(() => {
      longest = Math.max(longest, performance.now() - last);
      last = performance.now();
    }, 5);
    await load(files, null, () => openCedarProcess({ deadlineMs: 140_000 }));
    clearInterval(beat);
    expect(longest).toBeLessThan(500); // a heartbeat; idle host 180-330 ms, busy one 1,156
  });
});
