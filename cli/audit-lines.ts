import type { Client, Outcome } from "../client/control.ts";
import { BoundaryError } from "../daemon/core/errors.ts";

/** Lines of the audit stream from a number on, in order, a reply at a time, up to and with `through`. */
export async function* auditLines(
  client: Client,
  from: number,
  through: number,
): AsyncGenerator<Outcome<readonly string[]>> {
  for (let next = from; next <= through; ) {
    const outcome = await client.call("audit.lines", {
      from: next,
      limit: Math.min(200, through - next + 1),
    });
    if (!outcome.ok) {
      yield outcome;
      return;
    }
    const { lines } = outcome.data as { lines: unknown };
    if (!isTexts(lines) || lines.length > through - next + 1)
      throw new BoundaryError("reply-invalid", "reading the reply to audit.lines: these are no lines");
    if (lines.length === 0) return;
    next += lines.length;
    yield { ok: true, data: lines };
  }
}

function isTexts(value: unknown): value is readonly string[] {
  return Array.isArray(value) && value.every((each) => typeof each === "string");
}
