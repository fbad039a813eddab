import { createHash, timingSafeEqual } from "node:crypto";
import type { AccessRequest, Evaluation, Properties, SearchQuery } from "../../daemon/core/access.ts";
import { createSearch } from "../../daemon/decide-search.ts";
import type { DecisionService } from "../../daemon/ports.ts";
import { openDoor } from "./open-door.ts";

/** A token as real ones look, and known to nobody else. */
export const TOKEN = `bd_${Buffer.alloc(32, 7).toString("base64url")}`;
export const TOKEN_ID = "token-1";

/** The fixture of the AuthZEN 1.0 certification scenario: what is known, and its eight rules. */
const USERS: Readonly<Record<string, Properties>> = { alice: {}, bob: { role: "admin" } };
const RECORDS: Readonly<Record<string, Properties>> = {
  "record-1": { status: "active" },
  "record-2": { status: "archived" },
};

export function fixtureDecides({ subject, action, resource }: AccessRequest): boolean {
  const known = USERS[subject.id];
  const record = RECORDS[resource.id];
  if (subject.type !== "user" || resource.type !== "record" || !known || !record) return false;
  const { role } = { ...known, ...subject.properties };
  const { status } = { ...record, ...resource.properties };
  switch (action.name) {
    case "read":
      return true;
    case "write":
      return status === "archived" ? role === "admin" : subject.id === "alice";
    case "delete":
      return subject.id === "alice" && action.properties["soft"] === true;
    default:
      return false;
  }
}

function candidates(query: SearchQuery): readonly string[] {
  switch (query.kind) {
    case "subject":
      return query.subject.type === "user" ? Object.keys(USERS) : [];
    case "resource":
      return query.resource.type === "record" ? Object.keys(RECORDS) : [];
    case "action":
      return ["read", "write", "delete"];
  }
}

export function evaluationOf(decision: boolean, more: Partial<Evaluation> = {}): Evaluation {
  return {
    decision,
    code: decision ? "allowed" : "role-required",
    reason: ["fixture"],
    mode: "RESTRICTED",
    assurance: "observed",
    correlationId: "",
    wouldAllow: "",
    askPerson: false,
    approval: "",
    retryable: false,
    retryAfterMs: 0,
    ...more,
  };
}

/** A service that keeps the fixture, numbers what it was asked, and knows one token. */
export function fixtureService(more: Partial<DecisionService> = {}): DecisionService & {
  readonly asked: readonly AccessRequest[];
} {
  const asked: AccessRequest[] = [];
  return {
    asked,
    identify: (text) => (text !== null && isToken(text) ? TOKEN_ID : null),
    evaluator: {
      evaluate: async (_caller, request) => {
        const correlationId = String(asked.push(request));
        return evaluationOf(fixtureDecides(request), { correlationId });
      },
    },
    search: createSearch({
      door: openDoor,
      candidates,
      probe: (_caller, request) => fixtureDecides(request),
    }),
    ...more,
  };
}

function isToken(text: string): boolean {
  const digest = (each: string) => createHash("sha256").update(each).digest();
  return timingSafeEqual(digest(text), digest(TOKEN));
}
