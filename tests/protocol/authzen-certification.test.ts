import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ask as askAt, type DecideServer, IDENTIFIER, startDecide } from "../support/decide-server.ts";

/**
 * The certification scenario of the OpenID AuthZEN Authorization API 1.0 (openid/authzen,
 * certification/authorization-api-1_0-scenario.md), section by section, over the real socket. The policy behind it is
 * the scenario's own fixture (tests/support/authzen-fixture.ts): it certifies the protocol, not the policy. TLS is not
 * here: a Unix socket has none.
 */
let server: DecideServer;
beforeAll(async () => {
  server = await startDecide();
});
afterAll(() => server.stop());

type Body = Readonly<Record<string, unknown>>;
const post = (target: string, body: unknown, headers: Readonly<Record<string, string>> = {}) =>
  askAt(server.path, target, body, { headers });
const evaluate = (body: unknown, headers?: Readonly<Record<string, string>>) =>
  post("/access/v1/evaluation", body, headers);
const evaluateAll = (body: unknown) => post("/access/v1/evaluations", body);

const user = (id: string, properties?: Body) => ({ type: "user", id, ...(properties ? { properties } : {}) });
const record = (id: string, properties?: Body) => ({
  type: "record",
  id,
  ...(properties ? { properties } : {}),
});
const action = (name: string, properties?: Body) => ({ name, ...(properties ? { properties } : {}) });
const asking = (subject: unknown, does: unknown, resource: unknown, more: Body = {}) => ({
  subject,
  action: does,
  resource,
  ...more,
});
const alice = user("alice");
const bob = user("bob");
const admin = user("bob", { role: "admin" });
const archived = record("record-2", { status: "archived" });
const one = record("record-1");

describe("2 Basic: Access Evaluation", () => {
  const rows: readonly [what: string, body: Body, decision: boolean][] = [
    ["2.2.1 rule 1", asking(alice, action("read"), one), true],
    ["rule 2", asking(alice, action("write"), one), true],
    ["rule 3", asking(bob, action("read"), one), true],
    ["2.2.2 rule 4", asking(bob, action("write"), one), false],
    [
      "2.2.3 context",
      asking(alice, action("read"), one, { context: { time: "2025-06-27T18:03-07:00", ip: "192.168.1.1" } }),
      true,
    ],
    ["2.2.4 rule 5", asking(alice, action("write"), archived), false],
    ["2.2.5 rule 6", asking(admin, action("write"), archived), true],
    ["2.2.6 rule 7", asking(alice, action("delete", { soft: true }), one), true],
    ["2.2.7 rule 8", asking(alice, action("delete", { soft: false }), one), false],
    [
      "2.2.8 additional properties",
      asking(
        user("alice", { department: "Sales", role: "manager" }),
        action("read", { method: "GET" }),
        record("record-1", { status: "active", owner: "bob" }),
      ),
      true,
    ],
    [
      "2.2.9 unknown fields",
      asking(alice, action("read"), one, { foo: "bar", futureField: { nested: true } }),
      true,
    ],
  ];
  test.each(rows)("%s", async (_what, body, decision) => {
    const reply = await evaluate(body);
    expect(reply.status).toBe(200);
    expect(reply.headers["content-type"]).toBe("application/json");
    expect(reply.json.decision).toBe(decision);
    expect(typeof reply.json.context).toBe("object");
  });

  const bad: readonly [what: string, body: unknown][] = [
    ["2.4.1 no subject", { action: action("read"), resource: one }],
    ["2.4.1 no action", { subject: alice, resource: one }],
    ["2.4.1 no resource", { subject: alice, action: action("read") }],
    ["2.4.2 subject.type", asking({ id: "alice" }, action("read"), one)],
    ["2.4.2 subject.id", asking({ type: "user" }, action("read"), one)],
    ["2.4.2 action.name", asking(alice, {}, one)],
    ["2.4.2 resource.type", asking(alice, action("read"), { id: "record-1" })],
    ["2.4.2 resource.id", asking(alice, action("read"), { type: "record" })],
    ["2.4.4 malformed", '{"subject":'],
    ["2.4.5 empty", ""],
    ["2.4.6 subject is text", asking("alice", action("read"), one)],
    ["2.4.6 action.name is a number", asking(alice, { name: 123 }, one)],
  ];
  test.each(bad)("%s is 400", async (_what, body) => {
    const reply = await evaluate(body);
    expect(reply.status).toBe(400);
    expect(reply.headers["content-type"]).toBe("application/problem+json");
    expect(typeof reply.json.code).toBe("string");
  });

  test("2.4.3 another content type is 400", async () => {
    const reply = await evaluate(asking(alice, action("read"), one), { "Content-Type": "text/plain" });
    expect(reply.status).toBe(400);
    expect(reply.json.code).toBe("media-type");
  });

  test("2.5 X-Request-ID comes back, also with an error, and nothing fails without", async () => {
    const id = "bfe9eb29-ab87-4ca3-be83-a1d5d8305716";
    const good = await evaluate(asking(alice, action("read"), one), { "X-Request-ID": id });
    expect(good.headers["x-request-id"]).toBe(id);
    expect((await evaluate("", { "X-Request-ID": id })).headers["x-request-id"]).toBe(id);
    const without = await evaluate(asking(alice, action("read"), one));
    expect(without.status).toBe(200);
    expect(without.headers["x-request-id"]).toBeUndefined();
  });

  test("2.6 the same question has the same answer", async () => {
    for (let turn = 0; turn < 5; turn++) {
      expect((await evaluate(asking(alice, action("read"), one))).json.decision).toBe(true);
      expect((await evaluate(asking(bob, action("write"), one))).json.decision).toBe(false);
    }
  });
});

describe("3 Batch: Access Evaluations", () => {
  const rows: readonly [what: string, body: Body, decisions: readonly (boolean | null)[]][] = [
    [
      "3.2.1 defaults",
      {
        subject: alice,
        action: action("read"),
        evaluations: [{ resource: one }, { resource: record("record-2") }],
      },
      [null, null],
    ],
    [
      "3.2.2 rules 3 and 4, in order",
      { subject: bob, resource: one, evaluations: [{ action: action("read") }, { action: action("write") }] },
      [true, false],
    ],
    [
      "3.2.3 resource properties",
      {
        subject: alice,
        action: action("write"),
        evaluations: [{ resource: record("record-1", { status: "active" }) }, { resource: archived }],
      },
      [true, false],
    ],
    [
      "3.2.4 subject properties",
      { action: action("write"), resource: archived, evaluations: [{ subject: alice }, { subject: admin }] },
      [false, true],
    ],
    [
      "3.2.5 no defaults",
      { evaluations: [asking(alice, action("read"), one), asking(bob, action("write"), one)] },
      [true, false],
    ],
    [
      "3.2.6 context",
      {
        subject: alice,
        action: action("read"),
        context: { time: "2025-06-27T18:03-07:00" },
        evaluations: [
          { resource: one },
          {
            resource: record("record-2"),
            context: { time: "2025-06-27T19:00-07:00", source: "batch-override" },
          },
        ],
      },
      [null, null],
    ],
    [
      "3.2.7 a default lends what an item lacks",
      {
        subject: alice,
        action: action("write"),
        resource: { type: "record" },
        evaluations: [
          { resource: { id: "record-1", properties: { status: "active" } } },
          { resource: archived },
        ],
      },
      [true, false],
    ],
    [
      "3.4.1 an item without a resource is denied, the other is not",
      { subject: alice, action: action("read"), evaluations: [{ resource: one }, {}] },
      [true, false],
    ],
  ];
  test.each(rows)("%s", async (_what, body, decisions) => {
    const { status, json } = await evaluateAll(body);
    expect(status).toBe(200);
    expect(json.decision).toBeUndefined();
    expect(json.evaluations).toHaveLength(decisions.length);
    decisions.forEach((decision, at) => {
      if (decision === null) expect(typeof json.evaluations[at]?.decision).toBe("boolean");
      else expect(json.evaluations[at]?.decision).toBe(decision);
    });
  });

  test.each([
    ["3.4.2 no evaluations", {}],
    ["3.4.3 none in it", { evaluations: [] }],
  ])("%s: as a single evaluation", async (_what, more) => {
    const { status, json } = await evaluateAll(asking(alice, action("read"), one, more));
    expect(status).toBe(200);
    expect(json).toMatchObject({ decision: true });
    expect(json.evaluations).toBeUndefined();
  });
});

describe("4 Search", () => {
  const search = (kind: string, body: unknown) => post(`/access/v1/search/${kind}`, body);
  const rows: readonly [what: string, kind: string, body: Body, found: readonly Body[]][] = [
    ["4.2.1", "subject", asking({ type: "user" }, action("read"), one), [alice, bob]],
    [
      "4.2.2 context",
      "subject",
      asking({ type: "user" }, action("read"), one, { context: { ip: "192.0.2.1" } }),
      [alice, bob],
    ],
    ["4.2.4", "subject", asking({ type: "user" }, action("write"), archived), [bob]],
    ["4.3.1", "resource", asking(alice, action("read"), { type: "record" }), [one]],
    ["4.3.3", "resource", asking(admin, action("write"), { type: "record" }), [record("record-2")]],
    ["4.4.1", "action", { subject: alice, resource: one }, [action("read"), action("write")]],
    [
      "4.4.2 context",
      "action",
      { subject: alice, resource: one, context: { ip: "192.0.2.1" } },
      [action("read"), action("write")],
    ],
    ["4.4.3", "action", { subject: admin, resource: archived }, [action("write")]],
  ];
  test.each(rows)("%s finds what is allowed (%s)", async (_what, kind, body, found) => {
    const { status, json } = await search(kind, body);
    expect(status).toBe(200);
    expect(json.results).toEqual(expect.arrayContaining([...found]));
    for (const each of json.results) {
      if (kind === "action") expect(Object.keys(each)).toEqual(["name"]);
      else expect(each["type"]).toBe(kind === "subject" ? "user" : "record");
    }
  });

  test("an id of what is searched for is ignored", async () => {
    const { json } = await search("subject", asking(user("nobody"), action("read"), one));
    expect(json.results).toEqual([alice, bob]);
  });

  test("4.5 pages", async () => {
    const query = asking({ type: "user" }, action("read"), one);
    const first = await search("subject", { ...query, page: { limit: 1 } });
    expect(first.json.results).toEqual([alice]);
    expect(first.json.page).toEqual({ next_token: expect.stringMatching(/^[\w-]+$/), count: 1 });
    const token = first.json.page.next_token;
    const second = await search("subject", { ...query, page: { token } });
    expect(second.json.results).toEqual([bob]);
    expect(second.json.page).toEqual({ next_token: "", count: 1 });
    expect((await search("subject", { ...query, page: { token, limit: 1 } })).json.results).toEqual([bob]);
    for (const changed of [
      { ...query, page: { token, limit: 2 } },
      { ...query, action: action("write"), page: { token } },
      { ...query, page: { token: "made-up" } },
    ]) {
      const refused = await search("subject", changed);
      expect([refused.status, refused.json.code]).toEqual([400, "page-invalid"]);
    }
  });

  test.each([
    ["4.6.1 an unknown id", "action", { subject: user("nonexistent-user"), resource: one }],
    ["4.6.2 an unknown type", "subject", asking({ type: "spaceship" }, action("read"), one)],
  ])("%s: nothing is found, and nothing is wrong", async (_what, kind, body) => {
    const { status, json } = await search(kind, body);
    expect([status, json.results]).toEqual([200, []]);
  });

  test.each([
    ["4.7.1 no action", "subject", { subject: { type: "user" }, resource: one }],
    ["4.7.1 no subject", "resource", { action: action("read"), resource: { type: "record" } }],
    ["4.7.1 no resource", "action", { subject: alice }],
    ["4.7.2 resource.id", "subject", asking({ type: "user" }, action("read"), { type: "record" })],
    ["4.7.2 subject.id", "resource", asking({ type: "user" }, action("read"), { type: "record" })],
  ])("%s is 400", async (_what, kind, body) => {
    expect((await search(kind, body)).status).toBe(400);
  });
});

test("6 Discovery: the metadata, which takes no token", async () => {
  const reply = await askAt(server.path, "/.well-known/authzen-configuration", undefined, {
    headers: { Authorization: "" },
  });
  expect(reply.status).toBe(200);
  expect(reply.headers["content-type"]).toBe("application/json");
  expect(reply.json).toEqual({
    policy_decision_point: IDENTIFIER,
    access_evaluation_endpoint: `${IDENTIFIER}/access/v1/evaluation`,
    access_evaluations_endpoint: `${IDENTIFIER}/access/v1/evaluations`,
    search_subject_endpoint: `${IDENTIFIER}/access/v1/search/subject`,
    search_resource_endpoint: `${IDENTIFIER}/access/v1/search/resource`,
    search_action_endpoint: `${IDENTIFIER}/access/v1/search/action`,
  });
});
