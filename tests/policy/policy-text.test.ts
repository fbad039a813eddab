import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  MAX_NESTING,
  MAX_OPERATORS,
  nestingFault,
  outline,
  positionOf,
  unitsOf,
} from "../../daemon/policy/policy-text.ts";

const texts = (text: string) => outline(text).statements.map(({ at, end }) => text.slice(at, end));

describe("outline", () => {
  test("tells statements apart, whatever stands in strings and comments", () => {
    const text = `// one; of (((\n@id("a;(\\"(")\npermit(principal,action,resource); // rest\r forbid(principal,action,resource)when{"//"==";"};\n`;
    expect(texts(text)).toEqual([
      '@id("a;(\\"(")\npermit(principal,action,resource);',
      'forbid(principal,action,resource)when{"//"==";"};',
    ]);
    expect(outline(text).fault).toBeNull();
  });

  test("leaves no text over: what no ';' ends is a fault where it begins", () => {
    expect(outline("permit(principal,action,resource);\n  forbid").fault).toEqual({
      at: 37,
      problem: "no ';' ends this",
    });
    expect(outline(" // nothing\n").fault).toBeNull();
  });

  test("counts brackets of all kinds together, and not those in strings and comments", () => {
    const nested = (depth: number) => `${"([{".repeat(Math.ceil(depth / 3)).slice(0, depth)};`;
    expect(outline(`"${"(".repeat(200)}" // ${"(".repeat(200)}\n;`).fault).toBeNull();
    expect(outline(nested(MAX_NESTING)).fault?.problem).toBe("no ';' ends this");
    expect(outline(nested(MAX_NESTING + 1)).fault).toEqual({
      at: MAX_NESTING,
      problem: `nested deeper than ${MAX_NESTING}`,
    });
  });

  test.each(["&&", "||", "+", "*", "-", ".a", "< 1 <", "in", "has", "like", "is", "if"])(
    "counts a chain of %s",
    (operator) => {
      const chain = `permit(principal,action,resource)when{${`x ${operator} `.repeat(MAX_OPERATORS + 1)}x};`;
      expect(outline(chain).fault?.problem).toBe(`more than ${MAX_OPERATORS} operators in one policy`);
      expect(outline(`${chain.slice(0, 200)}};`).fault).toBeNull();
    },
  );

  test("counts operators by the policy, and takes no part of a name for one", () => {
    const some = `permit(principal,action,resource)when{${"a && ".repeat(300)}a};`;
    expect(outline(some.repeat(5)).fault).toBeNull();
    const names = `permit(principal,action,resource)when{[${"inside, ifs, this, hash, ".repeat(500)}1]};`;
    expect(outline(names).fault).toBeNull();
  });

  test("never throws, is in order, and loses nothing but blanks and comments", () => {
    const piece = fc.constantFrom(
      ";",
      '"',
      "\\",
      "//",
      "\n",
      "\r",
      "(",
      ")",
      "{",
      "}",
      "a",
      " ",
      "é",
      "🙂",
      "if",
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 200 }), (pieces) => {
        const text = pieces.join("");
        const { statements, fault } = outline(text);
        let last = 0;
        for (const { start, end, at } of statements) {
          expect(start).toBe(last);
          expect(at).toBeGreaterThanOrEqual(start);
          expect(text.charAt(end - 1)).toBe(";");
          last = end;
        }
        if (fault === null)
          expect(
            text
              .slice(last)
              .replaceAll(/\/\/[^\n\r]*/g, "")
              .trim(),
          ).toBe("");
      }),
    );
  });
});

test("a schema's nesting counts angle brackets too", () => {
  expect(nestingFault(`entity A { a: ${"Set<".repeat(MAX_NESTING + 1)}String };`)?.problem).toBe(
    `nested deeper than ${MAX_NESTING}`,
  );
  expect(
    nestingFault(`entity A { a: ${"Set<".repeat(30)}String${">".repeat(30)} }; // ${"<".repeat(99)}`),
  ).toBeNull();
});

test("places are told in lines and columns, from bytes", () => {
  const text = "é🙂\nab";
  expect([0, 2, 6, 7, 8, 99, -1].map((bytes) => unitsOf(text, bytes))).toEqual([0, 1, 3, 4, 5, 6, 0]);
  expect(positionOf(text, 5)).toEqual({ line: 2, column: 2 });
  expect(positionOf(text, 0)).toEqual({ line: 1, column: 1 });
});
