import type { DecisionService } from "../ports.ts";

/**
 * What decide.sock asks: tokens, the evaluator, the registry's search (decide-search.ts). null: the socket is not there.
 * STEP 4: composed here when tokens, limits and policy are in.
 */
export function decisionService(): DecisionService | null {
  return null;
}
