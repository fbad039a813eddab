import { describe, expect, test } from "vitest";
import type { AccessRequest } from "../../daemon/core/access.ts";
import type { ApprovalView } from "../../daemon/protocol/messages.ts";
import { FakeClock, settled, startHost, trip } from "../support/host.ts";
import { askAs } from "../support/office.ts";

const ROLES = { roles: { readonly: { users: [1000] }, operator: { users: [1001, 1002] } } };
const AGENT = { uid: 1000, tokenId: "", tree: "", principal: "User 1000" };
const REQUEST: AccessRequest = {
  subject: { type: "User", id: "1000", properties: {} },
  action: { name: "tool.run", properties: {} },
  resource: { type: "tool", id: "curl", properties: { reach: "network" } },
  context: {},
};
const other = (id: string): AccessRequest => ({ ...REQUEST, resource: { ...REQUEST.resource, id } });
type Host = Awaited<ReturnType<typeof startHost>>;
const host = (over: Parameters<typeof startHost>[0] = {}) =>
  startHost({ mode: "RESTRICTED", ...over, config: { ...ROLES, ...(over.config as object) } });

function askedBy(on: Host, request = REQUEST, by = AGENT): string {
  const asked = on.approvals.ask(by, request);
  if (!asked.ok) throw new Error(asked.why);
  return asked.id;
}

async function code(on: Host, uid: number, verb: string, id: string): Promise<string> {
  const reply = await askAs(on, uid, verb, { id });
  return reply.ok ? String(Reflect.get(reply.data, "state")) : reply.problem.code;
}

const list = async (on: Host): Promise<readonly ApprovalView[]> => {
  const reply = await askAs(on, 1001, "approvals.list");
  if (!reply.ok) throw new Error(reply.problem.detail);
  return (reply.data as { approvals: readonly ApprovalView[] }).approvals;
};
const approvalsOf = (on: Host) => on.kinds().filter((kind) => kind.startsWith("approval."));

describe("approvals", () => {
  test("asked, shown, approved by another, used once", async () => {
    const on = await host();
    const id = askedBy(on);
    expect(on.approvals.redeem(AGENT, REQUEST)).toBeNull();
    expect(await list(on)).toMatchObject([
      {
        id,
        state: "pending",
        what: 'who   User "1000"\nwhat  tool.run\nto    tool "curl" {"reach":"network"}',
      },
    ]);
    expect(await code(on, 1001, "approvals.approve", id)).toBe("approved");
    expect(on.approvals.redeem(AGENT, other("wget"))).toBeNull();
    expect(on.approvals.redeem(AGENT, REQUEST)).toBe(id);
    expect(on.approvals.redeem(AGENT, REQUEST)).toBeNull();
    await settled();
    expect(approvalsOf(on)).toEqual(["approval.requested", "approval.approved", "approval.used"]);
    expect(await code(on, 1001, "approvals.show", id)).toBe("used");
    await on.checkInvariants();
  });

  test("never by whoever asked, also when he is an operator; and the attempt is recorded", async () => {
    const on = await host();
    const id = askedBy(on, REQUEST, { ...AGENT, uid: 1001 });
    expect(await code(on, 1001, "approvals.approve", id)).toBe("approval-own");
    expect(await code(on, 1000, "approvals.approve", id)).toBe("role-required");
    await settled();
    expect(
      on.records.filter(({ kind }) => kind === "request.refused").map(({ data }) => data["why"]),
    ).toEqual(["approval-own", "role-required"]);
    expect(await code(on, 1002, "approvals.approve", id)).toBe("approved");
  });

  test("approving takes a terminal, denying none", async () => {
    const on = await host();
    const id = askedBy(on);
    const facts = { terminalOf: () => null, userName: String };
    const approved = await askAs(on, 1001, "approvals.approve", { id }, { facts });
    expect(approved).toMatchObject({ ok: false, problem: { code: "approval-no-terminal" } });
    expect(await askAs(on, 1001, "approvals.deny", { id }, { facts })).toMatchObject({ ok: true });
    expect(on.approvals.ask(AGENT, REQUEST)).toMatchObject({ ok: true, id, state: "denied" });
  });

  test("the requester sees his own and waits for the answer; nobody else's", async () => {
    const on = await host();
    const id = askedBy(on);
    const waiting = askAs(on, 1000, "approvals.wait", { id, forMs: 60_000 });
    expect(await code(on, 1001, "approvals.approve", id)).toBe("approved");
    expect(await waiting).toMatchObject({ ok: true, data: { id, state: "approved", by: "user1001" } });
    expect(await code(on, 1002, "approvals.wait", id)).toBe("approval-unknown");
    expect(await askAs(on, 1002, "approvals.mine")).toMatchObject({ data: { approvals: [] } });
    expect(await askAs(on, 1000, "approvals.mine")).toMatchObject({ data: { approvals: [{ id }] } });
  });

  test("without an answer it is denied after its time, and who waits is told", async () => {
    const on = await host();
    const id = askedBy(on);
    const waiting = askAs(on, 1000, "approvals.wait", { id, forMs: 60_000 });
    on.clock.pass(600_000);
    on.daemon.tick();
    expect(await waiting).toMatchObject({ ok: true, data: { state: "expired", why: "timeout" } });
    expect(await code(on, 1001, "approvals.approve", id)).toBe("approval-unknown");
    await settled();
    expect(approvalsOf(on)).toEqual(["approval.requested", "approval.expired"]);
  });

  test("a trip ends what was approved, LOCKDOWN denies what waits", async () => {
    const on = await host({
      tripwires: [
        trip("link", "network.link", { action: { kind: "trip", to: "RESTRICTED" } }),
        trip("f", "file.changed"),
      ],
    });
    const granted = askedBy(on);
    const open = askedBy(on, other("wget"));
    await code(on, 1001, "approvals.approve", granted);
    on.signal("network.link", { interface: "eth1", change: "up" });
    expect(on.approvals.redeem(AGENT, REQUEST)).toBeNull();
    expect(on.approvals.show(granted)).toMatchObject({ state: "expired", why: "tightened" });
    expect(on.approvals.show(open)).toMatchObject({ state: "pending" });
    on.signal("file.changed", { path: "/etc/watched", change: "modified" });
    expect(on.approvals.show(open)).toMatchObject({ state: "expired", why: "lockdown" });
    expect(on.approvals.ask(AGENT, REQUEST)).toMatchObject({ ok: false, code: "approval-lockdown" });
    await on.checkInvariants();
  });

  test("nothing is approved while the clock is frozen", async () => {
    const on = await host();
    const id = askedBy(on);
    on.signal("clock.moved", { change: "step", milliseconds: "7000" });
    expect(await code(on, 1001, "approvals.approve", id)).toBe("clock-frozen");
  });

  test("over a clean restart what waits waits, for as long as it would have; what was approved lapses with the stop", async () => {
    const clock = new FakeClock();
    const on = await host({ clock });
    const granted = askedBy(on);
    const open = askedBy(on, other("wget"));
    await code(on, 1001, "approvals.approve", granted);
    const waiting = askAs(on, 1000, "approvals.wait", { id: open, forMs: 60_000 });
    const stopping = on.daemon.stop("test");
    expect(on.approvals.redeem(AGENT, REQUEST)).toBeNull();
    expect(on.approvals.ask(AGENT, other("late"))).toMatchObject({ ok: false, code: "stopping" });
    expect(await stopping).toBe("recorded");
    expect(await waiting).toMatchObject({ data: { state: "pending" } });
    expect(on.kinds().slice(-2)).toEqual(["approval.expired", "daemon.stopped"]);
    const { epoch } = on.log.fold();
    const start = { mode: "RESTRICTED", cause: { kind: "resumed", why: "" }, epoch, frozen: "" } as const;
    clock.pass(10_000);
    const again = await host({ clock, before: on.log.fold(), start });
    expect((await list(again)).map(({ id, state }) => [id, state])).toEqual([[open, "pending"]]);
    expect(again.approvals.ask(AGENT, other("wget"))).toMatchObject({ id: open });
    clock.pass(589_999);
    expect(await list(again)).toHaveLength(1);
    clock.pass(1);
    expect(await list(again)).toEqual([]);
  });

  test("a crash is LOCKDOWN, and with it nothing waits", async () => {
    const on = await host();
    const id = askedBy(on);
    await code(on, 1001, "approvals.approve", id);
    await settled();
    const start = { mode: "LOCKDOWN", cause: { kind: "crash", why: "" }, epoch: 1, frozen: "" } as const;
    const again = await host({ clock: on.clock, before: on.log.fold(), start });
    expect(again.approvals.redeem(AGENT, REQUEST)).toBeNull();
    expect(await list(again)).toEqual([]);
  });

  test("a flood of questions: few are asked, and whoever waits is bounded too", async () => {
    const on = await host();
    for (let n = 0; n < 10_000; n++) on.approvals.ask({ ...AGENT, uid: n % 100 }, other(`t${n}`));
    expect(await list(on)).toHaveLength(12);
    await settled();
    expect(approvalsOf(on)).toHaveLength(12);
    await on.checkInvariants();
  });

  test("what asks is not taken at its word for a terminal", async () => {
    const on = await host();
    askedBy(on, other('\u001b[2Jcurl\nto    tool "ls"\u202e'));
    const [one] = await list(on);
    expect(one?.what.split("\n")).toHaveLength(3);
    expect(one?.what).not.toMatch(/[\p{Cf}]|\[2J(?<!u001b\[2J)/u);
  });
});
