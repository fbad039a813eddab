import { beforeAll, describe, expect, test } from "vitest";
import { VERB_ACTIONS } from "../../daemon/core/access.ts";
import { BoundaryError } from "../../daemon/core/errors.ts";
import { isStricter, MODES, type Mode } from "../../daemon/core/mode.ts";
import { ROLES } from "../../daemon/core/roles.ts";
import type { DecideParts } from "../../daemon/decide.ts";
import { answerRequest, type PolicyAnswer, refusal } from "../../daemon/policy/answer.ts";
import type { PolicySet } from "../../daemon/policy/policy-set.ts";
import type { Registry } from "../../daemon/policy/registry.ts";
import type { LeaseReply, NewToken } from "../../daemon/protocol/grants.ts";
import type { Office } from "../../daemon/requests.ts";
import { PERMIT } from "../support/decisions-of.ts";
import { settled, startHost, trip } from "../support/host.ts";
import { codeOf, dataOf, officeOf, READY, ROLES_CONFIG, UIDS } from "../support/office.ts";
import { loadGood, registry, shippedFiles } from "../support/policies.ts";

/**
 * Policy as a further ceiling over verbs: with the shipped set nothing is other than by role and scope alone, and what
 * tightens or repairs asks nobody.
 */

let shipped: { readonly set: PolicySet; readonly registry: Registry };
beforeAll(async () => {
  const { set } = await loadGood(shippedFiles());
  shipped = { set, registry: registry(set.shapes) };
});

const FORBID: PolicyAnswer = {
  ...PERMIT,
  decision: "deny",
  code: "policy-denied",
  reasons: ["site.never"],
  advice: "ask the site",
};
const NONE = refusal(new BoundaryError("policy-unavailable", ""));

type Answer = DecideParts["policies"]["answer"];
const policiesOf = (answer: Answer, ready: Promise<void> = Promise.resolve()): DecideParts["policies"] => ({
  answer,
  digest: () => "d",
  withKnown: (request) => request,
  settled: () => ready,
});
const byShipped: Answer = (...asked) => answerRequest(shipped.set, shipped.registry, ...asked).answer;

const NO_LIMIT = { requests: 0 };
const CONFIG = {
  roles: ROLES_CONFIG,
  limits: { token: NO_LIMIT, uid: NO_LIMIT, overall: NO_LIMIT, loosening: NO_LIMIT },
  leases: [
    { name: "deploy", maxMode: "COLDROOM" },
    { name: "look", needs: "policy", maxMode: "COLDROOM" },
  ],
};
const VALUE = Buffer.from("v".repeat(32)).toString("base64");
const PEER = {
  localAddress: "192.0.2.1",
  remoteAddress: "192.0.2.2",
  localId: "a.example",
  remoteId: "b.example",
  localSubnets: ["10.0.0.0/24"],
  remoteSubnets: ["10.1.0.0/24"],
};
const STICK = { id: "0781:5581", port: "1-2", hash: "h", storage: true };

/** What these verbs come to has its own tests; here it is whether they are come to at all. */
const DONE: Partial<Office> = {
  usb: { show: () => STICK, say: async () => ({}), challenge: () => ({}) } as never,
  vault: Object.fromEntries(
    ["put", "revoke", "unlock", "lock", "rewrap", "addPeer", "exportPeers"].map((name) => [name, () => ({})]),
  ) as never,
  isolation: {
    control: {
      apply: () => ({ changed: false, durable: Promise.resolve() }),
      status: () => ({ domains: [] }),
      validate: () => ({}),
    } as never,
    probes: [],
  },
  status: () => ({}) as never,
  prune: async () => ({}) as never,
};

type Row = { readonly verb: string; readonly params: object; readonly token?: boolean };

/** A host with something to approve, to revoke and to end, in a mode that it came into by tightening. */
async function started(answer: Answer, mode: Mode, terminal: string | null = "pts/0") {
  const now: { answer: Answer; loads: number } = { answer: () => PERMIT, loads: 0 };
  const host = await startHost({
    mode: "OPEN",
    config: CONFIG,
    policies: policiesOf((...asked) => now.answer(...asked)),
  });
  const load = async () => {
    now.loads++;
    return { digest: "", entities: "", policies: 0, changed: false };
  };
  const policies = { load, settled: () => Promise.resolve(), state: () => READY };
  const office = officeOf(host, { terminal, over: { ...DONE, policies } });
  const first = dataOf<NewToken>(await office.ask(0, "token.bootstrap")).text;
  const texts = new Map<string, string>();
  for (const kind of ["User", "Agent"])
    for (const role of ROLES) {
      const wish = { principal: `${kind}::t-${role}`, role, maxMode: "LOCKDOWN" };
      texts.set(`${kind} ${role}`, dataOf<NewToken>(await office.ask(0, "token.mint", wish, first)).text);
    }
  const old = dataOf<NewToken>(await office.ask(0, "token.narrow", {}, first)).token.id;
  const wish = { template: "deploy", reason: "x" };
  const waits = dataOf<LeaseReply>(await office.ask(0, "lease.request", wish, first)).lease.id;
  const asker = { uid: 4_242, tokenId: "", tree: "", principal: "Agent::a" };
  const asked = host.approvals.ask(asker, {
    subject: { type: "Agent", id: "a", properties: {} },
    action: { name: "recall", properties: {} },
    resource: { type: "memory", id: "n", properties: {} },
    context: {},
  });
  await host.set(mode);
  await settled();
  now.answer = answer;
  const approval = asked.ok ? asked.id : "";
  return { host, now, ...office, texts, first, waits, approval, old };
}
type Started = Awaited<ReturnType<typeof started>>;

/** Every verb that policy is asked before, in an order in which the one before it is in nobody's way. */
function governed({ waits, approval }: Started, mode: Mode): readonly Row[] {
  return [
    { verb: "usb.allow", params: { device: "1-2" } },
    { verb: "usb.challenge", params: { device: "1-2" } },
    { verb: "secret.put", params: { name: "db", value: VALUE } },
    { verb: "secret.rotate", params: { name: "db", value: VALUE } },
    { verb: "vault.unlock", params: {} },
    { verb: "vault.rewrap", params: {} },
    { verb: "peer.add", params: { name: "hq", value: VALUE, peer: PEER } },
    { verb: "peer.export", params: {} },
    { verb: "token.mint", params: { principal: "Agent::new" }, token: true },
    { verb: "token.narrow", params: {}, token: true },
    { verb: "lease.request", params: { template: "look", reason: "x" } },
    { verb: "lease.approve", params: { id: waits } },
    { verb: "approvals.approve", params: { id: approval } },
    ...MODES.filter((each) => !isStricter(each, mode))
      .toReversed()
      .map((each) => ({ verb: "mode.set", params: { mode: each, reason: "x", confirmForMs: 60_000 } })),
    { verb: "mode.confirm", params: {} },
  ];
}

const CALLERS: readonly (readonly [string, number, string | null])[] = [
  ...ROLES.map((role) => [`a user, ${role}`, UIDS[role], null] as const),
  ...ROLES.map((role) => [`a user's token, ${role}`, UIDS.none, `User ${role}`] as const),
  ...ROLES.map((role) => [`an agent's token, ${role}`, UIDS.none, `Agent ${role}`] as const),
];

describe("with the shipped policies", () => {
  test.each(MODES)(
    "%s: every verb says what it says by role and scope alone",
    { timeout: 60_000 },
    async (mode) => {
      let compared = 0;
      let done = 0;
      for (const [who, uid, kind] of CALLERS) {
        const alone = await started(() => PERMIT, mode);
        const under = await started(byShipped, mode);
        const rows = governed(alone, mode);
        const others = governed(under, mode);
        for (const [at, { verb, params }] of rows.entries()) {
          const codes = [];
          for (const [on, said] of [
            [alone, params],
            [under, others[at]?.params ?? {}],
          ] as const)
            codes.push(codeOf(await on.ask(uid, verb, said, kind === null ? undefined : on.texts.get(kind))));
          expect([who, verb, codes[1]]).toEqual([who, verb, codes[0]]);
          compared++;
          if (codes[0] === "") done++;
        }
        await under.host.checkInvariants();
      }
      expect(compared).toBe(CALLERS.length * governed(await started(() => PERMIT, mode), mode).length);
      expect(done).toBeGreaterThan(mode === "LOCKDOWN" ? 20 : 40);
    },
  );

  test("an agent gets no lease by policy alone that stands for a person's word", () => {
    const asked = (template: string) =>
      byShipped(
        {
          subject: { type: "Agent", id: "a", properties: {} },
          action: { name: "lease.grant", properties: {} },
          resource: { type: "lease", id: template, properties: { forMs: 1_000, holder: "Agent::a" } },
          context: {},
        },
        { type: "Agent", id: "a", roles: ["admin"] },
        {
          wanted: "OPEN",
          applied: "OPEN",
          assurance: "enforced",
          frozen: false,
          trustedInterfaces: [],
          wallMs: 0,
          leases: [],
          approved: true,
          token: true,
        },
      ).decision;
    const lifting = [...shipped.set.notes.values()].flatMap(({ text }) =>
      [...text.matchAll(/leases\.contains\("([^"]+)"\)/g)].map(([, name = ""]) => name),
    );
    expect(new Set(lifting).size).toBeGreaterThan(6);
    for (const name of lifting) expect([name, asked(name)]).toEqual([name, "deny"]);
    expect(asked("look")).toBe("allow");
  });
});

const OPERATOR = UIDS.operator;
const holderOf = ({ first }: Started, { token }: Row) =>
  token ? ([0, first] as const) : ([OPERATOR] as const);
const asks = (on: Started, row: Row) => {
  const [uid, text] = holderOf(on, row);
  return on.ask(uid, row.verb, row.params, text);
};

describe.each([
  ["that forbid everything", FORBID, "policy-denied"],
  ["that are not there", NONE, "policy-unavailable"],
])("policies %s", (_, answer, code) => {
  test("deny each verb that loosens or hands out, whoever asks, and nothing of it is done", async () => {
    const on = await started(() => answer, "TRUSTED");
    const kinds = on.host.kinds().length;
    for (const row of governed(on, "TRUSTED")) {
      if (row.verb === "mode.confirm") continue; // nothing waits: it confirms nothing
      const reply = await asks(on, row);
      expect([row.verb, codeOf(reply)]).toEqual([row.verb, code]);
    }
    await settled();
    const told = on.host.records.filter(({ kind }) => kind !== "seal").slice(kinds);
    expect(new Set(told.map(({ kind }) => kind))).toEqual(new Set(["decision"]));
    for (const { data } of told)
      expect(data).toMatchObject({ decision: "deny", code, policy: { answer: "deny" } });
    expect(on.host.daemon.state().wanted).toBe("TRUSTED");
    await on.host.checkInvariants();
  });

  test("hinder nothing that tightens", async () => {
    const on = await started(() => answer, "OPEN");
    const rows: readonly Row[] = [
      { verb: "usb.block", params: { device: "1-2" } },
      { verb: "usb.reject", params: { device: "1-2" } },
      { verb: "secret.revoke", params: { name: "db" } },
      { verb: "vault.lock", params: {} },
      { verb: "isolation.apply", params: {} },
      { verb: "enforcement.enforce", params: { reason: "x" } },
      { verb: "approvals.deny", params: { id: on.approval } },
      { verb: "lease.deny", params: { id: on.waits } },
      { verb: "token.revoke", params: { id: on.old } },
      { verb: "mode.set", params: { mode: "OPEN", reason: "calls off what was set for later" } },
      { verb: "mode.set", params: { mode: "RESTRICTED", reason: "x", confirmForMs: 60_000 } },
      { verb: "mode.confirm", params: {} },
      { verb: "mode.set", params: { mode: "AIRGAP", reason: "x", forMs: 60_000 } },
      { verb: "mode.set", params: { mode: "LOCKDOWN", reason: "x" } },
    ];
    for (const row of rows) expect([row.verb, codeOf(await asks(on, row))]).toEqual([row.verb, ""]);
    expect(on.host.daemon.state().wanted).toBe("LOCKDOWN");
    await on.host.checkInvariants();
  });

  test("hinder nothing that repairs: the way out of LOCKDOWN, the clock, the disk, the policies themselves", async () => {
    const on = await started(() => answer, "LOCKDOWN");
    const admin = async (verb: string, params: object = {}) => {
      const reply = await on.ask(UIDS.admin, verb, params);
      expect([verb, codeOf(reply)]).toEqual([verb, ""]);
      return reply;
    };
    await admin("status");
    await admin("policy.reload");
    await admin("log.prune");
    on.host.signal("clock.moved", { change: "step", milliseconds: "9000" });
    await settled();
    await admin("clock.clear", { reason: "x" });
    await admin("ceremony.begin", { reason: "x" });
    await admin("ceremony.cancel");
    const { code: word } = dataOf<{ code: string }>(await admin("ceremony.begin", { reason: "x" }));
    on.host.clock.pass(60_000);
    await admin("ceremony.confirm", { code: word, acceptChanges: true });
    expect(on.host.daemon.state().wanted).toBe("RESTRICTED");
    expect(on.now.loads).toBe(1);
    // and once they are repaired
    on.now.answer = byShipped;
    expect(codeOf(await on.ask(OPERATOR, "mode.set", { mode: "OPEN", reason: "x" }))).toBe("");
    await on.host.checkInvariants();
  });

  test("take no use of a token, and are told with what they permit", async () => {
    const on = await started(() => PERMIT, "OPEN");
    const wish = { principal: "User::once", role: "operator", uses: 1 };
    const { text, token } = dataOf<NewToken>(await on.ask(0, "token.mint", wish, on.first));
    on.now.answer = () => answer;
    const reply = await on.ask(UIDS.none, "vault.unlock", {}, text);
    expect(reply).toMatchObject({
      ok: false,
      problem: { code, detail: expect.stringContaining("vault.unlock") },
    });
    if (answer === FORBID)
      expect(reply).toMatchObject({
        problem: { detail: expect.stringMatching(/in OPEN: site\.never; it permits: ask the site$/) },
      });
    on.now.answer = () => PERMIT;
    expect(codeOf(await on.ask(UIDS.none, "vault.unlock", {}, text))).toBe("");
    expect(codeOf(await on.ask(UIDS.none, "vault.unlock", {}, text))).toBe("token-spent");
    expect(on.host.grants.tokens.show(token.id).state).toBe("spent");
  });
});

describe("what policy is asked before a verb", () => {
  test("is every action that the daemon has, each with what the verb is about", async () => {
    const seen = new Map<string, object>();
    const on = await started((request, principal, now) => {
      seen.set(request.action.name, { ...request.resource, who: principal, ...now });
      return byShipped(request, principal, now);
    }, "TRUSTED");
    for (const row of governed(on, "TRUSTED")) await asks(on, row);
    expect([...seen.keys()].toSorted()).toEqual(Object.keys(VERB_ACTIONS).toSorted());
    expect(seen.get("usb.allow")).toMatchObject({
      type: "usb",
      id: "0781:5581",
      properties: { port: "1-2", hash: "h", storage: true, permanent: false },
      who: { type: "User", id: String(OPERATOR), roles: ["operator"] },
      wanted: "TRUSTED",
      leases: [],
      approved: false,
      token: false,
    });
    expect(seen.get("token.mint")).toMatchObject({
      id: "Agent::new",
      properties: { role: "none" },
      token: true,
    });
    expect(seen.get("token.narrow")).toMatchObject({
      id: "User::0",
      properties: { role: "admin", forMs: 3_600_000 },
    });
    expect(seen.get("lease.approve")).toMatchObject({ id: "deploy", properties: { holder: "User::0" } });
    expect(seen.get("approval.approve")).toMatchObject({ properties: { holder: "Agent::a" } });
    expect(seen.get("secret.put")).toMatchObject({
      id: "default",
      properties: { workspace: "default", item: "db" },
    });
    expect(JSON.stringify([...seen])).not.toContain(VALUE);
  });

  test("is not asked of whom role, scope or limits refuse", async () => {
    const on = await started(() => {
      throw new Error("asked");
    }, "TRUSTED");
    for (const row of governed(on, "TRUSTED")) {
      if (row.verb === "lease.request" || row.verb === "token.narrow") continue; // anybody's
      expect(["role-required", "token-needed"]).toContain(
        codeOf(await on.ask(UIDS.readonly, row.verb, row.params)),
      );
    }
  });

  test("is a fault of ours: then nothing is done", async () => {
    const on = await started(() => {
      throw new Error("a fault");
    }, "TRUSTED");
    const codes = new Set<string>();
    for (const row of governed(on, "TRUSTED"))
      if (row.verb !== "mode.confirm") codes.add(codeOf(await asks(on, row)));
    expect([...codes]).toEqual(["internal"]);
  });

  test("stands in the log before what was done, and can be asked again of other policies", async () => {
    const on = await started(byShipped, "TRUSTED");
    const before = on.host.kinds().length;
    await on.ask(OPERATOR, "mode.set", { mode: "OPEN", reason: "x" });
    await settled();
    expect(on.host.kinds().slice(before, before + 2)).toEqual(["decision", "mode.changed"]);
    expect(on.host.last("decision")?.data).toMatchObject({
      verb: "mode.set",
      action: "mode.loosen",
      resource: { type: "mode", id: "OPEN" },
      decision: "allow",
      reason: ["verbs.operator"],
      mode: "TRUSTED",
      policy: { type: "User", id: String(OPERATOR), roles: ["operator"], by: ["verbs.operator"] },
    });
  });

  test("is not permitted where that cannot be recorded", async () => {
    const on = await started(byShipped, "TRUSTED");
    on.host.store.behaviour = "fails";
    expect(codeOf(await on.ask(OPERATOR, "usb.allow", { device: "1-2" }))).toMatch(/^(?:log-unavailable)?$/);
    await settled();
    expect(codeOf(await on.ask(OPERATOR, "usb.allow", { device: "1-2" }))).toBe("log-unavailable");
  });
});

describe("while the first policies are read, a loosening waits, and a tightening does not", () => {
  async function loading(mode: Mode = "TRUSTED") {
    const { promise, resolve } = Promise.withResolvers<void>();
    const now = { loading: true };
    const host = await startHost({
      mode,
      config: CONFIG,
      policies: policiesOf(() => PERMIT, promise),
      tripwires: [trip("link", "network.link", { action: { kind: "trip", to: "AIRGAP" } })],
    });
    const policies = {
      load: () => Promise.reject(new Error("not asked")),
      settled: () => promise,
      state: () => (now.loading ? { ...READY, state: "loading" as const } : READY),
    };
    const office = officeOf(host, { terminal: "pts/0", over: { ...DONE, policies } });
    const ready = () => {
      now.loading = false;
      resolve();
    };
    const set = (to: Mode) => office.ask(OPERATOR, "mode.set", { mode: to, reason: "x" });
    return { host, ...office, ready, set };
  }

  test("it is judged on what is then", async () => {
    const { host, set, ready } = await loading();
    const loosening = set("RESTRICTED");
    await settled();
    expect(host.kinds()).not.toContain("decision");
    ready();
    expect(codeOf(await loosening)).toBe("");
    expect(host.daemon.state().wanted).toBe("RESTRICTED");
  });

  test.each<Mode>(["AIRGAP", "LOCKDOWN"])("it lapses when somebody sets %s meanwhile", async (to) => {
    const { host, set, ready } = await loading();
    const loosening = set("OPEN");
    expect(codeOf(await set(to))).toBe("");
    ready();
    expect(codeOf(await loosening)).toBe("loosening-lapsed");
    expect(host.daemon.state().wanted).toBe(to);
    expect(host.kinds()).not.toContain("decision");
    await host.checkInvariants();
  });

  test("it lapses by a trip, also one that asks for no more than there is", async () => {
    const { host, set, ready } = await loading("AIRGAP");
    const loosening = set("OPEN");
    const { epoch } = host.daemon.state();
    host.signal("network.link", { interface: "eth0", change: "up" });
    await settled();
    expect(host.daemon.state()).toMatchObject({ wanted: "AIRGAP", epoch: epoch + 1 });
    ready();
    expect(codeOf(await loosening)).toBe("loosening-lapsed");
    expect(host.daemon.state().wanted).toBe("AIRGAP");
  });

  test.each([
    ["vault.unlock", "vault.lock", {}, {}],
    ["usb.allow", "usb.block", { device: "1-2" }, { device: "1-2" }],
    ["mode.set", "mode.set", { mode: "OPEN", reason: "x" }, { mode: "TRUSTED", reason: "calls it off" }],
  ])("%s that waits is not done behind a later %s", async (waits, tightens, wish, said) => {
    const { over, connectionOf, ready, host } = await loading();
    const connection = connectionOf(OPERATOR);
    const loosening = over(connection, waits, wish);
    expect(codeOf(await over(connection, tightens, said))).toBe("");
    ready();
    expect(codeOf(await loosening)).toBe("loosening-lapsed");
    expect(host.daemon.state().wanted).toBe("TRUSTED");
  });

  test("who may not tighten lets nothing lapse", async () => {
    const { ask, set, ready } = await loading();
    const loosening = set("OPEN");
    expect(codeOf(await ask(UIDS.readonly, "vault.lock"))).toBe("role-required");
    ready();
    expect(codeOf(await loosening)).toBe("");
  });

  test("it lapses when who asked is gone", async () => {
    const { over, connectionOf, ready, host } = await loading();
    const closed: (() => void)[] = [];
    const connection = { ...connectionOf(OPERATOR), onClose: (then: () => void) => void closed.push(then) };
    const loosening = over(connection, "mode.set", { mode: "OPEN", reason: "x" });
    for (const then of closed) then();
    ready();
    expect(codeOf(await loosening)).toBe("loosening-lapsed");
    expect(host.daemon.state().wanted).toBe("TRUSTED");
  });

  test("nothing that tightens or repairs waits: each is done in the turn in which it comes, or on its way", async () => {
    const { over, connectionOf, host, ask } = await loading("OPEN");
    const first = dataOf<NewToken>(await ask(0, "token.bootstrap")).token.id;
    const connection = connectionOf(UIDS.admin);
    const rows: readonly Row[] = [
      { verb: "usb.block", params: { device: "1-2" } },
      { verb: "vault.lock", params: {} },
      { verb: "secret.revoke", params: { name: "db" } },
      { verb: "isolation.apply", params: {} },
      { verb: "enforcement.enforce", params: { reason: "x" } },
      { verb: "token.revoke", params: { id: first } },
      { verb: "mode.set", params: { mode: "AIRGAP", reason: "x", confirmForMs: 60_000 } },
      { verb: "mode.set", params: { mode: "LOCKDOWN", reason: "x" } },
      { verb: "ceremony.begin", params: { reason: "x" } },
    ];
    for (const { verb, params } of rows)
      expect([verb, codeOf(await over(connection, verb, params))]).toEqual([verb, ""]);
    expect(host.daemon.state().wanted).toBe("LOCKDOWN");
    expect(host.grants.tokens.show(first).state).toBe("revoked");
  });
});

test("once they are there, requests of one connection are done in the order in which they came", async () => {
  const host = await startHost({ mode: "TRUSTED", config: CONFIG });
  const { over, connectionOf } = officeOf(host);
  const connection = connectionOf(OPERATOR);
  const set = (mode: Mode) => over(connection, "mode.set", { mode, reason: "x" });
  const replies = [set("RESTRICTED"), set("AIRGAP")]; // both before any turn has passed
  expect(host.daemon.state().wanted).toBe("AIRGAP");
  expect(codeOf(await (replies[0] as Promise<never>))).toBe("loosening-lapsed");
  expect(codeOf(await (replies[1] as Promise<never>))).toBe("");
});
