/**
 * An expression that came to no value. It is thrown, for an error in Cedar leaves every operator but not the policy;
 * it is no Error, because a stack that nobody reads would cost more than the whole decision.
 */
export type Failure = { readonly failure: string };

export function failure(message: string): Failure {
  return { failure: message };
}

/** What to tell of something that was thrown while a policy was evaluated. */
export function failureText(thrown: unknown): string {
  if (typeof thrown === "object" && thrown !== null && "failure" in thrown) return String(thrown.failure);
  return thrown instanceof Error ? `${thrown.name}: ${thrown.message}` : String(thrown);
}
