import type { AccessRequest, Caller, Evaluation } from "./core/access.ts";
import { renderErrorChain } from "./core/errors.ts";
import { stableText } from "./core/search-page.ts";
import type { DecisionService, HttpAnswer, HttpEndpoints, HttpHead, OpLog, Peer } from "./ports.ts";
import { type Evaluations, readEvaluation, readEvaluations, readSearch } from "./protocol/authzen.ts";
import {
  configurationAnswer,
  decisionOf,
  evaluationAnswer,
  evaluationsAnswer,
  itemRefusal,
  PATHS,
  refusal,
  searchAnswer,
} from "./protocol/authzen-reply.ts";

type Asked = (caller: Caller, body: Buffer) => Promise<HttpAnswer>;

const MEDIA_TYPE = /^application\/json[ \t]*(?:;[ \t]*charset=(?:utf-8|"utf-8")[ \t]*)?$/i;
const BEARER = /^Bearer +([A-Za-z0-9._~+/-]+=*)$/i;

/**
 * What is answered on decide.sock: path, method, token, form of the body, and then the question itself. The metadata is
 * for anybody who can connect; for everything else a token has to be shown.
 */
export function createEndpoints({
  service,
  identifier,
  opLog,
}: {
  readonly service: DecisionService;
  /** An https URL without a path: what `policy_decision_point` says. Never taken from a request. */
  readonly identifier: string;
  readonly opLog: OpLog;
}): HttpEndpoints {
  const asked = new Map<string, Asked>([
    [PATHS.evaluation, evaluate],
    [PATHS.evaluations, evaluateAll],
    [PATHS.subject, (caller, body) => search("subject", caller, body)],
    [PATHS.resource, (caller, body) => search("resource", caller, body)],
    [PATHS.action, (caller, body) => search("action", caller, body)],
  ]);

  function answer(head: HttpHead, peer: Peer): ReturnType<HttpEndpoints> {
    const path = pathOf(head.target);
    if (path === PATHS.configuration) {
      if (head.method === "GET" || head.method === "HEAD") return configurationAnswer(identifier);
      return refusal("method-unknown", `${PATHS.configuration} takes GET`, { Allow: "GET, HEAD" });
    }
    const ask = asked.get(path);
    if (ask === undefined) return refusal("path-unknown", "there is nothing at this path");
    if (head.method !== "POST") return refusal("method-unknown", "this path takes POST", { Allow: "POST" });
    const text = head.authorization === null ? null : (BEARER.exec(head.authorization)?.[1] ?? null);
    const token = service.identify(text, peer);
    if (token === null) return unidentified(head.authorization !== null);
    if (head.contentEncoding !== null && head.contentEncoding.toLowerCase() !== "identity")
      return refusal("content-coding", "the body is encoded");
    if (head.contentType === null || !MEDIA_TYPE.test(head.contentType))
      return refusal("media-type", "the body is not said to be application/json");
    const caller: Caller = { ...peer, token };
    return (body) => ask(caller, body).catch(failed);
  }

  async function evaluate(caller: Caller, body: Buffer): Promise<HttpAnswer> {
    const read = readEvaluation(body);
    if (!read.ok) return refusal(read.code, read.why);
    return evaluationAnswer(await service.evaluator.evaluate(caller, read.value));
  }

  async function evaluateAll(caller: Caller, body: Buffer): Promise<HttpAnswer> {
    const read = readEvaluations(body);
    if (!read.ok) return refusal(read.code, read.why);
    if (read.value.kind === "one")
      return evaluationAnswer(await service.evaluator.evaluate(caller, read.value.request));
    return evaluationsAnswer(await decideAll(caller, read.value));
  }

  async function decideAll(
    caller: Caller,
    { items, semantic }: Extract<Evaluations, { kind: "many" }>,
  ): Promise<readonly object[]> {
    const once = askedOnce((request) => service.evaluator.evaluate(caller, request));
    const decide = async (item: (typeof items)[number]): Promise<{ allow: boolean; told: object }> => {
      if (!item.ok) return { allow: false, told: itemRefusal(item) };
      try {
        const evaluation = await once(item.value);
        return { allow: evaluation.decision, told: decisionOf(evaluation) };
      } catch (error) {
        opLog.error({ err: renderErrorChain(error) }, "a decision failed");
        return { allow: false, told: itemRefusal({ code: "internal", why: "nothing was allowed" }) };
      }
    };
    if (semantic === "execute_all") return (await Promise.all(items.map(decide))).map(({ told }) => told);
    const told: object[] = [];
    for (const item of items) {
      const decided = await decide(item);
      told.push(decided.told);
      if (decided.allow === (semantic === "permit_on_first_permit")) break;
    }
    return told;
  }

  async function search(
    kind: "subject" | "resource" | "action",
    caller: Caller,
    body: Buffer,
  ): Promise<HttpAnswer> {
    const read = readSearch(kind, body);
    if (!read.ok) return refusal(read.code, read.why);
    return searchAnswer(read.value, await service.search(caller, read.value.query, read.value.page));
  }

  function failed(error: unknown): HttpAnswer {
    opLog.error({ err: renderErrorChain(error) }, "a question over HTTP failed");
    return refusal("internal", "the request failed inside the daemon; nothing was allowed");
  }

  return (head, peer) => {
    try {
      return answer(head, peer);
    } catch (error) {
      return failed(error);
    }
  };
}

/** RFC 6750: nothing is said of the error where no credentials were shown. */
function unidentified(shown: boolean): HttpAnswer {
  const challenge = 'Bearer realm="boundary-daemon"';
  return shown
    ? refusal("token-required", "nobody knows this token", {
        "WWW-Authenticate": `${challenge}, error="invalid_token"`,
      })
    : refusal("token-required", "no token was shown", { "WWW-Authenticate": challenge });
}

/** The path of a request's target, in the form that is sent to a server or to a proxy (RFC 9112, section 3.2). */
function pathOf(target: string): string {
  return /^https?:\/\/[^/]*(\/.*)$/i.exec(target)?.[1] ?? target;
}

/** Within one request the same question is asked once, and has one record. */
function askedOnce(
  ask: (request: AccessRequest) => Promise<Evaluation>,
): (request: AccessRequest) => Promise<Evaluation> {
  const asked = new Map<string, Promise<Evaluation>>();
  return (request) => {
    const key = stableText(request);
    const before = asked.get(key);
    if (before !== undefined) return before;
    const now = ask(request);
    asked.set(key, now);
    return now;
  };
}
