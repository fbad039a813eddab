import { afterEach, describe, expect, test } from "vitest";
import { check, requestApproval, showStatus, type ToolResult } from "../../../cli/mcp/tools.ts";
import { type BoundaryClient, connect } from "../../../client/client.ts";
import { problem } from "../../../daemon/protocol/problem.ts";
import { type Behaviour, type FakeDaemon, fakeDaemon } from "../../support/fake-daemon.ts";

const fakes: FakeDaemon[] = [];
const clients: BoundaryClient[] = [];
afterEach(async () => {
  for (const client of clients.splice(0)) client.close();
  for (const fake of fakes.splice(0)) await fake.stop();
});

async function given(table: Readonly<Record<string, Behaviour>>): Promise<BoundaryClient> {
  const fake = await fakeDaemon(table);
  const client = connect({ socket: fake.socket, deadlineMs: 2_000 });
  fakes.push(fake);
  clients.push(client);
  return client;
}

const said = ({ content: [first] }: ToolResult) => JSON.parse(first?.text ?? "") as Record<string, unknown>;
const QUESTION = { action: { name: "command.run" }, resource: { type: "command", id: "bash" } };
const EVALUATION = { reason: ["r"], mode: "OPEN", assurance: "enforced", correlationId: "1" };
const DENY = { ...EVALUATION, decision: false, code: "role-required" };
const WAITS = { data: { ...DENY, askPerson: true, approval: "ap-7" } };

describe("request approval", () => {
  test("a denial that carries an approval waits for a person", async () => {
    const client = await given({ check: WAITS });
    expect(said(await requestApproval(client, { question: QUESTION, waitMs: 0 }))).toMatchObject({
      state: "pending",
      approval: "ap-7",
      next: "a person runs: boundaryctl approvals show ap-7",
    });
  });

  test.each([
    ["approved", "do the same again, exactly: it is allowed once"],
    ["denied", "it is not allowed; do not ask for it again unless something has changed"],
    ["pending", "a person runs: boundaryctl approvals show ap-7"],
    ["anything newer", "it is not allowed; do not ask for it again unless something has changed"],
  ])("what has become of it: %s", async (state, next) => {
    const client = await given({ check: WAITS, "approvals.wait": { data: { id: "ap-7", state } } });
    for (const wish of [{ question: QUESTION }, { approval: "ap-7" }]) {
      const result = await requestApproval(client, { ...wish, waitMs: 10 });
      expect(said(result)).toEqual({ state, approval: "ap-7", next });
    }
    expect(fakes[0]?.requests.map(({ verb }) => verb)).toEqual(["check", "approvals.wait", "approvals.wait"]);
    expect(fakes[0]?.requests[1]?.params).toEqual({ id: "ap-7", forMs: 10 });
  });

  test("what is allowed already is told as the one allow that it is", async () => {
    const client = await given({ check: { data: { ...EVALUATION, decision: true } } });
    expect(said(await requestApproval(client, { question: QUESTION, waitMs: 0 }))).toMatchObject({
      state: "allowed",
    });
  });

  test("a denial that no person can lift, and a daemon that is not there, leave nothing to wait for", async () => {
    const denied = await given({ check: { data: DENY } });
    const broken = await given({ check: "close" });
    for (const client of [denied, broken]) {
      const result = await requestApproval(client, { question: QUESTION, waitMs: 10 });
      expect(said(result)).toMatchObject({ state: "impossible", answer: { decision: false } });
    }
  });

  test.each<readonly [string, Behaviour, string]>([
    ["a daemon without approvals", { problem: problem("verb-unknown", "x") }, "verb-unknown"],
    ["an approval that is not there", { problem: problem("not-found", "x") }, "not-found"],
    ["a reply without a state", { data: {} }, "reply-invalid"],
    ["a broken connection", "close", "no-daemon"],
  ])("%s is an error that says so", async (_what, reply, code) => {
    const client = await given({ "approvals.wait": reply });
    const result = await requestApproval(client, { approval: "ap-7", waitMs: 0 });
    expect(result.isError).toBe(true);
    expect(said(result)).toMatchObject({ code });
  });

  test("takes a question or an approval, not both and not neither", async () => {
    const client = await given({});
    for (const wish of [{}, { question: QUESTION, approval: "ap-7" }]) {
      expect(await requestApproval(client, { ...wish, waitMs: 0 })).toMatchObject({ isError: true });
    }
  });
});

test("text of the daemon's cannot steer whoever shows it", async () => {
  const hostile = "\u001b[2J\u202e\u2028";
  const client = await given({
    check: { data: { ...DENY, wouldAllow: hostile, reason: [hostile] } },
    status: { problem: problem("role-required", hostile) },
  });
  for (const result of [await check(client, QUESTION), await showStatus(client)])
    expect(result.content[0]?.text).not.toMatch(/[\p{Cc}\p{Cf}\u2028\u2029]/u);
});
