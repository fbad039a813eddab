import { z } from "zod";
import { BoundaryError } from "../core/errors.ts";
import type { Ruling } from "./cedar-question.ts";

const RulingSchema = z.union([
  z.strictObject({
    decision: z.enum(["allow", "deny"]),
    reasons: z.array(z.string()),
    errors: z.array(z.string()),
  }),
  z.strictObject({ refused: z.string() }),
]);

/**
 * A referee's ruling, sorted. Throws "policy-disagreed" where Cedar would not take the question (it does not fit the
 * schema: then it should not have been asked), and "policy-invalid" for anything else.
 */
export function readRuling(text: string): Ruling {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new BoundaryError("policy-invalid", "reading a referee's ruling", { cause });
  }
  const read = RulingSchema.safeParse(value);
  if (!read.success) throw new BoundaryError("policy-invalid", "reading a referee's ruling");
  if ("refused" in read.data)
    throw new BoundaryError("policy-disagreed", `Cedar does not take the question: ${read.data.refused}`);
  const { decision, reasons, errors } = read.data;
  return { decision, reasons: reasons.toSorted(), errors: errors.toSorted() };
}
