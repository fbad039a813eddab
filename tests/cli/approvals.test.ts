import { afterEach, describe, expect, test } from "vitest";
import type { ApprovalView } from "../../daemon/protocol/messages.ts";
import { problem } from "../../daemon/protocol/problem.ts";
import { boundaryctl, type Ran } from "../support/boundaryctl.ts";
import { type FakeDaemon, fakeDaemon } from "../support/fake-daemon.ts";

const ONE: ApprovalView = {
  id: "3f2a90c1d4e5",
  state: "pending",
  what: 'who   Agent "a"\nwhat  tool.run\nto    tool "curl" {"reach":"network"}',
  digest: "ab".repeat(32),
  uid: 1000,
  tokenId: "t2",
  principal: 'Agent "a"',
  askedAt: "2026-01-01T00:00:00.000Z",
  until: "2026-01-01T00:10:00.000Z",
  by: "",
  why: "",
};

let daemon: FakeDaemon | undefined;
const fakes: FakeDaemon[] = [];
afterEach(async () => {
  for (const fake of fakes.splice(0)) await fake.stop();
});

async function run(behaviours: Parameters<typeof fakeDaemon>[0], ...args: string[]): Promise<Ran> {
  daemon = await fakeDaemon(behaviours);
  fakes.push(daemon);
  return boundaryctl(["approvals", ...args, "--runtime-dir", daemon.runtimeDir]);
}

describe("approvals", () => {
  test("list shows what waits, a line each", async () => {
    const ran = await run({ "approvals.list": { data: { approvals: [ONE] } } }, "list");
    expect(ran).toMatchObject({ code: 0, stderr: "" });
    expect(ran.stdout).toBe(
      '3f2a90c1d4e5  pending  until 2026-01-01T00:10:00.000Z  uid 1000  what  tool.run; to    tool "curl" {"reach":"network"}\n',
    );
    const none = await run({ "approvals.list": { data: { approvals: [] } } }, "list");
    expect(none.stdout).toBe("nothing waits for a person\n");
  });

  test("show says all of what would be allowed, and who asks", async () => {
    const { code, stdout } = await run({ "approvals.show": { data: ONE } }, "show", ONE.id);
    expect(code).toBe(0);
    for (const part of [
      "exactly this",
      "uid 1000, token t2",
      '  | to    tool "curl" {"reach":"network"}',
      ONE.digest,
    ])
      expect(stdout).toContain(part);
  });

  test("text of whoever asked cannot steer the terminal, or pass for a line of ours", async () => {
    const hostile = `\u001b]0;owned\u0007\u202e\napproval   it is harmless`;
    const data = { ...ONE, what: hostile, principal: hostile, id: hostile, state: hostile };
    for (const more of [[], ["--json"]]) {
      const ran = await run({ "approvals.show": { data } }, "show", ONE.id, ...more);
      expect(ran.stdout.replaceAll("\n", "")).not.toMatch(/[\p{Cc}\p{Cf}]/u);
      expect(ran.stdout).not.toMatch(/^approval {3}it is harmless/m);
    }
  });

  test("approve takes a terminal to ask at, or --yes; and sends what it was given", async () => {
    const behaviours = {
      "approvals.show": { data: ONE },
      "approvals.approve": { data: { ...ONE, state: "approved", by: "eve" } },
    };
    const asked = await run(behaviours, "approve", ONE.id);
    expect(asked).toMatchObject({ code: 2, stdout: "" });
    expect(daemon?.requests.map(({ verb }) => verb)).toEqual(["approvals.show"]);
    const said = await run(behaviours, "approve", ONE.id, "--yes");
    expect(said).toMatchObject({ code: 0, stderr: "" });
    expect(said.stdout).toContain("approved   3f2a90c1d4e5, once, until");
    expect(daemon?.requests.at(-1)).toMatchObject({ verb: "approvals.approve", params: { id: ONE.id } });
  });

  test("a refusal is 1, with its code, and when to try again", async () => {
    const own = problem("approval-own", "it is your own");
    const ran = await run(
      { "approvals.show": { data: ONE }, "approvals.approve": { problem: own } },
      "approve",
      ONE.id,
      "--yes",
    );
    expect(ran).toMatchObject({ code: 1, stdout: "" });
    expect(ran.stderr).toContain("code: approval-own");
    const limited = problem("rate-limited", "the limit of this user is reached", 12_001);
    const again = await run({ "approvals.list": { problem: limited } }, "list");
    expect(again.stderr).toContain("again: in 13 s");
  });

  test("deny says so", async () => {
    const ran = await run({ "approvals.deny": { data: { ...ONE, state: "denied" } } }, "deny", ONE.id);
    expect(ran).toMatchObject({ code: 0, stdout: "denied     3f2a90c1d4e5\n" });
  });
});
