import type { AccessRequest, Caller, SearchQuery } from "./core/access.ts";
import type { DecisionService } from "./ports.ts";

/** So many are tried for one page, found or not: then the caller has to ask on. */
const MAX_TRIED = 1_000;
/** Tried in one turn of the loop. */
const PER_TURN = 32;

/**
 * Search by trying: everything the registry knows of what is asked for is put into the question, and what would be
 * allowed is found. `candidates`: ids (names, for actions) in any order, without repeats; [] for a type that nobody
 * knows. `probe`: whether that would be allowed now, without a record and without using anything up.
 */
export function createSearch({
  candidates,
  probe,
}: {
  readonly candidates: (query: SearchQuery) => readonly string[];
  readonly probe: (caller: Caller, request: AccessRequest) => boolean;
}): DecisionService["search"] {
  return async (caller, query, { after, limit }) => {
    // by UTF-16 code units: the same order for every page, whatever comes or goes between two
    const left = candidates(query)
      .filter((id) => after === null || id > after)
      .toSorted((a, b) => (a < b ? -1 : 1));
    const ids: string[] = [];
    for (const [index, id] of left.entries()) {
      if (ids.length === limit || index === MAX_TRIED)
        return { ok: true, ids, next: left[index - 1] ?? after ?? "" };
      if (index % PER_TURN === PER_TURN - 1) await new Promise((resolve) => setImmediate(resolve));
      if (probe(caller, requestWith(query, id))) ids.push(id);
    }
    return { ok: true, ids, next: null };
  };
}

function requestWith(query: SearchQuery, id: string): AccessRequest {
  const { context } = query;
  switch (query.kind) {
    case "subject":
      return { subject: { ...query.subject, id }, action: query.action, resource: query.resource, context };
    case "resource":
      return { subject: query.subject, action: query.action, resource: { ...query.resource, id }, context };
    case "action":
      return {
        subject: query.subject,
        action: { name: id, properties: {} },
        resource: query.resource,
        context,
      };
  }
}
