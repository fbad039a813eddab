import { hash } from "node:crypto";
import { afterEach, describe, expect, test, vi } from "vitest";
import { BoundaryError } from "../daemon/core/errors.ts";
import { type Policies, type PoliciesParts, policyClaim, readPolicyMemory } from "../daemon/policies.ts";
import type { CedarOrder } from "../daemon/ports.ts";
import { openWarm, question, situation, small, USER } from "./support/policies.ts";
import {
  ASKED,
  CASE,
  good,
  type Judge,
  judgeAs,
  startPolicies,
  stopPolicies,
} from "./support/policies-host.ts";

const BAD = small('@id("a") permit (principal, action == Action::"recal", resource);', CASE("a"));
afterEach(() => {
  vi.useRealTimers();
  stopPolicies();
});

describe("taking up policies", () => {
  test("nothing is allowed before, and what they say after", async () => {
    const { policies, answer, records } = startPolicies();
    expect([answer(), policies.state().state, policies.digest()]).toMatchObject([
      { decision: "deny", code: "policy-unavailable", reasons: ["policy-unavailable"], needsPerson: false },
      "loading",
      "",
    ]);
    const loaded = await policies.load("test");
    await policies.settled();
    expect(loaded).toEqual({ digest: policies.digest(), entities: "", policies: 1, changed: true });
    expect(answer()).toMatchObject({ decision: "allow", code: "allowed", reasons: ["a"], advice: "" });
    expect(records).toEqual([
      {
        kind: "policy.loaded",
        data: {
          by: "test",
          digest: policies.digest(),
          compiled: expect.stringMatching(/^[0-9a-f]{64}$/),
          files: 3,
          policies: 1,
          entities: "",
          kept: expect.stringMatching(/^[0-9a-f]{64}$/),
        },
      },
    ]);
    expect(await policies.load("again")).toMatchObject({ changed: false });
  });

  test("a bad set changes nothing, and says where", async () => {
    const { policies, answer, host, records } = startPolicies();
    await policies.load("test");
    const { digest } = policies.state();
    host.files = BAD;
    await expect(policies.load("test")).rejects.toMatchObject({
      code: "policy-invalid",
      message: expect.stringMatching(/^a\.cedar:1:\d+: .*recal/),
    });
    expect([answer().decision, policies.digest(), policies.state().state]).toEqual([
      "allow",
      digest,
      "ready",
    ]);
    expect(policies.state().why).toContain("a.cedar:1:");
    expect(policyClaim(policies.state()).detail).toContain("the last load was refused");
    expect(records.at(-1)).toMatchObject({ kind: "policy.refused", data: { by: "test", more: 0 } });
    host.files = good("a");
    await policies.load("test");
    expect(policies.state().why).toBe("");
  });

  test("a first set that is bad leaves none: everything is denied, and the status says so", async () => {
    const { policies, answer, host } = startPolicies();
    host.files = BAD;
    await expect(policies.load("start")).rejects.toMatchObject({ code: "policy-invalid" });
    await policies.settled();
    expect(answer()).toMatchObject({ decision: "deny", code: "policy-unavailable" });
    expect(policyClaim(policies.state())).toMatchObject({ state: "failed" });
    host.files = good("b");
    await policies.load("test");
    expect([answer().reasons, policyClaim(policies.state()).state]).toEqual([["b"], "observed"]);
  });

  test.each([
    [
      "files that cannot be read",
      {
        files: () => {
          throw new BoundaryError("config-unreadable", "no such directory");
        },
      },
      /no such directory/,
    ],
    [
      "a registry that cannot be read",
      {
        entities: () => {
          throw new BoundaryError("config-unreadable", "gone");
        },
      },
      /gone/,
    ],
    [
      "a registry with a fault",
      { entities: () => ({ path: "/e", text: "users: [{}]" }) },
      /\/e:1:9: users\[0\]\.id/,
    ],
    [
      "a registry that does not fit",
      { entities: () => ({ path: "/e", text: "resources: [{ type: x, id: y }]" }) },
      /\/e: x "y": there is no such type/,
    ],
    [
      "a Cedar that dies",
      {
        openCedar: () => ({
          ask: () => Promise.reject(new BoundaryError("policy-trapped", "dead")),
          end: () => undefined,
        }),
      },
      /dead/,
    ],
    [
      "a Cedar that says anything",
      { openCedar: () => ({ ask: () => Promise.resolve('{"ok":true}'), end: () => undefined }) },
      /is no set/,
    ],
  ] as readonly (readonly [string, Partial<PoliciesParts>, RegExp])[])(
    "%s: nothing is taken up",
    async (_what, change, why) => {
      const { policies, answer, kinds } = startPolicies(change);
      await expect(policies.load("test")).rejects.toMatchObject({ message: expect.stringMatching(why) });
      expect([answer().code, kinds()]).toEqual(["policy-unavailable", ["policy.refused"]]);
    },
  );

  test.each([
    [3, "ready"],
    [4, "unavailable"],
  ])("a Cedar that is ended by a signal %i times: %s", async (crashes, state) => {
    const openings = { opened: 0, ended: 0 };
    const { policies } = startPolicies({
      openCedar: () => {
        const crash = ++openings.opened <= crashes;
        const ask = (order: CedarOrder) =>
          crash ? Promise.reject(new BoundaryError("policy-crashed", "SIGSEGV")) : openWarm().ask(order);
        return { ask, end: () => void openings.ended++ };
      },
    });
    await policies.load("test").catch(() => undefined);
    expect([policies.state().state, openings]).toEqual([state, { opened: 4, ended: 4 }]);
  });

  test("loads come one after the other", async () => {
    const { policies, host, kinds } = startPolicies();
    const loads = [policies.load("1"), policies.load("2")];
    host.files = BAD;
    const results = await Promise.allSettled([...loads, policies.load("3")]);
    expect(kinds()).toHaveLength(3);
    expect(results.at(-1)?.status).toBe("rejected");
  });
});

describe("the referee", () => {
  const judged = (policies: Policies) => policies.state().referee.judged;

  test("is asked one in so many, beside the answer", async () => {
    let asked = 0;
    let at = 0;
    const { policies, answer } = startPolicies({
      refereeEvery: 3,
      random: () => (at++ % 4) / 4, // 0, 0.25: one in three is below a third, of four two
      judge: (questions) => {
        asked += questions.length;
        return judgeAs("a")(questions);
      },
    });
    await policies.load("test");
    for (let count = 0; count < 8; count++) answer();
    await vi.waitFor(() => expect(judged(policies)).toBe(4));
    expect([asked, policies.state().referee.state]).toEqual([4, "idle"]);
  });

  test.each([
    ["another decision", { decision: "deny", reasons: [], errors: [] }],
    ["other reasons", { decision: "allow", reasons: ["b"], errors: [] }],
    ["an error", { decision: "allow", reasons: ["a"], errors: ["b"] }],
  ])("%s of Cedar's: nothing is allowed from then on, and it is told once", async (_what, theirs) => {
    const { policies, answer, kinds, disagreed, host } = startPolicies({
      judge: (questions) => Promise.resolve(JSON.stringify(questions.map(() => theirs))),
    });
    await policies.load("test");
    expect(answer().decision).toBe("allow");
    answer();
    await vi.waitFor(() => expect(policies.state().state).toBe("disagreed"));
    expect(answer()).toMatchObject({ decision: "deny", code: "policy-disagreed", needsPerson: false });
    expect([kinds(), disagreed]).toEqual([["policy.loaded", "policy.disagreed"], [policies.digest()]]);
    expect(policyClaim(policies.state()).state).toBe("failed");
    // the same policies are no way out; others are
    await policies.load("test");
    expect(answer().code).toBe("policy-disagreed");
    host.judge = judgeAs("a");
    host.files = good("b");
    await policies.load("test");
    expect(answer().decision).toBe("allow");
  });

  test("a question that Cedar does not take is denied from then on, and no other one is", async () => {
    const { policies, answer, records, disagreed, host } = startPolicies({
      judge: (questions) =>
        Promise.resolve(JSON.stringify(questions.map(() => ({ refused: "not in the schema" })))),
    });
    await policies.load("test");
    expect(answer().decision).toBe("allow");
    await vi.waitFor(() => expect(records).toHaveLength(2));
    const { digest } = policies.state();
    expect(records[1]).toMatchObject({
      kind: "policy.untaken",
      data: { digest, detail: "not in the schema", asked: expect.stringContaining('"recall"') },
    });
    host.judge = judgeAs("a");
    expect(answer()).toMatchObject({ decision: "deny", code: "policy-unavailable", needsPerson: false });
    const later = policies.answer(ASKED, USER, situation({ wallMs: 1 }));
    expect(later.code).toBe("policy-unavailable");
    const other = policies.answer(question("recall", ["memory", "other"]), USER, situation());
    expect([other.decision, policies.state().state, disagreed]).toEqual(["allow", "ready", []]);
    // another set, or the schema, may take it
    await policies.load("test");
    expect(answer().decision).toBe("allow");
  });

  test.each([
    ["dies", () => Promise.reject(new BoundaryError("policy-trapped", "dead"))],
    ["says too little", () => Promise.resolve("[]")],
    ["says what is no JSON", () => Promise.resolve("{")],
  ] as readonly (readonly [string, Judge])[])(
    "one that %s is shown as such, and tried again later",
    async (_what, judge) => {
      vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
      const { policies, answer, host, kinds } = startPolicies({ judge });
      await policies.load("test");
      expect(answer().decision).toBe("allow");
      await vi.waitFor(() =>
        expect(policies.state().referee).toMatchObject({ state: "failed", dropped: 1, judged: 0 }),
      );
      expect(policyClaim(policies.state()).state).toBe("failed");
      const opened = host.opened;
      host.judge = judgeAs("a");
      expect(answer().decision).toBe("allow");
      await Promise.resolve();
      expect([host.opened, policies.state().referee.state]).toEqual([opened, "failed"]);
      await vi.advanceTimersByTimeAsync(1_000);
      expect([host.opened, policies.state().referee]).toMatchObject([
        opened + 1,
        { state: "idle", judged: 1, why: "" },
      ]);
      expect(kinds()).toEqual(["policy.loaded", "policy.unjudged", "policy.judged"]);
    },
  );

  test("holds no more than it can, however long Cedar takes", async () => {
    const { policies, answer } = startPolicies({ judge: () => new Promise(() => undefined) });
    await policies.load("test");
    for (let count = 0; count < 1_000; count++) answer();
    expect(policies.state().referee.dropped).toBeGreaterThan(900);
    expect(answer().decision).toBe("allow");
  });

  test("what waits for a set that is gone is not asked any more", async () => {
    const asked: unknown[] = [];
    let go: (() => void) | undefined;
    const { policies, answer, host } = startPolicies({
      judge: async (questions) => {
        asked.push(...questions);
        await new Promise<void>((resolve) => {
          go = resolve;
        });
        return judgeAs("a")(questions);
      },
    });
    await policies.load("test");
    answer();
    await vi.waitFor(() => expect(asked).toHaveLength(1));
    for (let count = 0; count < 5; count++) answer();
    host.files = good("b");
    await policies.load("test");
    go?.();
    await vi.waitFor(() => expect(judged(policies)).toBe(1));
    expect([asked.length, policies.state().state]).toEqual([1, "ready"]);
  });
});

describe("a start after another", () => {
  const earlier = async () => {
    const first = startPolicies();
    await first.policies.load("test");
    return { text: first.host.kept.text ?? "", kept: String(first.records[0]?.data["kept"]) };
  };
  const next = (text: string, kept: string, change: Parameters<typeof startPolicies>[0] = {}) => {
    const begun = startPolicies({ memory: { kept, disputed: [] }, refereeEvery: 1_000, ...change });
    begun.host.kept.text = text;
    return begun;
  };

  const vouched = (text: string) => next(text, hash("sha256", text));

  test("takes up what the log vouches for, without Cedar", async () => {
    const { text, kept } = await earlier();
    const { policies, answer, host, records } = next(text, kept);
    await policies.load("start");
    expect([host.opened, answer()]).toMatchObject([0, { decision: "allow", reasons: ["a"] }]);
    expect(records).toMatchObject([{ kind: "policy.loaded", data: { kept } }]);
    await policies.load("a person");
    expect(host.opened).toBe(1); // who asks for it has everything read anew
  });

  test("takes up integers beyond 2^53 as they were written", async () => {
    const files = (long: string) =>
      small(
        `@id("a") permit (principal, action == Action::"recall", resource) when { 9007199254740992 + 1 == ${long} };`,
        CASE("a"),
      );
    const first = startPolicies({ files: () => files("9007199254740993") });
    await first.policies.load("test");
    expect(first.answer().decision).toBe("allow");
    const kept = String(first.records[0]?.data["kept"]);
    const again = next(first.host.kept.text ?? "", kept, { files: () => files("9007199254740993") });
    await again.policies.load("start");
    expect([again.host.opened, again.answer().decision]).toEqual([0, "allow"]);
    // its case would be another one
    const rounded = startPolicies({ files: () => files("9007199254740992") });
    await expect(rounded.policies.load("test")).rejects.toMatchObject({ code: "policy-invalid" });
  });

  test.each<[string, (was: { text: string; kept: string }) => ReturnType<typeof next>]>([
    ["a text that was changed", ({ text, kept }) => next(text.replace("recall", "recall2"), kept)],
    ["a text that nobody vouches for", ({ text }) => next(text, "")],
    ["a text that is gone", ({ kept }) => next("", kept)],
    ["a text that another version vouched for", ({ text }) => vouched(text.replaceAll('"parts"', '"part"'))],
    ["a set in another form", ({ text }) => vouched(text.replace(/"parts":\{/, '"parts":{"form":2,'))],
    ["a set whose policies are of another form", ({ text }) => vouched(text.replaceAll("Action", "Act"))],
    ["no JSON", ({ text }) => vouched(text.slice(1))],
    ["a text of another version of us", ({ text, kept }) => next(text, kept, { version: "2" })],
    ["other files", ({ text, kept }) => next(text, kept, { files: () => good("b") })],
    [
      "another registry",
      ({ text, kept }) => next(text, kept, { entities: () => ({ path: "/e", text: "users: []" }) }),
    ],
  ])("reads everything anew with %s", async (_name, make) => {
    const { policies, host } = make(await earlier());
    await policies.load("start");
    expect([host.opened, policies.state().state]).toEqual([1, "ready"]);
  });

  test("what was disagreed about stays so", async () => {
    const first = startPolicies();
    await first.policies.load("test");
    const { policies, answer } = startPolicies({
      memory: { kept: "", disputed: [String(first.records[0]?.data["compiled"])] },
    });
    await policies.load("start");
    expect([policies.state().state, answer().code]).toEqual(["disagreed", "policy-disagreed"]);
  });

  test("what was disagreed about is also known in other words, and other policies are not it", async () => {
    const first = startPolicies();
    await first.policies.load("test");
    const memory = { kept: "", disputed: [String(first.records[0]?.data["compiled"])] };
    const { policies, answer, host, records } = startPolicies({ memory });
    host.files = small(
      '// a comment\n@advice("nothing") @id("a")\n  permit (principal, action == Action::"recall", resource);',
      CASE("a"),
    );
    await policies.load("start");
    expect(records[0]?.data["digest"]).not.toBe(first.policies.digest());
    expect(answer().code).toBe("policy-disagreed");
    host.files = good("b");
    await policies.load("start");
    expect([answer().decision, policies.state().why]).toEqual(["allow", ""]);
    expect(readPolicyMemory({ disputed: ["a", 3], kept: 3 })).toEqual({ kept: "", disputed: ["a"] });
    expect(readPolicyMemory({ disputed: "a" })).toEqual({ kept: "", disputed: [] });
  });

  test("a disk that takes nothing is no fault", async () => {
    const full = () => {
      throw new BoundaryError("state-unwritable", "full");
    };
    const { policies, answer, records } = startPolicies({ kept: { load: () => null, save: full } });
    await policies.load("start");
    expect([answer().decision, records[0]?.data["kept"]]).toEqual(["allow", ""]);
  });
});
