import type { Frame } from "./frame.ts";
import { type Problem, type Request, RequestSchema } from "./messages.ts";
import { problem } from "./problem.ts";

/** Of what zod says about a request, this much goes back to its sender. */
const MAX_DETAIL_CHARACTERS = 300;
const MAX_ID_CHARACTERS = 64;

export type ReadRequest =
  | { readonly ok: true; readonly request: Request }
  | { readonly ok: false; readonly id: string; readonly problem: Problem };

/** A frame as a request. A refusal carries the id as far as it could be read, "" when not. */
export function parseRequest(frame: Frame): ReadRequest {
  if (frame.kind === "bad")
    return { ok: false, id: "", problem: problem(frame.code, "the frame was not read") };
  const id = idOf(frame.data);
  if (frame.type !== "request") {
    return { ok: false, id, problem: problem("request-invalid", 'the type of a frame has to be "request"') };
  }
  const parsed = RequestSchema.safeParse(frame.data);
  if (parsed.success) return { ok: true, request: parsed.data };
  const detail = parsed.error.issues.map((issue) => `${issue.path.join(".") || "data"}: ${issue.message}`);
  return {
    ok: false,
    id,
    problem: problem("request-invalid", detail.join("; ").slice(0, MAX_DETAIL_CHARACTERS)),
  };
}

function idOf(data: unknown): string {
  if (typeof data !== "object" || data === null || !Object.hasOwn(data, "id")) return "";
  const id: unknown = Reflect.get(data, "id");
  return typeof id === "string" && id.length <= MAX_ID_CHARACTERS ? id : "";
}
