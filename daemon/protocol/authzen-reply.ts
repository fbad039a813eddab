import type { Evaluation, Found, SearchQuery } from "../core/access.ts";
import { ERRORS, type ErrorCode } from "../core/errors.ts";
import { renderPageToken } from "../core/search-page.ts";
import type { HttpAnswer } from "../ports.ts";
import type { Search, Unread } from "./authzen.ts";
import { problem } from "./problem.ts";

/** Answers of the AuthZEN Authorization API 1.0, and of HTTP around it. Our reasons are in `context`. */
export const PATHS = {
  evaluation: "/access/v1/evaluation",
  evaluations: "/access/v1/evaluations",
  subject: "/access/v1/search/subject",
  resource: "/access/v1/search/resource",
  action: "/access/v1/search/action",
  configuration: "/.well-known/authzen-configuration",
} as const;

/**
 * HTTP's status for what is wrong with a request, where it is not 400. Another media type is 400, not 415: the
 * certification scenario of AuthZEN 1.0 asks for that.
 */
const STATUS: { readonly [code in ErrorCode]?: number } = {
  "token-required": 401,
  "role-required": 403,
  "peer-unknown": 403,
  "path-unknown": 404,
  "method-unknown": 405,
  "request-timeout": 408,
  "body-too-large": 413,
  "content-coding": 415,
  "headers-too-large": 431,
  "egress-denied": 403,
  "egress-address": 403,
  "egress-name": 403,
  "egress-ended": 403,
  internal: 500,
  "egress-unresolved": 502,
  "egress-unreachable": 502,
  "egress-limit": 503,
  "answer-lapsed": 503,
  "log-unavailable": 503,
  "too-many-connections": 503,
  stopping: 503,
};

/** A limit was met: the answer to a single question, or to a search, is 429 then. */
const LIMITS: ReadonlySet<string> = new Set(["too-many-requests", "rate-limited"]);

/** Problem details (RFC 9457) with the status of the code. `why` says what happened this time. */
export function refusal(
  code: ErrorCode,
  why: string,
  headers: Readonly<Record<string, string>> = {},
): HttpAnswer {
  const status = statusOf(code);
  const waits = status === 429 || status === 503 ? { "Retry-After": "1" } : {};
  return {
    status,
    headers: { "Content-Type": "application/problem+json", ...waits, ...headers },
    body: { status, ...problem(code, why) },
  };
}

/** The answer to one evaluation. A denial is 200 like an allow; where a limit was met, 429 with the same body. */
export function evaluationAnswer(evaluation: Evaluation): HttpAnswer {
  const body = decisionOf(evaluation);
  return LIMITS.has(evaluation.code)
    ? { status: 429, headers: { ...JSON_TYPE, ...retryAfter(evaluation.retryAfterMs) }, body }
    : good(body);
}

export function evaluationsAnswer(decisions: readonly object[]): HttpAnswer {
  return good({ evaluations: decisions });
}

/** `decision` and `context` of an Access Evaluation response. */
export function decisionOf({ decision, ...context }: Evaluation): object {
  return { decision, context };
}

/** The decision on an item that was not asked: it could not be read, or asking it failed. */
export function itemRefusal({ code, why }: Omit<Unread, "ok">): object {
  const status = statusOf(code);
  const message = problem(code, why).detail;
  return {
    decision: false,
    context: {
      code,
      reason: [code],
      retryable: ERRORS[code].lasts === "transient",
      error: { status, message },
    },
  };
}

export function searchAnswer({ query, page }: Search, found: Found): HttpAnswer {
  if (!found.ok) {
    const limited = LIMITS.has(found.code) ? retryAfter(found.retryAfterMs) : {};
    return refusal(found.code, found.why, limited);
  }
  const next_token =
    found.next === null ? "" : renderPageToken(query, { after: found.next, limit: page.limit });
  const results = found.ids.map((id) => entityOf(query, id));
  return good({ page: { next_token, count: results.length }, results });
}

/** Policy Decision Point metadata. `identifier`: an https URL without a path. */
export function configurationAnswer(identifier: string): HttpAnswer {
  return good({
    policy_decision_point: identifier,
    access_evaluation_endpoint: identifier + PATHS.evaluation,
    access_evaluations_endpoint: identifier + PATHS.evaluations,
    search_subject_endpoint: identifier + PATHS.subject,
    search_resource_endpoint: identifier + PATHS.resource,
    search_action_endpoint: identifier + PATHS.action,
  });
}

function entityOf(query: SearchQuery, id: string): object {
  switch (query.kind) {
    case "subject":
      return { type: query.subject.type, id };
    case "resource":
      return { type: query.resource.type, id };
    case "action":
      return { name: id };
  }
}

function statusOf(code: ErrorCode): number {
  return LIMITS.has(code) ? 429 : (STATUS[code] ?? 400);
}

const JSON_TYPE = { "Content-Type": "application/json" } as const;

function good(body: object): HttpAnswer {
  return { status: 200, headers: JSON_TYPE, body };
}

/** Whole seconds, as HTTP has it, and never sooner than it is. */
function retryAfter(ms: number): Readonly<Record<string, string>> {
  return { "Retry-After": String(Math.max(1, Math.ceil(ms / 1_000))) };
}
