import { ACTIONS, type Governor, type SearchQuery } from "../core/access.ts";
import type { Daemon } from "../daemon.ts";
import { createEvaluator, type DecideParts, limited } from "../decide.ts";
import { createSearch, searchDoor } from "../decide-search.ts";
import { createGovernor } from "../decide-verbs.ts";
import type { Denials } from "../denials.ts";
import type { LimitDesk } from "../limits.ts";
import type { Policies } from "../policies.ts";
import { entityTypeOf } from "../policy/registry.ts";
import type { DecisionService, Peer } from "../ports.ts";
import type { Tokens } from "../tokens.ts";

/** The one evaluator, what decide.sock has of it, and what is asked before verbs. */
export function openDecisions(
  parts: Omit<DecideParts, "tokens"> & {
    readonly tokens: Tokens;
    readonly daemon: Pick<Daemon, "refused">;
    readonly denials: Pick<Denials, "refused">;
    readonly limits: LimitDesk;
    readonly policies: Policies;
  },
): {
  readonly evaluator: ReturnType<typeof createEvaluator>;
  readonly governor: Governor;
  readonly service: DecisionService;
} {
  const evaluator = createEvaluator(parts);
  const search = createSearch({
    candidates: (query) => candidatesFor(parts.policies, query),
    probe: evaluator.probe,
    door: searchDoor(parts),
  });
  const service: DecisionService = {
    identify: (text, peer) => {
      if (text === null) return null;
      const id = parts.tokens.identify(text);
      if (id === null) unknownToken(parts, peer);
      return id;
    },
    evaluator: limited(evaluator, parts.limits, parts),
    search: async (...asked) => {
      // as a question does: who asks before there are policies waits for them
      await parts.policies.settled();
      return search(...asked);
    },
  };
  return { evaluator, governor: createGovernor(parts), service };
}

/** It is counted for his uid, beside what may be asked, is recorded, and is a sign of probing. */
function unknownToken(
  { daemon, denials, limits }: Pick<Parameters<typeof openDecisions>[0], "daemon" | "denials" | "limits">,
  { uid, pid }: Peer,
): void {
  const taken = limits.take({ uid, token: null, tokenLabel: "", verb: VERB, kind: "stranger" });
  daemon.refused({ uid, pid, verb: VERB, why: taken.ok ? "token-unknown" : taken.code });
  if (taken.ok) denials.refused({ uid, token: null });
}

const VERB = "check";

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
