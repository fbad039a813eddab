import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { world } from "./cedar-arbitrary.ts";
import { cedarSays, weSay } from "./cedar-oracle.ts";

/**
 * Ours against cedar-wasm on random policies, entities and requests. BOUNDARY_CEDAR_WORLDS sets how many worlds of
 * four questions each; BOUNDARY_CEDAR_SEED where they start.
 */
const WORLDS = Number(process.env["BOUNDARY_CEDAR_WORLDS"] ?? 400);
const SEED = process.env["BOUNDARY_CEDAR_SEED"];

describe("the compiled evaluator", () => {
  test("gives cedar-wasm's decision, reasons and erring policies", { timeout: 20_000 + WORLDS * 100 }, () => {
    const seen = { asked: 0, refused: 0, allowed: 0, erring: 0 };
    fc.assert(
      fc.property(world, (one) => {
        const cedar = cedarSays(one);
        expect(weSay(one)).toEqual(cedar);
        for (const told of cedar) {
          seen.asked++;
          if (told === "refused") seen.refused++;
          else if (told.decision === "allow") seen.allowed++;
          if (told !== "refused" && told.errors !== "") seen.erring++;
        }
      }),
      { numRuns: WORLDS, ...(SEED === undefined ? {} : { seed: Number(SEED) }) },
    );
    if (process.env["BOUNDARY_CEDAR_WORLDS"] !== undefined) console.log(seen);
    // the worlds are worth their time: all kinds of answers came up
    for (const count of [seen.refused, seen.allowed, seen.erring]) expect(count).toBeGreaterThan(0);
    expect(seen.refused).toBeLessThan(seen.asked / 4);
  });
});
