import { z } from "zod";
import { BoundaryError } from "../core/errors.ts";
import { describeRuling, type Ruling, sameRuling } from "./cedar-question.ts";

const RulingsSchema = z.array(
  z.union([
    z.strictObject({
      decision: z.enum(["allow", "deny"]),
      reasons: z.array(z.string()),
      errors: z.array(z.string()),
    }),
    z.strictObject({ refused: z.string() }),
  ]),
);

/** What Cedar said of a question: its ruling, or why it does not take it (then it should not have been asked). */
export type Judged = Ruling | { readonly refused: string };

/** Reads a referee's answers, sorted within. Throws "policy-invalid" where they are not as many, or no answers. */
export function readJudged(value: unknown, count: number): readonly Judged[] {
  const read = RulingsSchema.safeParse(value);
  if (!read.success || read.data.length !== count)
    throw new BoundaryError("policy-invalid", "reading a referee's answers: they are none");
  return read.data.map((one) =>
    "refused" in one ? one : { ...one, reasons: one.reasons.toSorted(), errors: one.errors.toSorted() },
  );
}

/** How two engines differ on a question, for people; "" where they agree. */
export function disagreement(ours: Ruling, theirs: Judged): string {
  if ("refused" in theirs) return `Cedar does not take the question: ${theirs.refused}`;
  return sameRuling(ours, theirs)
    ? ""
    : `Cedar says ${describeRuling(theirs)}; compiled, it is ${describeRuling(ours)}`;
}
