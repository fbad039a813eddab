import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { EXTENSION_FUNCTIONS } from "../../daemon/policy/cedar-extensions.ts";
import {
  addLong,
  divideLong,
  type Long,
  longOf,
  moduloLong,
  multiplyLong,
  subtractLong,
} from "../../daemon/policy/cedar-long.ts";
import { CONSTRUCTOR_TEXTS } from "./cedar-arbitrary.ts";
import { cedarSays, type World, weSay } from "./cedar-oracle.ts";

type Name = keyof typeof CONSTRUCTOR_TEXTS;
const NAMES = Object.keys(CONSTRUCTOR_TEXTS) as readonly Name[];
const ALPHABET: Readonly<Record<Name, string>> = {
  decimal: "0123456789.-+e ",
  ip: "0123459af:./ g",
  datetime: "0123456789-:TZ.+",
  duration: "0123456789dhms-",
};

/** A text that is taken, or nearly: one that is known, with some characters put in, taken out or changed. */
function nearly(name: Name): fc.Arbitrary<string> {
  const char = fc.constantFrom("", "", ...ALPHABET[name], "\u0661", "\n");
  const edit = fc.tuple(fc.nat(), fc.nat({ max: 2 }), char);
  return fc
    .tuple(fc.constantFrom<string>(...CONSTRUCTOR_TEXTS[name]), fc.array(edit, { maxLength: 3 }))
    .map(([text, edits]) =>
      edits.reduce((all, [place, length, put]) => {
        const at = place % (all.length + 1);
        return all.slice(0, at) + put + all.slice(at + length);
      }, text),
    );
}

/** One policy that holds where the text is taken, and some that hold where its value is what they say. */
function worldOf(name: Name, texts: readonly [string, string]): World {
  const made = (at: number) => ({ [name]: [{ Value: texts[at] }] });
  const conditions = {
    taken: { "==": { left: made(0), right: made(0) } },
    same: { "==": { left: made(0), right: made(1) } },
    ...(name === "decimal" ? { less: { lessThan: [made(0), made(1)] } } : {}),
    ...(name === "ip" ? { within: { isInRange: [made(0), made(1)] } } : {}),
    ...(name === "datetime" || name === "duration"
      ? { less: { "<": { left: made(0), right: made(1) } } }
      : {}),
  };
  const scope = { principal: { op: "All" }, action: { op: "All" }, resource: { op: "All" } };
  const policies = Object.entries(conditions).map(([id, body]) => [
    id,
    { effect: "permit", ...scope, conditions: [{ kind: "when", body }] },
  ]);
  const uid = { type: "User", id: "a" };
  return {
    policies: { staticPolicies: Object.fromEntries(policies) },
    entities: [],
    requests: [{ principal: uid, action: { type: "Action", id: "a" }, resource: uid, context: {} }],
  };
}

describe.each(NAMES)("%s", (name) => {
  test("takes what cedar-wasm takes, and as the same value", () => {
    const texts = fc.tuple(nearly(name), nearly(name));
    fc.assert(
      fc.property(texts, (pair) => {
        const world = worldOf(name, pair);
        expect(weSay(world)).toEqual(cedarSays(world));
      }),
      { numRuns: 400 },
    );
  });

  test("fails in Cedar's way for any text and for anything else", () => {
    const call = EXTENSION_FUNCTIONS.get(name)?.call;
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.integer(), fc.boolean(), nearly(name)), (value) => {
        try {
          expect(call?.([value])).toMatchObject({ kind: name === "ip" ? "ipaddr" : name });
        } catch (thrown) {
          expect(thrown).toEqual({ failure: expect.any(String) });
        }
      }),
    );
  });
});

describe("a Long", () => {
  const exact = fc.oneof(
    fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
    fc.bigInt({ min: -5n, max: 5n }),
    fc.bigInt({ min: 2n ** 53n - 3n, max: 2n ** 53n + 3n }),
    fc.bigInt({ min: -(2n ** 53n) - 3n, max: 3n - 2n ** 53n }),
    fc.bigInt({ min: -(2n ** 32n), max: 2n ** 32n }),
  );
  const short = (value: bigint) => longOf(value) as Long;

  test.each([
    ["+", addLong, (a: bigint, b: bigint) => a + b],
    ["-", subtractLong, (a: bigint, b: bigint) => a - b],
    ["*", multiplyLong, (a: bigint, b: bigint) => a * b],
  ] as const)("%s is exact, or overflows", (_name, ours, theirs) => {
    fc.assert(
      fc.property(exact, exact, (a, b) => {
        expect(ours(short(a), short(b))).toStrictEqual(longOf(theirs(a, b)));
      }),
      { numRuns: 2_000 },
    );
  });

  test("is divided towards zero, with a remainder that is not negative", () => {
    fc.assert(
      fc.property(exact, fc.constantFrom(1_000, 60_000, 3_600_000, 86_400_000), (a, by) => {
        expect(divideLong(short(a), by)).toStrictEqual(longOf(a / BigInt(by)));
        expect(moduloLong(short(a), by)).toBe(Number(((a % BigInt(by)) + BigInt(by)) % BigInt(by)));
      }),
    );
  });

  test("is a number while that is exact, and nothing beyond 64 bits", () => {
    expect(longOf(2n ** 53n - 1n)).toBe(Number.MAX_SAFE_INTEGER);
    expect(longOf(2n ** 53n)).toBe(2n ** 53n);
    expect(longOf(2n ** 63n)).toBeNull();
    expect(longOf(-(2n ** 63n) - 1n)).toBeNull();
  });
});
