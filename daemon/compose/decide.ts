import { ACTIONS, type Evaluator, type SearchQuery } from "../core/access.ts";
import { createEvaluator, type DecideParts, limited } from "../decide.ts";
import { createSearch } from "../decide-search.ts";
import type { LimitDesk } from "../limits.ts";
import type { Policies } from "../policies.ts";
import { entityTypeOf } from "../policy/registry.ts";
import type { DecisionService } from "../ports.ts";
import type { Tokens } from "../tokens.ts";

/** The one evaluator, and what decide.sock has of it. */
export function openDecisions(
  parts: Omit<DecideParts, "tokens"> & {
    readonly tokens: Tokens;
    readonly limits: LimitDesk;
    readonly policies: Policies;
  },
): { readonly evaluator: Evaluator; readonly service: DecisionService } {
  const evaluator = createEvaluator(parts);
  const service: DecisionService = {
    identify: (text) => (text === null ? null : parts.tokens.identify(text)),
    evaluator: limited(evaluator, parts.limits, parts),
    search: createSearch({
      candidates: (query) => candidatesFor(parts.policies, query),
      probe: evaluator.probe,
    }),
  };
  return { evaluator, service };
}

/** What the registry knows of that kind. */
function candidatesFor(policies: Policies, query: SearchQuery): readonly string[] {
  const current = policies.current();
  if (query.kind === "action") return ACTIONS;
  if (current === null) return [];
  const { registry, set } = current;
  if (query.kind === "subject")
    return registry.principals.filter(({ type }) => type === query.subject.type).map(({ id }) => id);
  const type = entityTypeOf(set.shapes, query.resource.type);
  return registry.resources.filter((each) => each.type === type).map(({ id }) => id);
}
