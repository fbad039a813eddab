import { ERRORS, type ErrorCode } from "../core/errors.ts";
import { redactText } from "../core/redact.ts";
import type { Problem } from "./messages.ts";

/** RFC 9457 problem details for a code. `detail` says what happened this time; title and hint come from the code. */
export function problem(code: ErrorCode, detail: string): Problem {
  return {
    type: `urn:boundary:error:${code}`,
    title: code.replaceAll("-", " "),
    code,
    detail: redactText(detail), // it repeats what a caller sent, and is printed
    hint: ERRORS[code].hint,
    category: ERRORS[code].category,
    severity: ERRORS[code].severity,
  };
}
