import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ACTIONS } from "../../daemon/core/access.ts";
import { readToken, tokenData } from "../../daemon/core/grant-data.ts";
import { noGrants, putToken } from "../../daemon/core/grants.ts";
import { MODES } from "../../daemon/core/mode.ts";
import { isSubjectPattern, parsePrincipal, patternCovers } from "../../daemon/core/principal.ts";
import { type Terms, type Token, widerTerms } from "../../daemon/core/token.ts";
import { sameTree, scopeOf, standingOf, type Tokens } from "../../daemon/core/token-standing.ts";
import { ALL_TERMS, childOf, principals, resources, START_MS, terms, tokenOf } from "../support/tokens.ts";

const tokensOf = (...list: readonly Token[]): Tokens => list.reduce(putToken, noGrants()).tokens;
const showing = { uid: 1000, privilege: "OPEN", nowMs: START_MS } as const;

const questions = fc.record({
  request: fc.record({
    subject: principals.map((each) => ({ ...each, properties: {} })),
    action: fc.constantFrom(...ACTIONS.slice(0, 4)).map((name) => ({ name, properties: {} })),
    resource: resources.map((each) => ({ ...each, properties: {} })),
  }),
  uid: fc.integer({ min: 0, max: 2 }),
  privilege: fc.constantFrom(...MODES),
  nowMs: fc.integer({ min: START_MS, max: START_MS + 12 }),
});

type Question = typeof questions extends fc.Arbitrary<infer Q> ? Q : never;

const may = (tokens: Tokens, id: string, question: Question): boolean =>
  standingOf(tokens, id, question).ok && scopeOf(tokens, id, question.request) === null;

/** Narrowed by taking the parent's terms wherever the wish is wider: what is left is a child. */
function narrowedBy(parent: Terms, wish: Terms): Terms {
  let child = parent;
  for (const name of Object.keys(wish)) {
    const next = { ...child, [name]: wish[name as keyof Terms] };
    if (widerTerms(parent, next).length === 0) child = next;
  }
  return child;
}

describe("narrowing only narrows", () => {
  test("whatever a child may, each of its ancestors may", () => {
    let allowed = 0;
    const property = fc.property(
      fc.array(terms, { minLength: 2, maxLength: 5 }),
      fc.array(questions, { minLength: 20, maxLength: 60 }),
      (wishes, asked) => {
        const line: Token[] = [tokenOf("0", { ...ALL_TERMS, ...wishes[0] })];
        for (const [at, wish] of wishes.slice(1).entries()) {
          const parent = line.at(-1) ?? tokenOf("0");
          line.push(childOf(parent, `${at + 1}`, narrowedBy(parent, wish)));
        }
        const tokens = tokensOf(...line);
        const youngest = line.at(-1)?.id ?? "";
        for (const question of asked) {
          if (!may(tokens, youngest, question)) continue;
          allowed++;
          for (const each of line) expect(may(tokens, each.id, question)).toBe(true);
        }
      },
    );
    fc.assert(property, { numRuns: 300 });
    expect(allowed).toBeGreaterThan(0);
  });

  test("terms that are said to be no wider allow nothing that the parent does not", () => {
    fc.assert(
      fc.property(terms, terms, fc.array(questions, { maxLength: 20 }), (parent, child, asked) => {
        if (widerTerms(parent, child).length > 0) return;
        const alone = tokensOf(tokenOf("p", parent), tokenOf("c", child));
        for (const question of asked) {
          if (may(alone, tokenOf("c").id, question)) expect(may(alone, tokenOf("p").id, question)).toBe(true);
        }
      }),
      { numRuns: 2_000 },
    );
  });

  test.each<[name: string, parent: Partial<Terms>, child: Partial<Terms>]>([
    ["principal", { subjects: [] }, { principal: { type: "Agent", id: "x" } }],
    ["role", { role: "readonly" }, { role: "operator" }],
    ["actions", { actions: ["recall"] }, { actions: "all" }],
    ["actions", { actions: ["recall"] }, { actions: ["recall", "tool.run"] }],
    [
      "resources",
      { resources: [{ type: "memory", id: "a*" }] },
      { resources: [{ type: "memory", id: "*" }] },
    ],
    ["resources", { resources: [{ type: "memory", id: "a*" }] }, { resources: [{ type: "tool", id: "a" }] }],
    ["subjects", { subjects: ["Agent::a*"] }, { subjects: ["Agent::*"] }],
    ["maxMode", { maxMode: "TRUSTED" }, { maxMode: "AIRGAP" }],
    ["expires", {}, { expiresAtMs: ALL_TERMS.expiresAtMs + 1 }],
    ["uses", { uses: 3 }, { uses: 4 }],
    ["uses", { uses: 3 }, { uses: null }],
    ["uid", { uid: 1000 }, { uid: 1001 }],
    ["uid", { uid: 1000 }, { uid: null }],
  ])("%s: more than the parent has is refused, with what would be allowed", (name, parent, child) => {
    const before = { ...ALL_TERMS, ...parent };
    const wider = widerTerms(before, { ...before, ...child });
    expect(wider).toHaveLength(1);
    expect(wider[0]).toMatch(new RegExp(`^${name}: .`));
    expect(widerTerms(before, before)).toEqual([]);
  });
});

describe("every ancestor is looked at", () => {
  const root = tokenOf("root");
  const cases: readonly (readonly [code: string, change: Partial<Token>])[] = [
    ["token-revoked", { revokedAtMs: START_MS }],
    ["token-expired", { expiresAtMs: START_MS }],
    ["token-spent", { uses: 0 }],
    ["token-peer", { uid: 1 }],
    ["token-suspended", { maxMode: "OPEN" }],
  ];
  test.each(cases)("%s", (code, change) => {
    const middle = childOf(root, "middle");
    const leaf = childOf(middle, "leaf");
    const at = { ...showing, privilege: code === "token-suspended" ? "RESTRICTED" : "OPEN" } as const;
    for (const bad of [root, middle, leaf]) {
      const tokens = tokensOf(
        ...[root, middle, leaf].map((each) => (each === bad ? { ...each, ...change } : each)),
      );
      expect(standingOf(tokens, leaf.id, at)).toMatchObject({ ok: false, code });
    }
    expect(standingOf(tokensOf(root, middle, leaf), leaf.id, at)).toMatchObject({ ok: true });
  });

  test("one whose ancestor is not known is not known", () => {
    const leaf = childOf(root, "leaf");
    expect(standingOf(tokensOf(leaf), leaf.id, showing)).toMatchObject({ code: "token-unknown" });
  });

  test("tokens of one tree are told from others", () => {
    const [one, two] = [childOf(root, "one"), childOf(root, "two")];
    const tokens = tokensOf(root, one, two, tokenOf("other"));
    expect(sameTree(tokens, one.id, two.id)).toBe(true);
    expect(sameTree(tokens, one.id, root.id)).toBe(true);
    expect(sameTree(tokens, one.id, tokenOf("other").id)).toBe(false);
    expect(sameTree(tokens, "0".repeat(16), "1".repeat(16))).toBe(false);
  });
});

describe("in a record", () => {
  test("a token is what it was, whatever it holds", () => {
    fc.assert(
      fc.property(terms, fc.boolean(), fc.option(fc.nat()), (some, warned, revokedAtMs) => {
        const token = tokenOf("t", { ...some, warned, revokedAtMs });
        expect(readToken(JSON.parse(JSON.stringify(tokenData(token))))).toEqual(token);
      }),
    );
  });

  test("what is none is none", () => {
    const good = tokenData(tokenOf("t", { parent: "0".repeat(16), depth: 1 }));
    expect(readToken(good)).not.toBeNull();
    for (const name of ["id", "digest", "principal", "role", "maxMode", "expires", "made", "by"]) {
      const { [name]: _gone, ...rest } = good;
      expect(readToken(rest), name).toBeNull();
    }
    const values = [-1, "", "x", ["x"], {}];
    for (const name of Object.keys(good)) {
      for (const value of values) {
        if (readToken({ ...good, [name]: value }) !== null) expect(["subjects", "parent"]).toContain(name);
      }
    }
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        expect(readToken(value as never)).toBeNull();
      }),
    );
  });
});

test("a principal is a type and an id, and nothing else", () => {
  expect(parsePrincipal("Agent::build-7")).toEqual({ type: "Agent", id: "build-7" });
  for (const bad of [
    "Agent",
    "Agent::",
    "agent::a",
    "Agent::a::b",
    "Agent::a b",
    "Agent::*",
    "__proto__::a",
    "",
  ])
    expect(parsePrincipal(bad), bad).toBeNull();
  for (const good of ["Agent::*", "User::a*", "Service::a"]) expect(isSubjectPattern(good)).toBe(true);
  for (const bad of ["*", "Agent::**", "Agent::a*b", "Role::*"])
    expect(isSubjectPattern(bad), bad).toBe(false);
});

test("a pattern covers what it begins, and a word itself alone", () => {
  expect([patternCovers("a*", "abc"), patternCovers("a*", "ab*"), patternCovers("*", "x*")]).toEqual([
    true,
    true,
    true,
  ]);
  expect([patternCovers("a", "ab"), patternCovers("ab*", "a*"), patternCovers("a", "a*")]).toEqual([
    false,
    false,
    false,
  ]);
});
