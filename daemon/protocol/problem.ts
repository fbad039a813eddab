import { ERRORS, type ErrorCode } from "../core/errors.ts";
import { redactText } from "../core/redact.ts";
import type { Problem } from "./messages.ts";

/**
 * RFC 9457 problem details for a code. `detail` says what happened this time; title and hint come from the code.
 * `retryAfterMs`: from when on the same may be let through; 0 where that is not known.
 */
export function problem(code: ErrorCode, detail: string, retryAfterMs = 0): Problem {
  return {
    type: `urn:boundary:error:${code}`,
    title: code.replaceAll("-", " "),
    code,
    detail: redactText(detail), // it repeats what a caller sent, and is printed
    hint: ERRORS[code].hint,
    category: ERRORS[code].category,
    severity: ERRORS[code].severity,
    ...(retryAfterMs > 0 ? { retryAfterMs } : {}),
  };
}
