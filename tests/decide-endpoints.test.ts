import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { AccessRequest, Evaluation } from "../daemon/core/access.ts";
import { createEndpoints } from "../daemon/decide-endpoints.ts";
import type { DecisionService, HttpAnswer, HttpHead } from "../daemon/ports.ts";
import { evaluationOf, fixtureService, TOKEN } from "./support/authzen-fixture.ts";
import { quiet } from "./support/decide-server.ts";

const PEER = { pid: 1, uid: 1, gid: 1, groups: [1] };
const HEAD: HttpHead = {
  method: "POST",
  target: "/access/v1/evaluation",
  authorization: `Bearer ${TOKEN}`,
  contentType: "application/json",
  contentEncoding: null,
};
const question = (id: string, name = "read") => ({
  subject: { type: "user", id: "alice" },
  action: { name },
  resource: { type: "record", id },
});

async function answerOf(
  service: DecisionService,
  head: Partial<HttpHead>,
  body: unknown = question("record-1"),
): Promise<HttpAnswer> {
  const endpoints = createEndpoints({ service, identifier: "https://localhost", opLog: quiet });
  const next = endpoints({ ...HEAD, ...head }, PEER);
  return typeof next === "function" ? next(Buffer.from(JSON.stringify(body))) : next;
}
const codeIn = ({ body }: HttpAnswer) => (body as { code?: string }).code;

describe("before the body", () => {
  const rows: readonly [what: string, head: Partial<HttpHead>, status: number, code: string][] = [
    ["no token", { authorization: null }, 401, "token-required"],
    ["a token nobody knows", { authorization: "Bearer bd_x" }, 401, "token-required"],
    ["another scheme", { authorization: `Basic ${TOKEN}` }, 401, "token-required"],
    ["two tokens in one", { authorization: `Bearer ${TOKEN} ${TOKEN}` }, 401, "token-required"],
    ["a token with something behind it", { authorization: `Bearer ${TOKEN},x` }, 401, "token-required"],
    ["the token alone", { authorization: TOKEN }, 401, "token-required"],
    ["another path", { target: "/access/v1/evaluation/" }, 404, "path-unknown"],
    ["a query", { target: "/access/v1/evaluation?a=1" }, 404, "path-unknown"],
    ["another case", { target: "/Access/v1/evaluation" }, 404, "path-unknown"],
    ["an encoded path", { target: "/access/v1/%65valuation" }, 404, "path-unknown"],
    ["a path up", { target: "/access/v1/x/../evaluation" }, 404, "path-unknown"],
    ["*", { target: "*", method: "OPTIONS" }, 404, "path-unknown"],
    ["another method", { method: "GET" }, 405, "method-unknown"],
    ["a method in another case", { method: "post" }, 405, "method-unknown"],
    ["POST for the metadata", { target: "/.well-known/authzen-configuration" }, 405, "method-unknown"],
    ["no media type", { contentType: null }, 400, "media-type"],
    ["another media type", { contentType: "application/jsonx" }, 400, "media-type"],
    ["another charset", { contentType: "application/json; charset=utf-16" }, 400, "media-type"],
    ["a compressed body", { contentEncoding: "gzip" }, 415, "content-coding"],
  ];
  test.each(rows)("%s", async (_what, head, status, code) => {
    const service = fixtureService();
    const answer = await answerOf(service, head);
    expect([answer.status, codeIn(answer)]).toEqual([status, code]);
    expect(answer.headers["Content-Type"]).toBe("application/problem+json");
    expect(answer.headers["WWW-Authenticate"] !== undefined).toBe(status === 401);
    expect(answer.headers["Allow"] !== undefined).toBe(status === 405);
    expect(service.asked).toEqual([]);
  });

  test("only of a token that was shown is said that it is none (RFC 6750)", async () => {
    const without = await answerOf(fixtureService(), { authorization: null });
    expect(without.headers["WWW-Authenticate"]).toBe('Bearer realm="boundary-daemon"');
    const unknown = await answerOf(fixtureService(), { authorization: "Bearer bd_x" });
    expect(unknown.headers["WWW-Authenticate"]).toContain('error="invalid_token"');
    expect(JSON.stringify(unknown)).not.toContain("bd_x");
  });

  test.each([
    { authorization: `bearer ${TOKEN}` },
    { contentType: "Application/JSON ; charset=UTF-8" },
    { contentType: 'application/json;charset="utf-8"' },
    { contentEncoding: "identity" },
    { target: "http://localhost/access/v1/evaluation" },
    { target: "https://pdp.example.com:8443/access/v1/evaluation" },
  ])("%o is as good", async (head) => {
    expect((await answerOf(fixtureService(), head)).status).toBe(200);
  });

  test("whatever headers come, there is an answer; only the token itself opens", async () => {
    const text = fc.oneof(
      fc.constant(null),
      fc.string({ unit: "binary", maxLength: 60 }),
      fc.string({ maxLength: 60 }).map((rest) => `Bearer ${rest}`),
      fc.constantFrom(
        `Bearer ${TOKEN}`,
        `Bearer ${TOKEN}=`,
        `Bearer ${TOKEN.slice(0, -1)}`,
        `Bearer ${"a".repeat(8_000)} `,
      ),
    );
    const path = fc.constantFrom(
      "/access/v1/evaluation",
      "/access/v1/evaluations",
      "/access/v1/search/action",
      "/",
      "//",
      "",
    );
    await fc.assert(
      fc.asyncProperty(
        text,
        text,
        text,
        path,
        async (authorization, contentType, contentEncoding, target) => {
          const heads = { authorization, contentEncoding, target };
          const told = [
            await answerOf(fixtureService(), { ...heads, contentType }),
            await answerOf(fixtureService(), { ...heads, contentType: "application/json" }),
          ];
          for (const { status } of told) {
            expect([200, 400, 401, 404, 415]).toContain(status);
            if (authorization !== `Bearer ${TOKEN}`) expect([401, 404]).toContain(status);
          }
        },
      ),
      { numRuns: 400 },
    );
  });

  test("the service hears who showed what, also when it is nothing", async () => {
    const heard: unknown[] = [];
    const identify = (text: string | null, peer: object) => {
      heard.push([text, peer]);
      return null;
    };
    await answerOf(fixtureService({ identify }), { authorization: null });
    await answerOf(fixtureService({ identify }), { authorization: "Bearer abc" });
    expect(heard).toEqual([
      [null, PEER],
      ["abc", PEER],
    ]);
  });
});

describe("answers", () => {
  test("our reasons are in context", async () => {
    const evaluation = evaluationOf(false, {
      wouldAllow: "it in OPEN",
      askPerson: true,
      approval: "a-1",
      correlationId: "17",
    });
    const answer = await answerOf(fixtureService({ evaluator: { evaluate: async () => evaluation } }), {});
    const { decision, ...context } = evaluation;
    expect(answer).toEqual({
      status: 200,
      headers: { "Content-Type": "application/json" },
      body: { decision, context },
    });
  });

  test("a limit that was met is 429, says when, and is a denial in the body too", async () => {
    const evaluate = async () =>
      evaluationOf(false, { code: "too-many-requests", retryable: true, retryAfterMs: 1_001 });
    const answer = await answerOf(fixtureService({ evaluator: { evaluate } }), {});
    expect([answer.status, answer.headers["Retry-After"]]).toEqual([429, "2"]);
    expect(answer.body).toMatchObject({ decision: false, context: { retryAfterMs: 1_001 } });
    const search = async () => ({ ok: false, code: "too-many-requests", why: "", retryAfterMs: 5 }) as const;
    const searched = await answerOf(fixtureService({ search }), { target: "/access/v1/search/action" });
    expect([searched.status, searched.headers["Retry-After"], codeIn(searched)]).toEqual([
      429,
      "1",
      "too-many-requests",
    ]);
  });

  test("a search whose answer has lapsed is to be asked again", async () => {
    const search = async () => ({ ok: false, code: "answer-lapsed", why: "", retryAfterMs: 0 }) as const;
    const { status, headers } = await answerOf(fixtureService({ search }), {
      target: "/access/v1/search/action",
    });
    expect([status, headers["Retry-After"]]).toEqual([503, "1"]);
  });

  const broken = () => {
    throw new Error("a bug with secrets");
  };
  test.each([
    ["the evaluator throws", { evaluator: { evaluate: broken } }, {}],
    ["the evaluator rejects", { evaluator: { evaluate: async () => broken() } }, {}],
    ["identify throws", { identify: broken }, {}],
    ["search throws", { search: broken }, { target: "/access/v1/search/action" }],
  ])("%s: 500, and nothing of why", async (_what, service, head) => {
    const answer = await answerOf(fixtureService(service), head);
    expect([answer.status, codeIn(answer)]).toEqual([500, "internal"]);
    expect(JSON.stringify(answer)).not.toContain("secrets");
  });
});

describe("evaluations", () => {
  const all = (items: readonly object[], semantic?: string) => ({
    evaluations: items,
    ...(semantic ? { options: { evaluations_semantic: semantic } } : {}),
  });
  const ask = async (service: DecisionService, body: object) => {
    const answer = await answerOf(service, { target: "/access/v1/evaluations" }, body);
    return (
      answer.body as {
        evaluations: { decision: boolean; context: { code: string; correlationId?: string } }[];
      }
    ).evaluations;
  };
  const yes = question("record-1");
  const no = question("record-1", "fly");

  test.each([
    ["execute_all", [yes, no, yes], [true, false, true]],
    ["deny_on_first_deny", [yes, no, yes], [true, false]],
    ["deny_on_first_deny", [yes, {}, yes], [true, false]],
    ["deny_on_first_deny", [yes, yes], [true, true]],
    ["permit_on_first_permit", [no, {}, yes, no], [false, false, true]],
    ["permit_on_first_permit", [no, no], [false, false]],
  ])("%s", async (semantic, items, decisions) => {
    const service = fixtureService();
    const answered = await ask(service, all(items, semantic));
    expect(answered.map(({ decision }) => decision)).toEqual(decisions);
  });

  test("what was not reached was not asked", async () => {
    const service = fixtureService();
    await ask(service, all([no, question("record-2")], "deny_on_first_deny"));
    expect(service.asked.map(({ resource }) => resource.id)).toEqual(["record-1"]);
  });

  test("the same question is asked once, whatever the order of its names", async () => {
    const service = fixtureService();
    const other = { resource: yes.resource, context: {}, action: yes.action, subject: yes.subject };
    const answered = await ask(service, all([yes, no, other, yes]));
    expect(service.asked).toHaveLength(2);
    expect(answered.map(({ context }) => context.correlationId)).toEqual(["1", "2", "1", "1"]);
  });

  test("all are asked in their order, before the first is answered", async () => {
    const order: string[] = [];
    const gates: ((answer: Evaluation) => void)[] = [];
    const evaluate = (_caller: unknown, { resource }: AccessRequest) => {
      order.push(resource.id);
      return new Promise<Evaluation>((resolve) => gates.push(resolve));
    };
    const answered = ask(
      fixtureService({ evaluator: { evaluate } }),
      all(["a", "b", "c"].map((id) => question(id))),
    );
    await expect.poll(() => order).toEqual(["a", "b", "c"]);
    for (const [at, open] of gates.entries()) open(evaluationOf(at !== 1));
    expect((await answered).map(({ decision }) => decision)).toEqual([true, false, true]);
  });

  test("one that fails is denied; the others are answered", async () => {
    const evaluate = async (_caller: unknown, { resource }: AccessRequest) => {
      if (resource.id === "bad") throw new Error("a bug with secrets");
      return evaluationOf(true);
    };
    const answered = await ask(
      fixtureService({ evaluator: { evaluate } }),
      all([question("bad"), question("good"), {}]),
    );
    expect(answered.map(({ decision }) => decision)).toEqual([false, true, false]);
    expect(answered.map(({ context }) => context.code)).toEqual(["internal", "allowed", "request-invalid"]);
    expect(JSON.stringify(answered)).not.toContain("secrets");
  });
});
