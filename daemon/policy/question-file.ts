import { z } from "zod";
import type { AccessRequest } from "../core/access.ts";
import { parseStrictJson } from "../core/json.ts";
import { PropertiesSchema } from "./properties-schema.ts";

const MAX_DEPTH = 32;
const Properties = PropertiesSchema.default({});
const QuestionSchema = z.strictObject({
  subject: z.strictObject({ type: z.string(), id: z.string(), properties: Properties }),
  action: z.strictObject({ name: z.string(), properties: Properties }),
  resource: z.strictObject({ type: z.string(), id: z.string(), properties: Properties }),
  context: Properties,
});

/** Reads a question as AuthZEN writes it, as JSON text; or says why it is none. */
export function parseQuestion(
  text: string,
): { readonly request: AccessRequest } | { readonly problem: string } {
  const json = parseStrictJson(text, { maxDepth: MAX_DEPTH });
  if (!json.ok) return { problem: `this is no JSON (${json.code})` };
  const read = QuestionSchema.safeParse(json.value);
  if (!read.success) {
    const told = read.error.issues.map((issue) => `${issue.path.join(".") || "question"}: ${issue.message}`);
    return { problem: told.join("; ") };
  }
  return { request: read.data };
}
