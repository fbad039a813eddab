import { BoundaryError, ERRORS } from "../daemon/core/errors.ts";
import type { Problem } from "../daemon/protocol/messages.ts";

/** A refusal of the daemon's as an error. A code that a newer daemon has and we have not is told in the text. */
export function refusalOf({ code, detail, title }: Problem): BoundaryError {
  if (Object.hasOwn(ERRORS, code)) return new BoundaryError(code, detail || title);
  return new BoundaryError("reply-invalid", `refused with ${code}: ${detail || title}`);
}
