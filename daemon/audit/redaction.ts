import { redactValue } from "../core/redact.ts";
import { mayHoldSecretWithin } from "../core/secret-hint.ts";
import { renderCanonical } from "./canonical.ts";
import type { Data } from "./record.ts";

/**
 * What the log writes about itself: keys in public form, roots, and states folded from records that have been through
 * here. A verifier compares every byte, so they stay as they are. What a record `log.recovered` holds is not of this sort.
 */
const EXACT: ReadonlySet<string> = new Set([
  "seal",
  "log.genesis",
  "log.segment",
  "log.rotated",
  "log.snapshot",
  "log.pruned",
  "token.state",
  "audit.began",
  "audit.core",
  "audit.span",
]);

/** A record's data without secrets, and its canonical JSON. Gives back what it was given when there are none. */
export function withoutSecrets(
  kind: string,
  given: { readonly data: Data; readonly text: string },
): { readonly data: Data; readonly text: string } {
  if (EXACT.has(kind) || !mayHoldSecretWithin(given.data)) return given;
  const data = redactValue(given.data);
  return data === given.data ? given : { data, text: renderCanonical(data) };
}
