import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { compilePattern, type Pattern } from "../../daemon/exec/pattern.ts";

function pattern(source: string): Pattern {
  const compiled = compilePattern(source);
  if ("problem" in compiled) throw new Error(compiled.problem);
  return compiled;
}

/** Patterns of what is known, written as JavaScript writes them, too. */
const { source } = fc.letrec<{ source: string; atom: string }>((tie) => ({
  atom: fc.oneof(
    { maxDepth: 2, withCrossShrink: true },
    fc.constantFrom("a", "b", "-", "\\.", ".", "\\d", "\\w", "[ab]", "[^ab]", "[a-c-]", "[\\]x]", "\\n", "é"),
    tie("source").map((inner) => `(${inner})`),
  ),
  source: fc
    .array(
      fc
        .array(fc.tuple(tie("atom"), fc.constantFrom("", "", "*", "+", "?", "{2}", "{1,3}", "{0,}")), {
          maxLength: 4,
        })
        .map((parts) => parts.map(([atom, count]) => atom + count).join("")),
      { minLength: 1, maxLength: 3 },
    )
    .map((parts) => parts.join("|")),
}));
const text = fc.string({
  unit: fc.constantFrom("a", "b", "c", "x", "-", ".", "]", "1", "_", "\n", "é"),
  maxLength: 6,
});

describe("patterns", () => {
  test("agree with regular expressions that are anchored on both sides", () => {
    fc.assert(
      fc.property(source, text, (written, subject) => {
        const compiled = compilePattern(written);
        if ("problem" in compiled) return; // too long or too large: said, not guessed
        expect(compiled.matches(subject)).toBe(new RegExp(`^(?:${written})$`, "u").test(subject));
      }),
      { numRuns: 1_000 },
    );
  });

  test("whatever is given is a pattern or a problem", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary", maxLength: 40 }), (written) => {
        const compiled = compilePattern(written);
        expect("problem" in compiled ? compiled.problem : compiled.source).toEqual(expect.any(String));
      }),
    );
  });

  test.each([
    "^a",
    "a$",
    "(?:a)",
    "(?=a)",
    "a**",
    "a*?",
    "[",
    "[]",
    "(",
    ")",
    "{2}",
    "a{3,2}",
    "\\b",
    "\\1",
    "a{999}",
    "[z-a]",
    "x".repeat(513),
  ])("%s is refused", (written) => {
    expect(compilePattern(written)).toEqual({ problem: expect.any(String) });
  });

  // those that take a backtracking matcher years
  test.each([["(a*)*b"], ["(a|a)*b"], ["(a+)+b"], ["(.*)*(.*)*(.*)*b"], ["(a?){100}a{100}b"]])(
    "%s has an end",
    (written) => {
      expect(pattern(written).matches("a".repeat(20_000))).toBe(false);
    },
  );
});
